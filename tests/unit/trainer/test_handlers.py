"""The trainer's use cases over its real ledger, in memory."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ciclo.errors import Conflict, NotFound, Reject, Retry
from ciclo.events.v1.training_started_pb2 import TRIGGER_DEGRADED
from ciclo.loop import Loop
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.database import Database
from ciclo_trainer.adapters.ledger import METADATA, Ledger
from ciclo_trainer.domain.runs import Failure, RunState, Snapshot, Trained
from ciclo_trainer.handlers import Trainer
from ciclo_trainer.metrics import TrainerMetrics
from ciclo_trainer.ports import ModelState, Watch

NOW = datetime(2013, 6, 19, tzinfo=UTC)
LOOP = Loop.model_validate(
    {
        "schema": "ciclo.loop/v1",
        "model": "churn",
        "owner": "growth",
        "recipe": "recipe.py:Churn",
        "features": "churn",
        "input": {"entities": ["user"]},
        "output": {"name": "leaves"},
        "label": {"name": "left", "expected_within": "12h", "never_after": "3d"},
        "quality": {"correlated_within": "1d"},
        "monitor": {
            "false_alarms": {"per": "365d"},
            "degraded_if": {"log_loss": {"above_reference_by": 0.03}},
        },
        "retrain": {"data": {"last": "90d", "holdout": "10d"}},
        "rollout": {
            "shadow": {"at_most": "35d"},
            "canary": {"weights": [0.05], "each": "5d", "exposure_at_most": 1500},
            "bake": {"for": "7d"},
        },
    }
)
SNAPSHOT = Snapshot("sha256:d", 1000, NOW)
TRAINED = Trained("sha256:b", {"log_loss": 0.4, "champion:log_loss": 0.5}, 100, NOW)


class World:
    """What the trainer sees, and what its neighbours answer."""

    def __init__(self):
        self.states = {
            "churn": ModelState("sha256:l", "sha256:c", is_paused=False, has_rollout=False)
        }
        self.watches = {"churn": Watch(NOW, "episode", "alarm", is_drifted=True, is_degraded=True)}
        self.cuts = []
        self.trainings = []
        self.snapshot = SNAPSHOT
        self.outcome = TRAINED

    def names(self):
        return list(self.states)

    def state(self, model):
        return self.states.get(model)

    def watch(self, model):
        return self.watches.get(model, Watch(None))

    async def get(self, loop_digest):
        return LOOP

    async def cut(self, model, as_of, loop_digest):
        self.cuts.append((model, as_of, loop_digest))
        if isinstance(self.snapshot, Exception):
            raise self.snapshot
        return self.snapshot

    async def train(self, run, champion_digest, report):
        self.trainings.append((run, champion_digest))
        report("epoch 1 of 5")
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
async def world():
    return World()


@pytest.fixture
async def database():
    found = Database(None, METADATA, service="trainer", env="test", clock=ManualClock())
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def trainer(world, database):
    return Trainer(
        world,
        world,
        Ledger(database),
        world,
        world,
        clock=ManualClock(),
        metrics=TrainerMetrics(),
        wake=lambda: None,
    )


async def told(database):
    return [
        (message.DESCRIPTOR.name, envelope, message)
        for envelope, message in await database.outbox()
    ]


async def test_an_episode_becomes_one_version_however_often_considered(trainer, world, database):
    for _ in range(3):
        await trainer.consider_all()
        await trainer.advance_all()
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


async def test_a_second_attempt_in_one_episode_is_a_cycle_of_its_own(trainer, world, database):
    await trainer.consider_all()
    await trainer.advance_all()
    run_id = (await told(database))[-1][2].run_id
    world.states["churn"] = replace(world.states["churn"], last_run_id=run_id)
    world.watches["churn"] = Watch(NOW + timedelta(days=8), "episode", "alarm", is_degraded=True)
    await trainer.consider_all()
    cycles = [e.correlation_id for name, e, _ in await told(database) if name == "TrainingStarted"]
    assert cycles == ["episode", "episode.2"]


async def test_no_run_starts_before_the_registry_took_up_the_last_bundle(trainer, world, database):
    await trainer.consider_all()
    await trainer.advance_all()
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


async def test_a_model_without_an_open_episode_is_left_alone(trainer, world, database):
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


async def test_a_run_without_data_fails_with_the_feature_stores_reason(trainer, world, database):
    world.snapshot = Conflict("no labelled row", reason="NO_ROWS")
    run = await trainer.start_by_hand("churn", "r", "ann")
    await trainer.advance_all()
    name, _, failed = (await told(database))[-1]
    assert (name, failed.step, failed.reason) == ("TrainingFailed", "DATASET", "NO_ROWS")
    found, progress = await trainer.get(run.run_id)
    assert found.state is RunState.FAILED
    assert "no labelled row" in found.error
    assert progress == "failed"


async def test_a_run_waits_for_a_feature_store_that_is_away(trainer, world):
    world.snapshot = Retry("away")
    run = await trainer.start_by_hand("churn", "r", "ann")
    with pytest.raises(Retry):
        await trainer.advance_all()
    world.snapshot = SNAPSHOT
    await trainer.advance_all()
    assert (await trainer.get(run.run_id))[0].state is RunState.SUCCEEDED


async def test_a_killed_run_goes_on_with_the_same_dataset(trainer, world, database):
    world.outcome = Retry("its process died")
    run = await trainer.start_by_hand("churn", "r", "ann")
    with pytest.raises(Retry):
        await trainer.advance_all()
    world.outcome = TRAINED
    await trainer.advance_all()
    ended = (await trainer.get(run.run_id))[0]
    assert ended.attempts == 2
    assert len(world.cuts) == 1
    assert [name for name, _, _ in await told(database)] == ["TrainingStarted", "TrainingCompleted"]


async def test_a_failing_recipe_is_told_with_its_step(trainer, world, database):
    world.outcome = Failure("RECIPE", "NOT_FINITE", "loss after epoch 1: not finite")
    await trainer.start_by_hand("churn", "r", "ann")
    await trainer.advance_all()
    name, _, failed = (await told(database))[-1]
    assert (name, failed.step, failed.reason) == ("TrainingFailed", "RECIPE", "NOT_FINITE")


async def test_an_unknown_run_is_not_found(trainer):
    with pytest.raises(NotFound):
        await trainer.get("nothing")
