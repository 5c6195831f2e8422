"""From snapshot to bundle: complete, honest about what it saw, and the same after a kill."""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.support.eventually import eventually

from ciclo_bundle import BundleCorrupt, Field, read_bundle, verify_bundle
from ciclo_bundle.runtime import Scorer
from ciclo_drift import StreamSet, unpack
from ciclo_trainer.training import BadRequest, DatasetUnfit, Request, Result, encode_request
from ciclo_trainer.training.__main__ import main
from ciclo_trainer.training.progress import PROGRESS, newest_progress
from ciclo_trainer.training.request import DAY_US
from ciclo_trainer.training.run import train

from .conftest import FIRST_DAY_US, RECIPE, ignore, make_table

Requests = Callable[..., Request]


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def test_a_run_leaves_a_bundle_that_verifies_and_names_its_origin(trained: Result) -> None:
    bundle = verify_bundle(trained.bundle)

    assert bundle.digest == trained.bundle_digest
    assert bundle.manifest.seed == 7
    assert bundle.manifest.newest_event_time_us < FIRST_DAY_US + 18 * DAY_US
    assert bundle.manifest.created_event_time_us >= FIRST_DAY_US + 23 * DAY_US
    assert [field.name for field in bundle.signature.inputs][:2] == ["flight", "origin"]


def test_the_held_out_days_are_judged_as_a_whole_by_slice_and_by_day(trained: Result) -> None:
    metrics = read_json(trained.bundle / "evidence" / "metrics.json")
    blocks = read_json(trained.bundle / "reference" / "blocks.json")["blocks"]

    assert metrics == trained.metrics
    assert metrics["holdout"]["blocks"] == len(blocks) == 6
    assert sum(block["rows"] for block in blocks) == metrics["holdout"]["rows"]
    assert [b["start_us"] for b in blocks] == sorted(b["start_us"] for b in blocks)
    loss = sum(b["loss_sum"] for b in blocks) / metrics["holdout"]["rows"]
    assert loss == pytest.approx(metrics["model"]["log_loss"]["value"], rel=1e-9)
    assert all(0 < b["entropy_sum"] < b["rows"] * np.log(2) for b in blocks)
    assert metrics["model"]["auc"]["low"] > 0.6
    assert (
        sum(s["rows"] for s in metrics["slices"]["origin"].values()) == metrics["holdout"]["rows"]
    )


def test_every_input_that_can_drift_and_the_score_have_a_reference(trained: Result) -> None:
    packed = (trained.bundle / "reference" / "streams.bin").read_bytes()

    streams = StreamSet.restore(unpack(packed))

    assert set(streams.names) == {"dest", "seats", "temp", "wind", "score"}
    kinds = {reference.name: reference.kind for reference in streams.references}
    assert (kinds["temp"], kinds["dest"]) == ("numeric", "categorical")
    assert {reference.rows for reference in streams.references} == {2400}


def test_the_parity_vector_holds_known_categories_and_the_bundle_answers_it(
    trained: Result,
) -> None:
    vector = np.load(trained.bundle / "evidence" / "parity.npz", allow_pickle=False)
    columns = {name[3:]: vector[name] for name in vector.files if name.startswith("in.")}

    answers = Scorer(trained.bundle).score(columns)["late"]
    garbled = Scorer(trained.bundle).score({**columns, "origin": np.full(64, "b'JFK'")})["late"]

    assert {"EWR", "JFK", "LGA", ""} <= set(columns["origin"])
    assert np.isnan(columns["temp"]).any()
    np.testing.assert_array_equal(answers, vector["out.late"])
    assert np.abs(answers - garbled).max() > 0.01


