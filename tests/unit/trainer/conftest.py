"""The trainer's use cases over their real ledger, in memory; what its neighbours answer is set."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from ciclo.errors import Retry
from ciclo.loop import Loop
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.database import Database
from ciclo_trainer.adapters.ledger import METADATA, Ledger
from ciclo_trainer.domain.runs import Snapshot, Trained
from ciclo_trainer.handlers import Trainer
from ciclo_trainer.metrics import TrainerMetrics
from ciclo_trainer.ports import ModelState, Watch
from ciclo_trainer.runner import Runner

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
WAIT_LIMIT = timedelta(hours=1)
STATE = ModelState("sha256:l", "sha256:c", is_paused=False, has_rollout=False)
SNAPSHOT = Snapshot("sha256:d", 1000, NOW)
TRAINED = Trained("sha256:b", {"log_loss": 0.4, "champion:log_loss": 0.5}, 100, NOW)


class World:
    """What the trainer sees, and what its neighbours answer.

    `snapshots` and `outcomes` hold, by model, what a cut and a training give; errors are raised.
    """

    def __init__(self):
        self.states = {"churn": STATE}
        self.watches = {"churn": Watch(NOW, "episode", "alarm", is_drifted=True, is_degraded=True)}
        self.cuts = []
        self.trainings = []
        self.snapshots = defaultdict(lambda: SNAPSHOT)
        self.outcomes = defaultdict(lambda: TRAINED)
        self.loops = defaultdict(lambda: LOOP)
        self.has_blobs = True

    def names(self):
        return list(self.states)

    def state(self, model):
        return self.states.get(model)

    def watch(self, model):
        return self.watches.get(model, Watch(None))

    async def get(self, loop_digest):
        return answer(self.loops[loop_digest])

    async def cut(self, model, as_of, loop_digest):
        self.cuts.append((model, as_of, loop_digest))
        return answer(self.snapshots[model])

    async def train(self, run, champion_digest, begin, report):
        if not self.has_blobs:
            raise Retry("the dataset cannot be fetched", reason="BLOB_AWAY")
        await begin()
        self.trainings.append((run, champion_digest))
        report("epoch 1 of 5")
        return answer(self.outcomes[run.model])


def answer(given):
    if isinstance(given, Exception):
        raise given
    return given


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
async def clock():
    return ManualClock()


@pytest.fixture
async def runner(world, database, clock):
    return Runner(
        world,
        Ledger(database),
        world,
        world,
        wait_limit=WAIT_LIMIT,
        clock=clock,
        metrics=TrainerMetrics(),
    )


@pytest.fixture
async def trainer(world, database, clock, runner):
    return Trainer(
        world,
        world,
        Ledger(database),
        runner.progress,
        clock=clock,
        metrics=TrainerMetrics(),
        wake=lambda: None,
    )


async def told(database):
    return [
        (message.DESCRIPTOR.name, envelope, message)
        for envelope, message in await database.outbox()
    ]
