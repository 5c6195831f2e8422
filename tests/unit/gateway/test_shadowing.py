"""The rollout's other version is asked what callers asked, once, and nothing else."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from tests.unit.gateway.fakes import FakeServer

from ciclo.errors import Reject
from ciclo_gateway.catalog import Catalog
from ciclo_gateway.domain.desired import Desired, Placement, Rollout, Stage
from ciclo_gateway.domain.packing import Version
from ciclo_gateway.domain.shadow import Record
from ciclo_gateway.metrics import GatewayMetrics
from ciclo_gateway.ports.shadowing import Offsets, ShadowAnswers
from ciclo_gateway.shadowing import ShadowWorker
from ciclo_gateway.wire import inference
from ciclo_runtime.clock import ManualClock

ONE, TWO = Version("m", 1, "sha256:1", "s"), Version("m", 2, "sha256:2", "s")
ROLLOUT = Rollout("r", "c", TWO, Stage.SHADOW, shadow_since_us=100)
SHADOW = Desired("m", 1, champion=ONE, rollout=ROLLOUT)
CANARY = replace(SHADOW, rollout=replace(ROLLOUT, stage=Stage.CANARY))
BAKING = replace(SHADOW, champion=TWO, previous=ONE, rollout=replace(ROLLOUT, stage=Stage.BAKING))


def record(offset: int, version: Version = ONE, **changes: object) -> Record:
    """Returns three requests of 1, 2 and 3 rows, the first before the rollout's data cut."""
    x = np.arange(6, dtype=np.float32) + offset
    found = Record(
        offset=offset,
        version=version,
        variant="champion",
        is_shadow=False,
        prediction_ids=tuple(f"id-{offset}-{n}" for n in range(3)),
        row_counts=(1, 2, 3),
        event_time_us=(99, 100, 101),
        statuses=(0, 0, 0),
        keys=("", "", ""),
        client_ids=("", "", ""),
        inputs=(inference.pack("x", x),),
    )
    return replace(found, **changes)  # type: ignore[arg-type]


@dataclass
class Book:
    """Keeps what was stored; it ends the rollout when all was read."""

    catalog: Catalog
    answers: list[ShadowAnswers] = field(default_factory=list)
    place: dict[int, int] = field(default_factory=dict)

    async def offsets(self, rollout_id: str, model: str, since_us: int) -> Offsets:
        return dict(self.place)

    async def store(
        self, rollout_id: str, offsets: Offsets, answers: Sequence[ShadowAnswers], cycle_id: str
    ) -> None:
        assert cycle_id == "c"
        self.place |= offsets
        self.answers += answers


@dataclass
class Captured:
    """Records in batches of two; then the rollout ends."""

    catalog: Catalog
    records: list[Record]

    async def batches(self, offsets: Offsets) -> AsyncIterator[tuple[Sequence[Record], Offsets]]:
        left = [r for r in self.records if r.offset >= offsets.get(0, 0)]
        while left:
            batch, left = left[:2], left[2:]
            yield batch, {0: batch[-1].offset + 1}
        self.catalog.desired.clear()
        yield [], {}


async def follow(
    desired: Desired, records: list[Record], server: FakeServer | None = None, chunk_rows: int = 100
) -> Book:
    catalog = Catalog(desired={"m": desired})
    catalog.answering[Placement.SHADOW, "m"] = frozenset({1, 2})
    server = server or FakeServer()
    server.holds = {"m": {1, 2}}
    book = Book(catalog)
    worker = ShadowWorker(
        catalog,
        Captured(catalog, records),
        server,
        book,
        rows_per_second=1e9,
        chunk_rows=chunk_rows,
        metrics=GatewayMetrics(),
        clock=ManualClock(),
    )
    await worker.follow("m", "r")
    return book


@pytest.mark.parametrize(
    ("desired", "answered_by", "asked"),
    [
        (SHADOW, ONE, TWO),
        (CANARY, ONE, TWO),
        (CANARY, TWO, ONE),
        (BAKING, TWO, ONE),
        (BAKING, ONE, TWO),
    ],
)
async def test_whoever_did_not_answer_is_asked(
    desired: Desired, answered_by: Version, asked: Version
) -> None:
    book = await follow(desired, [record(3, answered_by)])
    (found,) = book.answers
    assert found.version == asked
    assert found.variant == ("challenger" if asked == TWO else "champion")
    assert found.batch_id == "shadow:r:3"
    assert [a.prediction_id for a in found.answers] == ["id-3-1", "id-3-2"]
    np.testing.assert_array_equal(
        inference.unpack(found.answers[1].outputs[0]).ravel(), np.array([12, 14, 16], np.float32)
    )
    assert book.place == {0: 4}


@pytest.mark.parametrize(
    "changes",
    [
        {"is_shadow": True},
        {"variant": "pinned"},
        {"statuses": (3, 3, 3)},
        {"event_time_us": (1, 2, 3)},
        {"version": Version("m", 1, "sha256:1", "other signature")},
        {"version": Version("n", 1, "sha256:1", "s")},
    ],
)
async def test_what_cannot_be_compared_is_not_asked(changes: dict[str, object]) -> None:
    book = await follow(SHADOW, [record(0, **changes)])  # type: ignore[arg-type]
    assert book.answers == []
    assert book.place == {0: 1}


async def test_a_request_that_was_not_recorded_is_passed_over() -> None:
    x = inference.pack("x", np.arange(4, dtype=np.float32))
    book = await follow(SHADOW, [record(0, row_counts=(1, 0, 3), inputs=(x,))])
    assert [a.prediction_id for s in book.answers for a in s.answers] == ["id-0-2"]


async def test_a_refused_request_does_not_take_its_neighbours_with_it() -> None:
    server = FakeServer(refuses=lambda x: Reject("no") if 1.0 in x else None)
    book = await follow(SHADOW, [record(0)], server)
    (found,) = book.answers
    assert [(a.prediction_id, a.status, bool(a.outputs)) for a in found.answers] == [
        ("id-0-1", 3, False),
        ("id-0-2", 0, True),
    ]


async def test_large_batches_are_asked_in_chunks_with_names_of_their_own() -> None:
    server = FakeServer()
    book = await follow(SHADOW, [record(5)], server, chunk_rows=2)
    assert [s.batch_id for s in book.answers] == ["shadow:r:5", "shadow:r:5.1"]
    assert server.asked == [(2, 2), (2, 3)]


async def test_all_records_are_asked_in_order() -> None:
    book = await follow(SHADOW, [record(n) for n in range(5)])
    assert [s.batch_id for s in book.answers] == [f"shadow:r:{n}" for n in range(5)]
    assert book.place == {0: 5}
