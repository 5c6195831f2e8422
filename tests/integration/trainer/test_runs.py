"""Runs that go wrong in their process: each ends with a reason, and the next one runs."""

import os
import re
import signal
from typing import Any

import psutil
import pytest
from tests.integration.trainer.conftest import END_WITHIN, Home
from tests.support.eventually import eventually

from ciclo.errors import Conflict
from ciclo_trainer.domain.runs import Trained


def told(message: Any) -> tuple[str, str, str]:
    return message.DESCRIPTOR.name, message.step, message.reason


@pytest.mark.parametrize(
    ("recipe", "reason", "detail"),
    [
        ("Raises", "RECIPE_FAILED", r"recipe, fit: LookupError: no plan is called gold"),
        ("NanWeights", "NOT_FINITE", r"weight body\.bias at the end of fit: not finite; lower the"),
        ("NanOutputs", "NOT_FINITE", r"output leaves of a made-up row: not finite; make `output`"),
    ],
)
async def test_a_recipe_that_goes_wrong_is_told_where_and_how(
    home: Home, recipe: str, reason: str, detail: str
) -> None:
    run = await home.begin(recipe)

    failed: Any = await home.end(run)

    assert told(failed) == ("TrainingFailed", "RECIPE", reason)
    assert re.match(detail, failed.detail)
    if reason == "RECIPE_FAILED":
        hint = rf", at recipe\.py:\d+; its traceback is in trainer/runs/{run.run_id}/log\.txt$"
        assert re.search(hint, failed.detail)
    assert "Traceback" in home.log(run.run_id)
    assert await home.attempts(run) == 1


async def test_a_recipe_that_prints_without_end_gets_its_version(home: Home) -> None:
    run = await home.begin("Chatty")

    completed: Any = await home.end(run)

    assert completed.DESCRIPTOR.name == "TrainingCompleted"
    assert completed.bundle_digest
    log = home.log(run.run_id)
    assert min(map(log.count, "xyz\0")) > 2**20
    assert log.count("not json") == 300


async def test_a_recipe_that_never_ends_is_stopped_by_its_time_limit(home: Home) -> None:
    await home.warm()  # or the limit would be spent on imports
    endless, next_one = await home.begin("Endless", "short"), await home.begin("Plain")

    failed: Any = await home.end(endless)
    completed: Any = await home.end(next_one)

    assert told(failed) == ("TrainingFailed", "TIMEOUT", "TIME_LIMIT")
    assert failed.detail.startswith(
        "not finished within retrain.limits.time, 0:00:08 (epoch 1 of 3); allow more time"
    )
    assert completed.DESCRIPTOR.name == "TrainingCompleted"
    started = int((home.marks / "started").read_text())
    assert not psutil.pid_exists(started) or psutil.Process(started).status() == "zombie"


async def test_a_run_that_ended_well_is_stored_again_without_another_attempt(home: Home) -> None:
    run = await home.begin("Plain")
    completed: Any = await home.end(run)
    stored = (await home.trainer.get(run.run_id))[0]

    async def begin() -> None:
        pytest.fail("its process was started again")

    outcome = await home.process.train(stored, "", begin, lambda _: None)

    assert isinstance(outcome, Trained)
    assert outcome.bundle_digest == completed.bundle_digest


async def test_a_recipe_that_eats_memory_is_stopped_by_its_limit(home: Home) -> None:
    failed: Any = await home.end_of("Hungry", "small")

    assert told(failed) == ("TrainingFailed", "KILLED", "MEMORY_LIMIT")
    assert re.match(
        r"held \d+ MiB, more than retrain\.limits\.memory, 1536 MiB \(read done\); allow more",
        failed.detail,
    )


async def test_a_run_killed_in_its_second_epoch_goes_on_from_its_checkpoint(home: Home) -> None:
    run, mark = await home.begin("StallsOnce"), home.marks / "stalled"

    def has_stalled() -> None:
        assert mark.exists()
        assert mark.read_text()

    await eventually(has_stalled, END_WITHIN)
    os.kill(int(mark.read_text()), signal.SIGKILL)
    completed: Any = await home.end(run)

    assert completed.DESCRIPTOR.name == "TrainingCompleted"
    assert await home.attempts(run) == 2
    progress = (home.runs / run.run_id / "progress.jsonl").read_text()
    assert re.findall(r'"(?:epoch|resumed)", "epoch": \d', progress) == [
        '"epoch", "epoch": 1',
        '"resumed", "epoch": 1',
        '"epoch", "epoch": 2',
        '"epoch", "epoch": 3',
    ]


async def test_an_input_that_vanished_is_not_learned(home: Home) -> None:
    run = await home.begin("Plain", "broken")

    failed: Any = await home.end(run)

    assert told(failed) == ("TrainingFailed", "DATASET", "BROKEN_INPUT")
    assert failed.detail.startswith("use: missing in the newest rows, as they were not before")
    assert await home.attempts(run) == 0


async def test_a_feature_store_that_lags_and_errs_is_asked_again_but_not_for_ever(
    home: Home,
) -> None:
    behind = Conflict("view weather is known up to 5 µs", reason="DATA_BEHIND_CUT")
    home.features.errors["other"] = [behind] * 10 + [ZeroDivisionError("a bug")] * 100

    failed: Any = await home.end_of("Plain", "other")

    assert told(failed) == ("TrainingFailed", "DATASET", "INTERNAL")
    assert failed.detail.startswith("failed 8 times: the feature store: internal error")
    assert len(home.features.errors.pop("other")) == 92


async def test_nothing_to_learn_from_is_told_at_once(home: Home) -> None:
    home.features.errors["other"] = [Conflict("no labelled row", reason="NO_LABELLED_ROW")]

    failed: Any = await home.end_of("Plain", "other")

    assert told(failed) == ("TrainingFailed", "DATASET", "NO_LABELLED_ROW")
