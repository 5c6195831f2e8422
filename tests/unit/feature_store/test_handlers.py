"""The use cases, with everything around them imitated."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.feature_store.examples import HOUR_US, MODEL, SERVICE, START_US, applied_loop

from ciclo.errors import NotFound, Reject
from ciclo_feature_store.domain.definitions import AppliedLoop, FeatureService
from ciclo_feature_store.domain.history import (
    BadObservations,
    HistoryStatus,
    Observations,
    observation_columns,
)
from ciclo_feature_store.domain.online import OnlineStore
from ciclo_feature_store.domain.tasks import (
    AuditTask,
    SkewAudit,
    Snapshot,
    SnapshotCut,
    SnapshotTask,
)
from ciclo_feature_store.handlers import MOST_ROWS, DataBehindCut, Handlers

DIGEST = "sha256:" + "5" * 64


@dataclass
class World:
    """One loop, no history, and a note of what was asked."""

    loop: AppliedLoop = field(default_factory=applied_loop)
    cut: SnapshotCut = field(
        default_factory=lambda: SnapshotCut(10, 2, START_US, {"labels/flight-delay": 3})
    )
    asked: list[Any] = field(default_factory=list)

    def service(self, name: str) -> FeatureService:
        if name != SERVICE.name:
            raise NotFound(name)
        return SERVICE

    def applied(self, model: str) -> AppliedLoop:
        if model != MODEL:
            raise NotFound(model)
        return self.loop

    async def applied_at(self, model: str, digest: str) -> AppliedLoop:
        return replace(self.applied(model), digest=digest or self.loop.digest)

    def folder(self, digest: str) -> Path:
        return Path("/loops") / digest

    async def import_observations(self, chunk: Observations, applied: AppliedLoop) -> int:
        return len(observation_columns(chunk, applied.loop)["label"].values)

    async def catch_up(self) -> None:
        self.asked.append("catch up")

    async def status(self, model: str) -> HistoryStatus:
        return HistoryStatus({}, {}, {})

    async def snapshot(self, task: SnapshotTask) -> SnapshotCut:
        self.asked.append(task)
        return self.cut

    async def audit(self, task: AuditTask) -> SkewAudit:
        self.asked.append(task)
        return SkewAudit(5)

    async def put(self, folder: Path, cut: SnapshotCut, task: SnapshotTask) -> Snapshot:
        return Snapshot(DIGEST, cut)

    async def discard(self, folder: Path) -> None:
        self.asked.append(f"discard {folder}")

    def workplace(self) -> Path:
        return Path("/cuts/1")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def online() -> OnlineStore:
    return OnlineStore(10)


@pytest.fixture
def handlers(world: World, online: OnlineStore) -> Handlers:
    return Handlers(online, world, world, world, world, tables="/delta")


def chunk(**changes) -> Observations:
    texts = np.array(["a", "b"], dtype=object)
    inputs = {
        "origin": texts,
        "carrier": texts,
        "flight": texts,
        "distance": np.array([1.0, 2.0]),
        "departure": np.array([1, 2]),
    }
    good = Observations(
        MODEL, "c1", inputs, np.array([1, 2]), np.array([1.0, np.nan]), np.array([3, 4])
    )
    return replace(good, **changes)


def test_an_online_read_asks_for_the_join_keys_and_no_more_rows_than_are_cheap(
    handlers: Handlers,
) -> None:
    with pytest.raises(Reject, match="carrier is missing") as missing:
        handlers.read_online("flight_delay", {"origin": ["A"]}, None)
    assert missing.value.field == "entities"
    with pytest.raises(Reject, match="equal lengths"):
        handlers.read_online("flight_delay", {"origin": ["A"], "carrier": []}, None)
    many = ["A"] * (MOST_ROWS + 1)
    with pytest.raises(Reject, match="at most"):
        handlers.read_online("flight_delay", {"origin": many, "carrier": many}, None)
    answer = handlers.read_online("flight_delay", {"origin": ["A"], "carrier": ["U"], "x": [1]}, 5)
    assert [found.event_times_us for found in answer.values] == [[0], [0], [0]]


def test_watermarks_are_told_in_the_service_s_order(
    handlers: Handlers, online: OnlineStore
) -> None:
    online.view("carrier_delays").advance(7)
    told = {"weather": None, "airport_delays": None, "carrier_delays": 7}
    assert handlers.watermarks("flight_delay") == told
    assert list(handlers.watermarks("flight_delay")) == list(told)


async def test_a_cut_waits_for_the_topics_and_takes_the_loop_s_window(
    handlers: Handlers, world: World
) -> None:
    snapshot = await handlers.create_snapshot(MODEL, START_US, None, "")
    assert snapshot == Snapshot(DIGEST, world.cut)
    caught_up, task = world.asked
    assert caught_up == "catch up"
    assert task.start_us == START_US - 90 * 24 * HOUR_US
    assert task.join.lag_us == HOUR_US
    assert task.join.older_than_us == {"airport_delays": 6 * HOUR_US}
    assert list(task.join.inputs) == ["origin", "carrier", "flight", "distance", "departure"]


async def test_a_cut_may_use_another_loop_and_window(handlers: Handlers, world: World) -> None:
    await handlers.create_snapshot(MODEL, START_US, START_US - 5, "sha256:other")
    task = world.asked[1]
    assert (task.start_us, task.join.loop_digest) == (START_US - 5, "sha256:other")
    assert task.join.loop_folder == "/loops/sha256:other"


async def test_a_cut_that_a_view_lies_behind_is_refused(
    handlers: Handlers, world: World, online: OnlineStore
) -> None:
    online.view("weather").advance(START_US - HOUR_US)
    await handlers.create_snapshot(MODEL, START_US, None, "")
    world.cut = replace(world.cut, newest_event_time_us=START_US + 1)
    with pytest.raises(DataBehindCut, match="weather is known up to"):
        await handlers.create_snapshot(MODEL, START_US + 1, None, "")
    assert world.asked[-1] == "discard /cuts/1"


async def test_a_window_that_ends_before_it_begins_is_refused(handlers: Handlers) -> None:
    with pytest.raises(Reject, match="start_time"):
        await handlers.create_snapshot(MODEL, START_US, START_US + 1, "")


async def test_an_unknown_model_is_not_found(handlers: Handlers) -> None:
    for call in (
        handlers.create_snapshot("other", START_US, None, ""),
        handlers.audit_skew("other", None, None),
        handlers.history_status("other"),
        handlers.import_observations(chunk(model="other")),
    ):
        with pytest.raises(NotFound):
            await call


async def test_an_audit_without_bounds_covers_everything(handlers: Handlers, world: World) -> None:
    assert (await handlers.audit_skew(MODEL, None, None)).rows_audited == 5
    task = world.asked[1]
    assert task.start_us < -START_US
    assert task.end_us > 1000 * START_US


async def test_observations_have_the_loop_s_inputs(handlers: Handlers) -> None:
    assert await handlers.import_observations(chunk()) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": {"origin": np.array(["a", "b"], dtype=object)}}, "missing: carrier"),
        ({"inputs": {**chunk().inputs, "tail": np.array([1, 2])}}, "unknown: tail"),
        ({"inputs": {**chunk().inputs, "distance": np.array([1.0])}}, "has 1 values"),
        ({"inputs": {**chunk().inputs, "origin": np.array([1, 2])}}, "origin is string"),
        ({"inputs": {**chunk().inputs, "departure": np.array([1.5, 2])}}, "departure is timestamp"),
        ({"labels": np.array([np.inf, 0])}, "infinite"),
        ({"chunk_id": ""}, "chunk_id is empty"),
    ],
)
async def test_observations_that_do_not_fit_are_refused(
    handlers: Handlers, changes, words: str
) -> None:
    with pytest.raises(BadObservations, match=words):
        await handlers.import_observations(chunk(**changes))


async def test_labels_that_were_never_known_have_no_time() -> None:
    columns = observation_columns(chunk(), applied_loop().loop)
    for name in ("label", "label_time"):
        known = columns[name].known
        assert known is not None
        assert known.tolist() == [True, False]


def test_the_example_s_lag_is_an_hour() -> None:
    assert applied_loop().loop.knowledge_lag == timedelta(hours=1)
