"""What is put comes back as it was, or not at all."""

import itertools
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciclo.errors import Retry
from ciclo_bundle import BlobCorrupt, BlobMissing, UnsafePath, folder_digest
from ciclo_bundle.digest import FileDigest, listing_json, sha256
from ciclo_bundle.store import BlobFolders, BlobStore

part = st.from_regex(r"[a-z0-9_][a-z0-9_.\-]{0,5}", fullmatch=True)
folders = st.dictionaries(
    st.tuples(st.sampled_from(["top", "sub/a", "sub/b"]), part).map("/".join),
    st.binary(max_size=50),
    min_size=1,
    max_size=5,
)
numbers = itertools.count()


def lay_out(folder: Path, content: dict[str, bytes]) -> Path:
    for name, value in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(value)
    return folder


def objects(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


@settings(max_examples=40, deadline=None)
@given(content=folders, scheme=st.sampled_from(["file", "memory"]))
def test_a_folder_comes_back_as_it_was_put(content: dict[str, bytes], scheme: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        source = lay_out(place / "source", content)
        root = f"memory://{next(numbers)}" if scheme == "memory" else str(place / "store")
        store = BlobStore(root)

        digest = store.put_folder(source)
        fetched = store.fetch(digest, place / "deep" / "copy")

        assert digest == folder_digest(source) == folder_digest(fetched)
        assert {p: (fetched / p).read_bytes() for p in content} == content


def test_equal_files_are_stored_once_and_putting_again_writes_nothing(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "store"))
    one = lay_out(tmp_path / "one", {"a": b"same", "b": b"same", "c": b"other"})
    digest = store.put_folder(one)
    before = {path: path.stat().st_mtime_ns for path in objects(tmp_path / "store")}

    again = store.put_folder(one)

    assert again == digest
    assert len(before) == 3
    assert {path: path.stat().st_mtime_ns for path in objects(tmp_path / "store")} == before


def test_an_object_s_bytes_are_on_the_disk_before_its_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BlobStore(str(tmp_path / "store"))
    source = lay_out(tmp_path / "source", {"a": b"content"})
    flushed = []

    def note(opened: int) -> None:
        path = Path(f"/proc/self/fd/{opened}").readlink()
        named = [one for one in objects(tmp_path / "store") if one.suffix != ".partial"]
        flushed.append(("object" if path.is_file() else "folder", len(named)))

    monkeypatch.setattr(os, "fsync", note)
    store.put_folder(source)

    file = [("object", 0), ("folder", 1), ("folder", 1)]
    listing = [("object", 1), ("folder", 2), ("folder", 2)]
    assert flushed == file + listing


def test_a_folder_exists_only_when_all_of_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BlobStore(str(tmp_path / "store"))
    source = lay_out(tmp_path / "source", {"a": b"1", "b": b"2"})
    digest = folder_digest(source)
    write, calls = BlobStore._write, itertools.count(1)

    def die_at_second(self: BlobStore, name: str, content: bytes | Path) -> None:
        if next(calls) == 2:
            raise OSError("disk full")
        write(self, name, content)

    monkeypatch.setattr(BlobStore, "_write", die_at_second)
    with pytest.raises(OSError, match="disk full"):
        store.put_folder(source)
    was_there = store.exists(digest)
    monkeypatch.undo()

    assert not was_there
    assert store.put_folder(source) == digest
    assert store.exists(digest)


def test_a_changed_object_is_never_handed_out(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "store"))
    digest = store.put_folder(lay_out(tmp_path / "source", {"a": b"1", "b": b"2"}))

    for path in objects(tmp_path / "store"):
        good = path.read_bytes()
        path.write_bytes(good + b"!")
        with pytest.raises(BlobCorrupt):
            store.fetch(digest, tmp_path / "copy")
        path.write_bytes(good)

        assert not (tmp_path / "copy").exists()
    assert list(tmp_path.glob("*.partial")) == []


def test_a_lost_object_is_told_from_a_changed_one(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "store"))
    digest = store.put_folder(lay_out(tmp_path / "source", {"a": b"1"}))

    for path in objects(tmp_path / "store"):
        shutil.move(path, tmp_path / "aside")
        with pytest.raises(BlobMissing):
            store.fetch(digest, tmp_path / "copy")
        shutil.move(tmp_path / "aside", path)

        assert not (tmp_path / "copy").exists()


def test_fetching_again_is_harmless_and_over_something_else_is_refused(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "store"))
    digest = store.put_folder(lay_out(tmp_path / "source", {"a": b"1"}))
    copy = store.fetch(digest, tmp_path / "copy")

    assert store.fetch(digest, copy) == copy
    (copy / "a").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        store.fetch(digest, copy)
    assert (copy / "a").read_bytes() == b"mine"


@pytest.mark.parametrize("path", ["../../outside", "/outside", "a/../../outside"])
def test_a_listing_that_leads_out_of_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    store = BlobStore(str(tmp_path / "store"))
    content = store.put_bytes(b"payload")
    digest = store.put_bytes(listing_json([FileDigest(path, content, 7)]))

    with pytest.raises(BlobCorrupt):
        store.fetch(digest, tmp_path / "in" / "copy")

    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize(
    "digest", ["../x", "sha256:../../x", "sha256:" + "A" * 64, "", "sha256:ab"]
)
def test_what_is_not_written_as_a_digest_is_refused(tmp_path: Path, digest: str) -> None:
    store = BlobStore(str(tmp_path / "store"))

    for call in (store.exists, store.read_bytes):
        with pytest.raises(UnsafePath):
            call(digest)


def test_a_kept_folder_that_was_damaged_is_fetched_again(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "store"))
    digest = store.put_folder(lay_out(tmp_path / "source", {"a": b"1"}))
    folders = BlobFolders(store, tmp_path / "cache")
    kept = folders.get(digest)
    (kept / "a").write_bytes(b"2")

    assert folders.get(digest) == kept
    assert (kept / "a").read_bytes() == b"1"


def test_a_folder_that_is_not_stored_yet_is_asked_for_again_later(tmp_path: Path) -> None:
    folders = BlobFolders(BlobStore(str(tmp_path / "store")), tmp_path / "cache")

    with pytest.raises(Retry, match="sha256:00"):
        folders.get("sha256:" + "00" * 32)


def test_a_folder_with_a_link_is_not_put(tmp_path: Path) -> None:
    source = lay_out(tmp_path / "source", {"a": b"1"})
    (source / "link").symlink_to("/etc/hostname")

    with pytest.raises(UnsafePath):
        BlobStore(str(tmp_path / "store")).put_folder(source)


@given(st.binary(max_size=200))
def test_bytes_come_back_under_their_digest(content: bytes) -> None:
    store = BlobStore("memory://bytes")

    digest = store.put_bytes(content)

    assert digest == sha256(content)
    assert store.read_bytes(digest) == content
