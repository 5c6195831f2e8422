"""What is believed of a blob store's folders, and what is not."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.integration.registry.process import DAY_0, NAME, SIGNATURE, put_bundle
from tests.unit.registry.examples import FILES

from ciclo.errors import NotFound, Reject
from ciclo.loop import read_loop
from ciclo_bundle.digest import sha256
from ciclo_bundle.store import BlobStore
from ciclo_registry.adapters.blobs import BlobExaminer, BundleUnfit


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(f"file://{tmp_path}/blobs")


@pytest.fixture
def examiner(store: BlobStore, tmp_path: Path) -> BlobExaminer:
    return BlobExaminer(store, tmp_path / "scratch")


async def test_a_bundle_tells_its_evidence(
    store: BlobStore, examiner: BlobExaminer, tmp_path: Path
) -> None:
    found = await examiner.examine(put_bundle(store, tmp_path, 1, compared=True))
    assert (found.model, found.signature_digest) == (NAME, SIGNATURE.digest)
    assert found.as_of_time == DAY_0
    assert found.evidence.difference["log_loss"].high == -0.001
    assert found.evidence.metrics["calibration_error"].low is None
    assert found.evidence.latency_p95_seconds == {"version": 30e-6, "champion": 30e-6}
    assert [(part.value, part.rows) for part in found.evidence.slices] == [("EWR", 900)]


async def test_nothing_is_left_of_what_was_examined(
    store: BlobStore, examiner: BlobExaminer, tmp_path: Path
) -> None:
    await examiner.examine(put_bundle(store, tmp_path, 1, compared=True))
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_a_bundle_of_which_a_byte_changed_is_refused(
    store: BlobStore, examiner: BlobExaminer, tmp_path: Path
) -> None:
    digest = put_bundle(store, tmp_path, 1, compared=True)
    name = sha256(b"nothing that the registry opens").removeprefix("sha256:")
    (tmp_path / "blobs" / name[:2] / name).write_bytes(b"something else")
    with pytest.raises(BundleUnfit):
        await examiner.examine(digest)


async def test_a_folder_that_is_no_bundle_is_refused(
    store: BlobStore, examiner: BlobExaminer, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme.txt").write_text("hello")
    with pytest.raises(BundleUnfit):
        await examiner.examine(store.put_folder(tmp_path / "other"))


@pytest.mark.parametrize(
    "evidence",
    [
        {"slices": [{"origin": "EWR"}]},
        {"slices": {"origin": ["EWR"]}},
        {"slices": {"origin": {"EWR": {"rows": "many"}}}},
        {"model": ["log_loss"]},
        {"model": {"log_loss": {"value": "0.4"}}},
        {"model": {"log_loss": {"value": float("nan")}}},
        {"model": {"log_loss": {"value": 10**400}}},
        {"difference": {"log_loss": 0.1}},
        {"confidence": None},
        {"confidence": True},
    ],
)
async def test_evidence_of_another_shape_is_refused_with_what_was_expected(
    store: BlobStore, examiner: BlobExaminer, tmp_path: Path, evidence: dict[str, Any]
) -> None:
    digest = put_bundle(store, tmp_path, 1, compared=True, **evidence)
    with pytest.raises(BundleUnfit, match=r"where a ciclo\.metrics/v1 document .* was expected"):
        await examiner.examine(digest)


async def test_a_bundle_that_is_not_there_is_not_found(examiner: BlobExaminer) -> None:
    with pytest.raises(NotFound):
        await examiner.examine("sha256:" + "0" * 64)
    with pytest.raises(Reject):
        await examiner.examine("no digest")


async def test_a_loop_is_stored_as_a_folder(
    store: BlobStore, examiner: BlobExaminer, tmp_path: Path
) -> None:
    digest = await examiner.store_loop(FILES)
    assert await examiner.store_loop(FILES) == digest
    assert read_loop(store.fetch(digest, tmp_path / "loop")).model == NAME


@pytest.mark.parametrize("path", ["../outside.py", "/etc/outside.py", "a/../../outside.py"])
async def test_a_loop_s_file_cannot_leave_its_folder(
    examiner: BlobExaminer, tmp_path: Path, path: str
) -> None:
    with pytest.raises(Reject):
        await examiner.store_loop({**FILES, path: b"x"})
    assert await asyncio.to_thread(lambda: list(tmp_path.rglob("outside.py"))) == []
