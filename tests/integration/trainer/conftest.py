"""Runs through the trainer's real process, ledger and blobs; only the feature store is played."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.trainer.examples import write_dataset, write_loop
from tests.support.eventually import eventually

from ciclo.features.v1 import feature_service_pb2_grpc as features_grpc
from ciclo.features.v1.feature_service_pb2 import CreateSnapshotRequest, CreateSnapshotResponse
from ciclo_bundle.store import BlobStore
from ciclo_runtime.backoff import Backoff
from ciclo_runtime.clock import SystemClock
from ciclo_runtime.database import Database
from ciclo_runtime.grpc_server import GrpcServer
from ciclo_runtime.lifecycle import Service
from ciclo_runtime.reconcile import Reconciler
from ciclo_trainer.adapters.blobs import Blobs
from ciclo_trainer.adapters.ledger import METADATA, Ledger
from ciclo_trainer.adapters.process import TrainingProcess
from ciclo_trainer.adapters.snapshots import FeatureStore
from ciclo_trainer.domain.runs import Run
from ciclo_trainer.handlers import Trainer
from ciclo_trainer.metrics import TrainerMetrics
from ciclo_trainer.ports import ModelState, Watch
from ciclo_trainer.runner import Runner

NOW = datetime(2013, 1, 17, tzinfo=UTC)
CLOCK = SystemClock()
QUICK = Backoff(cap=timedelta(milliseconds=200))
END_WITHIN = timedelta(seconds=120)


class Features(features_grpc.FeatureServiceServicer):
    """Gives the datasets that it is told to give; errors are raised, each once."""

    def __init__(self, datasets: dict[str, str]) -> None:
        self.datasets = datasets
        self.errors: dict[str, list[Exception]] = {}

    async def CreateSnapshot(  # noqa: N802 -- gRPC's name
        self, request: CreateSnapshotRequest, context: Any
    ) -> CreateSnapshotResponse:
        if self.errors.get(request.model):
            raise self.errors[request.model].pop(0)
        digest = self.datasets[request.model]
        return CreateSnapshotResponse(
            dataset_digest=digest, rows=800, newest_event_time=Timestamp()
        )


@dataclass
class States:
    """What registry and monitor say."""

    loops: dict[str, str]

    def names(self) -> list[str]:
        return list(self.loops)

    def state(self, model: str) -> ModelState | None:
        return ModelState(self.loops[model], "", is_paused=False, has_rollout=False)

    def watch(self, model: str) -> Watch:
        return Watch(NOW)


@dataclass
class Home:
    """A trainer at work."""

    trainer: Trainer
    process: TrainingProcess
    database: Database
    runs: Path
    marks: Path
    features: Features

    async def begin(self, recipe: str, model: str = "churn") -> Run:
        return await self.trainer.start_by_hand(
            model, uuid.uuid4().hex, "ann", recipe=f"recipe.py:{recipe}"
        )

    async def end(self, run: Run) -> Message:
        """Returns the event that ends a run."""
        ends: list[Message] = []

        async def has_ended() -> None:
            ends[:] = [
                message
                for _, message in await self.database.outbox()
                if message.DESCRIPTOR.name != "TrainingStarted" and message.run_id == run.run_id
            ]
            assert ends, await self.trainer.get(run.run_id)

        await eventually(has_ended, END_WITHIN)
        (end,) = ends
        return end

    async def end_of(self, recipe: str, model: str = "churn") -> Any:
        return await self.end(await self.begin(recipe, model))

    async def attempts(self, run: Run) -> int:
        return (await self.trainer.get(run.run_id))[0].attempts

    async def warm(self) -> None:
        """Returns when the process that waits for the next run has done its imports."""

        def is_warm() -> None:
            told = [line for line in self.log("").splitlines() if line.endswith("is warm")]
            assert told
            assert psutil.pid_exists(int(told[-1].split()[1]))

        await eventually(is_warm, END_WITHIN)

    def log(self, run_id: str) -> str:
        return (self.runs / run_id / "log.txt").read_text()


@pytest.fixture(scope="session")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Home]:
    folder = tmp_path_factory.mktemp("trainer")
    store = BlobStore(f"file://{folder}/store")
    loop = store.put_folder(write_loop(folder / "loop"))
    short = store.put_folder(write_loop(folder / "short", time="8s"))
    small = store.put_folder(write_loop(folder / "small", memory="1536MiB"))
    dataset = store.put_folder(write_dataset(folder / "dataset"))
    broken = store.put_folder(write_dataset(folder / "broken", use_vanishes=True))
    states = States({"churn": loop, "other": loop, "broken": loop, "short": short, "small": small})
    features = Features(dict.fromkeys(states.loops, dataset) | {"broken": broken})
    marks = folder / "marks"
    marks.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECIPE_MARKS", str(marks))
        async with _at_work(folder, states, features, marks) as made:
            yield made


@asynccontextmanager
async def _at_work(
    folder: Path, states: States, features: Features, marks: Path
) -> AsyncIterator[Home]:
    metrics = TrainerMetrics()
    adder = features_grpc.add_FeatureServiceServicer_to_server
    neighbour = GrpcServer("127.0.0.1:0", [(adder, features)], metrics=metrics, clock=CLOCK)
    async with Service("feature-store", [neighbour]):
        database = Database(
            folder / "trainer.sqlite", METADATA, service="trainer", env="test", clock=CLOCK
        )
        ledger, blobs = Ledger(database), Blobs(f"file://{folder}/store", folder / "blobs")
        store = FeatureStore(f"127.0.0.1:{neighbour.port}", timedelta(seconds=20))
        process = TrainingProcess(folder / "runs", blobs, threads=1, kept=20)
        runner = Runner(
            states,
            ledger,
            store,
            process,
            wait_limit=timedelta(hours=1),
            clock=CLOCK,
            metrics=metrics,
        )
        runs = Reconciler(
            "runs",
            runner.advance_all,
            interval=timedelta(seconds=5),
            metrics=metrics,
            clock=CLOCK,
            backoff=QUICK,
        )
        trainer = Trainer(
            states,
            blobs,
            ledger,
            runner.progress,
            clock=CLOCK,
            metrics=metrics,
            wake=runs.wake,
        )
        async with Service("trainer", [database, store, process, runs]):
            yield Home(trainer, process, database, folder / "runs", marks, features)