def test_nothing_of_the_held_out_days_reaches_the_weights(
    request_of: Requests, trained: Result
) -> None:
    table = make_table()
    is_late = np.asarray(table["event_time_us"]) >= FIRST_DAY_US + 18 * DAY_US
    temp = np.where(is_late, 1e6, np.asarray(table["temp"])).astype(np.float32)
    dest = np.where(is_late, "NEW", np.asarray(table["dest"]))
    table = table.set_column(table.column_names.index("temp"), "temp", pa.array(temp))
    table = table.set_column(table.column_names.index("dest"), "dest", pa.array(dest))

    other = train(request_of(table=table), ignore)

    assert other.weights_digest == trained.weights_digest
    assert other.metrics != trained.metrics
    assert "NEW" not in read_json(other.bundle / "vocabulary.json")["dest"]


def test_another_seed_gives_other_weights_and_the_same_question(
    request_of: Requests, trained: Result
) -> None:
    other = train(request_of(seed=8, champion=trained.bundle), ignore)

    assert other.weights_digest != trained.weights_digest
    assert other.signature_digest == trained.signature_digest
    assert read_bundle(other.bundle).manifest.parents == (trained.bundle_digest,)
    assert other.metrics["champion"]["log_loss"] == trained.metrics["model"]["log_loss"]
    difference = other.metrics["difference"]["log_loss"]
    assert difference["low"] < difference["value"] < difference["high"]
    assert "JFK" in other.metrics["slices"]["origin"]
    latency = read_json(other.bundle / "evidence" / "latency.json")["rows"]
    assert set(latency) == {"model", "champion"}


def two_epochs_are_done(request: Request) -> None:
    assert newest_progress(request.out) == "epoch 2 of 4"


async def test_a_run_killed_in_the_middle_goes_on_to_the_same_weights(
    request_of: Requests, trained: Result
) -> None:
    request = request_of()
    path = request.out.parent / "request.json"
    path.write_bytes(encode_request(request))
    command = [sys.executable, "-m", "ciclo_trainer.training", "--request", str(path)]
    environment = {**os.environ, "STALL_IN_EPOCH": "2"}
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    await eventually(lambda: two_epochs_are_done(request), timedelta(seconds=60))
    process.kill()
    await process.wait()

    events: list[dict] = []
    resumed = train(request, events.append)

    assert [e["epoch"] for e in events if e["event"] in ("resumed", "epoch")] == [2, 3, 4]
    assert resumed.weights_digest == trained.weights_digest
    assert resumed.metrics == trained.metrics


@pytest.mark.parametrize(
    ("holdout_days", "rows_from", "blocks"), [(6, 18, 6), (4, 20, 4), (2, 22, 2)]
)
def test_versions_are_compared_on_days_that_neither_has_seen(
    request_of: Requests, holdout_days: int, rows_from: int, blocks: int
) -> None:
    champion = train(request_of(holdout_days=holdout_days), ignore)

    metrics = train(request_of(champion=champion.bundle), ignore).metrics

    held_out = metrics["holdout"]
    assert (held_out["from_us"] - FIRST_DAY_US) // DAY_US == rows_from
    assert held_out["blocks"] == blocks
    assert metrics["limitation"] == ""
    assert metrics["difference"]["log_loss"]["low"] is not None
    assert sum(s["rows"] for s in metrics["slices"]["origin"].values()) == held_out["rows"]


def test_where_the_champion_knows_nearly_all_days_there_is_no_comparison(
    request_of: Requests,
) -> None:
    champion = train(request_of(holdout_days=1), ignore)

    result = train(request_of(champion=champion.bundle), ignore)

    metrics = result.metrics
    assert (metrics["champion"], metrics["difference"]) == (None, None)
    assert metrics["holdout"]["blocks"] == 6
    assert metrics["model"]["log_loss"]["low"] is not None
    assert "trained on days up to 2013-01-23" in metrics["limitation"]
    assert "only 1 block(s) are new" in metrics["limitation"]
    assert metrics["limitation"] in (result.bundle / "evidence" / "card.md").read_text()


def test_a_checkpoint_of_another_request_is_not_used(request_of: Requests) -> None:
    request = request_of()
    train(request, ignore)

    events: list[dict] = []
    train(replace(request, seed=9), events.append)

    assert [e["event"] for e in events if e["event"] in ("resumed", "epoch")] == ["epoch"] * 4


