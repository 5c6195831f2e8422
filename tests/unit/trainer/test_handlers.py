"""When a run is begun, and what is told of it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from ciclo.errors import Conflict, NotFound, Reject, Retry
from ciclo.events.v1.training_started_pb2 import TRIGGER_DEGRADED
from ciclo_trainer.ports import ModelState, Watch

from .conftest import LOOP, NOW, STATE, told


async def test_an_episode_becomes_one_version_however_often_considered(
    trainer, runner, world, database
):
    for _ in range(3):
        await trainer.consider_all()
        await runner.advance_all()
    events = [event for event in await told(database) if event[0] != "TrainingSkipped"]
    assert [name for name, _, _ in events] == ["TrainingStarted", "TrainingCompleted"]
    (_, start, started), (_, end, completed) = events
    assert started.trigger == TRIGGER_DEGRADED
    assert (start.causation_id, start.correlation_id) == ("alarm", "episode")
    assert (end.causation_id, end.correlation_id) == (start.id, "episode")
    assert completed.bundle_digest == "sha256:b"
    assert completed.metrics["champion:log_loss"] == 0.5
    assert world.cuts == [("churn", NOW, "sha256:l")]
    assert world.trainings[0][1] == "sha256:c"


async def test_a_second_attempt_in_one_episode_is_a_cycle_of_its_own(
    trainer, runner, world, database
):
    await trainer.consider_all()
    await runner.advance_all()
    run_id = (await told(database))[-1][2].run_id
    world.states["churn"] = replace(world.states["churn"], last_run_id=run_id)
    world.watches["churn"] = Watch(NOW + timedelta(days=8), "episode", "alarm", is_degraded=True)
    await trainer.consider_all()
    cycles = [e.correlation_id for name, e, _ in await told(database) if name == "TrainingStarted"]
    assert cycles == ["episode", "episode.2"]


async def test_no_run_starts_before_the_registry_took_up_the_last_bundle(
    trainer, runner, world, database
):
    await trainer.consider_all()
    await runner.advance_all()
    world.watches["churn"] = Watch(NOW + timedelta(days=30), "episode", "alarm", is_degraded=True)
    await trainer.consider_all()
    assert [name for name, _, _ in await told(database)] == ["TrainingStarted", "TrainingCompleted"]


async def test_what_holds_a_run_back_is_told_once(trainer, world, database):
    world.states["churn"] = ModelState("sha256:l", "", is_paused=True, has_rollout=False)
    for _ in range(3):
        await trainer.consider_all()
    (event,) = await told(database)
    assert event[0] == "TrainingSkipped"
    assert event[2].reason == "PAUSED"
    assert event[1].causation_id == "alarm"


async def test_a_model_without_an_open_episode_is_left_alone(trainer, runner, world, database):
    world.watches["churn"] = Watch(NOW)
    await trainer.consider_all()
    assert await told(database) == []


async def test_the_same_request_starts_one_run(trainer, database):
    first = await trainer.start_by_hand("churn", "r", "ann")
    assert await trainer.start_by_hand("churn", "r", "ann") == first
    assert len(await told(database)) == 1
    assert (await told(database))[0][1].correlation_id == first.run_id


async def test_another_request_while_a_run_is_under_way_is_refused(trainer):
    await trainer.start_by_hand("churn", "r", "ann")
    with pytest.raises(Conflict, match="under way"):
        await trainer.start_by_hand("churn", "s", "bob")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model": "nothing"}, NotFound),
        ({"request_id": ""}, Reject),
        ({"watch": Watch(None)}, Reject),
    ],
)
async def test_a_bad_request_is_refused_with_its_field(trainer, world, change, error):
    world.watches["churn"] = change.get("watch", world.watches["churn"])
    with pytest.raises(error) as caught:
        await trainer.start_by_hand(
            change.get("model", "churn"), change.get("request_id", "r"), "ann"
        )
    assert caught.value.field


async def test_an_unknown_run_is_not_found(trainer):
    with pytest.raises(NotFound):
        await trainer.get("nothing")


async def test_a_definition_that_is_not_to_be_had_holds_up_no_other_model(trainer, world, database):
    world.states = {"away": replace(STATE, loop_digest="sha256:away"), "churn": STATE}
    world.watches["away"] = world.watches["churn"]
    world.loops |= {"sha256:away": Retry("no blob"), "sha256:l": LOOP}
    with pytest.raises(Retry, match="no blob"):
        await trainer.consider_all()
    assert [(name, m.model) for name, _, m in await told(database)] == [
        ("TrainingStarted", "churn")
    ]
