"""A bundle is what its manifest says, to the byte."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ciclo_bundle import (
    Bundle,
    BundleCorrupt,
    bundle_digest,
    read_bundle,
    require_file,
    verify_bundle,
    write_bundle,
)
from ciclo_bundle.bundle import REQUIRED
from ciclo_bundle.digest import canonical_json

from .conftest import fill_draft, manifest_of


def test_a_sealed_bundle_verifies_and_its_digest_is_that_of_the_manifest(bundle: Bundle) -> None:
    verified = verify_bundle(bundle.path)

    assert verified == bundle
    assert verified.digest == bundle_digest(bundle.path)
    assert {file.path for file in verified.manifest.files} == set(REQUIRED)


def test_equal_content_gives_equal_digests_wherever_it_is_sealed(tmp_path: Path) -> None:
    for place in ("a", "b"):
        fill_draft(tmp_path / place / "draft")
        write_bundle(tmp_path / place / "draft", tmp_path / place / "bundle", manifest_of())

    assert bundle_digest(tmp_path / "a" / "bundle") == bundle_digest(tmp_path / "b" / "bundle")


@pytest.mark.parametrize("name", REQUIRED)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_in_any_file_is_found_and_named(
    bundle: Bundle, name: str, where: float, flip: int
) -> None:
    content = (bundle.path / name).read_bytes()
    at = int(where * len(content))
    changed = content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :]
    (bundle.path / name).write_bytes(changed)
    try:
        with pytest.raises(BundleCorrupt) as error:
            verify_bundle(bundle.path)
    finally:
        (bundle.path / name).write_bytes(content)

    assert error.value.file == name


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_in_the_manifest_is_refused_or_gives_another_release(
    bundle: Bundle, where: float, flip: int
) -> None:
    path = bundle.path / "manifest.json"
    content = path.read_bytes()
    at = int(where * len(content))
    path.write_bytes(content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :])
    try:
        digest = verify_bundle(bundle.path).digest
    except BundleCorrupt:
        digest = ""
    finally:
        path.write_bytes(content)

    assert digest != bundle.digest


@pytest.mark.parametrize("name", [*REQUIRED, "manifest.json"])
def test_a_missing_file_is_found_and_named(bundle: Bundle, name: str) -> None:
    (bundle.path / name).unlink()

    with pytest.raises(BundleCorrupt) as error:
        verify_bundle(bundle.path)

    assert error.value.file == name


def test_a_file_that_the_manifest_does_not_list_is_found(bundle: Bundle) -> None:
    (bundle.path / "evidence" / "notes.txt").write_text("unlisted")

    with pytest.raises(BundleCorrupt, match="not listed") as error:
        verify_bundle(bundle.path)

    assert error.value.file == "evidence/notes.txt"


def test_a_link_is_refused_even_if_it_leads_to_the_right_bytes(bundle: Bundle) -> None:
    elsewhere = bundle.path.parent / "elsewhere"
    shutil.move(bundle.path / "model.onnx", elsewhere)
    (bundle.path / "model.onnx").symlink_to(elsewhere)

    with pytest.raises(BundleCorrupt, match="link") as error:
        verify_bundle(bundle.path)

    assert error.value.file == "model.onnx"


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a//b", "./a", "a/../b", "a\\b", ""])
def test_a_manifest_whose_paths_leave_the_bundle_is_refused(bundle: Bundle, path: str) -> None:
    document = json.loads((bundle.path / "manifest.json").read_text())
    document["files"].append({**document["files"][0], "path": path})
    document["files"].sort(key=lambda file: file["path"])
    (bundle.path / "manifest.json").write_bytes(canonical_json(document))

    with pytest.raises(BundleCorrupt, match="expected a relative path") as error:
        read_bundle(bundle.path)

    assert error.value.file == "manifest.json"


@pytest.mark.parametrize("name", REQUIRED)
def test_a_draft_that_lacks_a_required_file_is_not_sealed(tmp_path: Path, name: str) -> None:
    fill_draft(tmp_path / "draft")
    (tmp_path / "draft" / name).unlink()

    with pytest.raises(BundleCorrupt) as error:
        write_bundle(tmp_path / "draft", tmp_path / "bundle", manifest_of())

    assert error.value.file == name
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_is_never_sealed_over_another(bundle: Bundle, tmp_path: Path) -> None:
    fill_draft(tmp_path / "draft")

    with pytest.raises(FileExistsError):
        write_bundle(tmp_path / "draft", bundle.path, manifest_of())

    assert verify_bundle(bundle.path).digest == bundle.digest


def test_one_file_can_be_asked_for_and_is_checked(bundle: Bundle) -> None:
    assert require_file(bundle, "calibration.json").read_text() == "{}"

    (bundle.path / "calibration.json").write_text("[]")

    with pytest.raises(BundleCorrupt):
        require_file(bundle, "calibration.json")
    with pytest.raises(BundleCorrupt):
        require_file(bundle, "../bundle/calibration.json")
