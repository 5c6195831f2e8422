"""How runs are brought to their end, whatever their neighbours answer."""

from datetime import timedelta

import pytest

from ciclo.errors import Conflict, Fatal, Retry
from ciclo_trainer.domain.patience import MOST_FAULTS
from ciclo_trainer.domain.runs import Failure, RunState
from ciclo_trainer.ports import Faulty, ProcessDied

from .conftest import SNAPSHOT, STATE, TRAINED, WAIT_LIMIT, told

BEHIND = Retry("view weather is known up to 5 µs, needed up to 9 µs", reason="DATA_BEHIND_CUT")


async def begun(trainer, model="churn"):
    return await trainer.start_by_hand(model, f"r-{model}", "ann")


async def advance_until_told(runner, clock, step, most):
    """Advances after each step of time until no run waits; returns how often one had to."""
    for tries in range(most):
        try:
            await runner.advance_all()
        except Retry:
            clock.advance(step)
        else:
            return tries
    return most


async def test_a_run_without_data_fails_with_the_feature_stores_reason(
    trainer, runner, world, database
):
    world.snapshots["churn"] = Conflict("no labelled row", reason="NO_ROWS")
    run = await trainer.start_by_hand("churn", "r", "ann")
    await runner.advance_all()
    name, _, failed = (await told(database))[-1]
    assert (name, failed.step, failed.reason) == ("TrainingFailed", "DATASET", "NO_ROWS")
    found, progress = await trainer.get(run.run_id)
    assert found.state is RunState.FAILED
    assert "no labelled row" in found.error
    assert progress == "failed"


async def test_a_run_waits_for_a_feature_store_that_is_away(trainer, runner, world):
    world.snapshots["churn"] = Retry("away")
    run = await trainer.start_by_hand("churn", "r", "ann")
    with pytest.raises(Retry):
        await runner.advance_all()
    world.snapshots["churn"] = SNAPSHOT
    await runner.advance_all()
    assert (await trainer.get(run.run_id))[0].state is RunState.SUCCEEDED


async def test_a_killed_run_goes_on_with_the_same_dataset(trainer, runner, world, database):
    world.outcomes["churn"] = ProcessDied("its process died")
    run = await trainer.start_by_hand("churn", "r", "ann")
    with pytest.raises(ProcessDied):
        await runner.advance_all()
    world.outcomes["churn"] = TRAINED
    await runner.advance_all()
    ended = (await trainer.get(run.run_id))[0]
    assert ended.attempts == 2
    assert len(world.cuts) == 1
    assert [name for name, _, _ in await told(database)] == ["TrainingStarted", "TrainingCompleted"]


async def test_a_failing_recipe_is_told_with_its_step(trainer, runner, world, database):
    world.outcomes["churn"] = Failure("RECIPE", "NOT_FINITE", "loss after epoch 1: not finite")
    await trainer.start_by_hand("churn", "r", "ann")
    await runner.advance_all()
    name, _, failed = (await told(database))[-1]
    assert (name, failed.step, failed.reason) == ("TrainingFailed", "RECIPE", "NOT_FINITE")


async def test_a_run_that_waits_holds_up_no_other_model(trainer, runner, world):
    world.states["music"], world.watches["music"] = STATE, world.watches["churn"]
    waiting, other = await begun(trainer), await begun(trainer, "music")
    world.snapshots["churn"] = Retry("away")
    with pytest.raises(Retry, match="away"):
        await runner.advance_all()
    assert (await trainer.get(waiting.run_id))[0].state is RunState.CUTTING
    assert (await trainer.get(other.run_id))[0].state is RunState.SUCCEEDED


async def test_a_run_that_waits_says_for_what(trainer, runner, world):
    run = await begun(trainer)
    world.snapshots["churn"] = BEHIND
    with pytest.raises(Retry):
        await runner.advance_all()
    assert (await trainer.get(run.run_id))[1] == f"waits: {BEHIND.message}"


async def test_a_dataset_that_lags_is_waited_for(trainer, runner, world, clock):
    run = await begun(trainer)
    world.snapshots["churn"] = BEHIND
    with pytest.raises(Retry):
        await runner.advance_all()
    clock.advance(WAIT_LIMIT - timedelta(seconds=1))
    with pytest.raises(Retry):
        await runner.advance_all()
    world.snapshots["churn"] = SNAPSHOT
    await runner.advance_all()
    assert (await trainer.get(run.run_id))[0].state is RunState.SUCCEEDED


async def test_a_run_that_waited_for_too_long_fails_with_what_it_waited_for(
    trainer, runner, world, clock, database
):
    await begun(trainer)
    world.snapshots["churn"] = BEHIND
    waits = await advance_until_told(runner, clock, timedelta(minutes=10), 100)
    name, _, failed = (await told(database))[-1]
    assert waits == 6
    assert (name, failed.step, failed.reason) == ("TrainingFailed", "DATASET", "DATA_BEHIND_CUT")
    assert "waited for 1:00:00 in vain" in failed.detail
    assert BEHIND.message in failed.detail


@pytest.mark.parametrize("fault", [Faulty("the feature store: bug"), RuntimeError("bug")])
async def test_a_fault_is_tried_again_but_not_for_ever(
    trainer, runner, world, clock, database, fault
):
    await begun(trainer)
    world.snapshots["churn"] = fault
    waits = await advance_until_told(runner, clock, timedelta(0), 100)
    name, _, failed = (await told(database))[-1]
    assert waits == MOST_FAULTS - 1
    assert (name, failed.step, failed.reason) == ("TrainingFailed", "DATASET", "INTERNAL")
    assert "bug" in failed.detail


async def test_what_stops_the_service_fails_no_run(trainer, runner, world):
    run = await begun(trainer)
    world.snapshots["churn"] = Fatal("the disk is gone")
    with pytest.raises(Fatal):
        await runner.advance_all()
    assert (await trainer.get(run.run_id))[0].state is RunState.CUTTING


async def test_an_outage_of_the_blob_store_is_no_attempt(trainer, runner, world):
    run = await begun(trainer)
    world.has_blobs = False
    for _ in range(10):
        with pytest.raises(Retry):
            await runner.advance_all()
    world.has_blobs = True
    await runner.advance_all()
    ended = (await trainer.get(run.run_id))[0]
    assert (ended.state, ended.attempts) == (RunState.SUCCEEDED, 1)


async def test_blobs_that_do_not_come_back_fail_the_run(trainer, runner, world, clock, database):
    await begun(trainer)
    world.has_blobs = False
    await advance_until_told(runner, clock, timedelta(minutes=10), 100)
    name, _, failed = (await told(database))[-1]
    assert (name, failed.step, failed.reason) == ("TrainingFailed", "BUNDLE", "BLOB_AWAY")