def test_a_checkpoint_that_was_damaged_is_not_used(request_of: Requests, trained: Result) -> None:
    request = request_of()
    request.out.mkdir(parents=True)
    (request.out / "checkpoint.safetensors").write_bytes(b"\0" * 100)

    assert train(request, ignore).weights_digest == trained.weights_digest


def test_the_command_writes_the_result_and_says_so(
    request_of: Requests, trained: Result, tmp_path: Path
) -> None:
    (tmp_path / "loop.yaml").write_text("mode: act\n")
    request = request_of(policy=tmp_path / "loop.yaml")
    path = request.out.parent / "request.json"
    path.write_bytes(encode_request(request))

    status = main(["--request", str(path)])

    result = read_json(request.out / "result.json")
    events = [json.loads(line) for line in (request.out / PROGRESS).read_text().splitlines()]
    assert status == 0
    assert result["status"] == "succeeded"
    assert result["weights_digest"] == trained.weights_digest
    assert result["bundle_digest"] == read_bundle(Path(result["bundle"])).digest
    assert (Path(result["bundle"]) / "policy.yaml").read_text() == "mode: act\n"
    assert [e["epoch"] for e in events if e["event"] == "epoch"] == [1, 2, 3, 4]
    assert [e["step"] for e in events if e["event"] == "step"][-1] == "seal"


def test_the_command_leaves_the_reason_when_it_fails(request_of: Requests) -> None:
    request = request_of(RECIPE.replace("rate.step()", "1 / 0"))
    path = request.out.parent / "request.json"
    path.write_bytes(encode_request(request))

    status = main(["--request", str(path)])

    result = read_json(request.out / "result.json")
    assert status == 1
    assert result["reason"] == "RECIPE_FAILED"
    assert result["fields"]["step"] == "fit"
    assert result["fields"]["where"].startswith(str(request.out.parent / "recipe.py"))
    assert re.search(r"fit: ZeroDivisionError.*, at recipe\.py:\d+$", result["message"])
    assert not (request.out / "bundle").exists()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"holdout_days": 0}, "holdout_days"),
        ({"surprise": 1}, "surprise"),
        ({"inputs": [{"name": "x", "datatype": "float64"}]}, "inputs.0.datatype"),
        ({"inputs": [{"name": "x", "datatype": "string", "role": "id"}]}, "inputs"),
    ],
)
def test_a_request_that_cannot_be_is_refused_with_its_field(
    request_of: Requests, tmp_path: Path, change: dict, field: str
) -> None:
    document = {**json.loads(encode_request(request_of())), **change}
    (tmp_path / "request.json").write_text(json.dumps(document))

    status = main(["--request", str(tmp_path / "request.json")])

    result = read_json(tmp_path / "result.json")
    assert (status, result["reason"]) == (1, "BAD_REQUEST")
    assert field in result["message"]


def test_a_champion_that_cannot_be_asked_or_trusted_fails_the_run(
    request_of: Requests, trained: Result, tmp_path: Path
) -> None:
    fewer = tuple(field for field in request_of().inputs if field.name != "wind")
    damaged = shutil.copytree(trained.bundle, tmp_path / "damaged")
    (damaged / "model.onnx").write_bytes(b"other")

    with pytest.raises(BadRequest, match="wind"):
        train(request_of(inputs=fewer, champion=trained.bundle), ignore)
    with pytest.raises(BundleCorrupt) as error:
        train(request_of(champion=damaged), ignore)
    assert error.value.file == "model.onnx"


def test_a_dataset_of_another_digest_is_not_trained_on(request_of: Requests) -> None:
    with pytest.raises(DatasetUnfit, match="digest"):
        train(request_of(dataset_digest="sha256:" + "0" * 64), ignore)


@pytest.mark.parametrize("name", ["late", "label", "event_time_us", "block", "temp"])
def test_an_input_cannot_have_a_name_that_is_taken(request_of: Requests, name: str) -> None:
    inputs = (*request_of().inputs, Field(name, "float32"))

    with pytest.raises(BadRequest, match=name):
        request_of(inputs=inputs)
