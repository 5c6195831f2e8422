"""Whatever fails and whenever the process dies: each captured call is published once."""

from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gateway.fakes import FakeSpool, FakeTopic, memory

from ciclo.errors import Retry
from ciclo.events.v1.predictions_lost_pb2 import PredictionsLost
from ciclo_gateway.adapters.replay import SqliteShadowBook
from ciclo_gateway.adapters.shipping_ledger import SqliteShippingLedger
from ciclo_gateway.adapters.tables import HOUR_US
from ciclo_gateway.catalog import Catalog
from ciclo_gateway.metrics import GatewayMetrics
from ciclo_gateway.ports.shipping import Loss, Range, WriteFailureCount
from ciclo_gateway.shipping import Shipper, SpoolLimits
from ciclo_gateway.write_failures import WriteFailures
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.database import Database

T = TypeVar("T")
FILE = "serve-0000000000000001.log"
GENEROUS = SpoolLimits(segment_bytes=10**9, total_bytes=10**9)


def line(number: int, model: str = "m", event_time_us: int | str = "-") -> bytes:
    return f"1 id-{number} 5 5 200 0 - 1 {model} 1 champion - {event_time_us} 9 9 - - .\n".encode()


def shipper(
    database: Database, spool: FakeSpool, topic: FakeTopic, limits: SpoolLimits = GENEROUS
) -> Shipper:
    return Shipper(
        spool,
        SqliteShippingLedger(database),
        topic,
        Catalog(),
        limits=limits,
        poll_interval=timedelta(0),
        metrics=GatewayMetrics(),
        clock=ManualClock(),
    )


def published(topic: FakeTopic) -> Counter[str]:
    return Counter(i for event in topic.events for i in event.message.prediction_ids)


async def lost(database: Database) -> list[tuple[str, int, str]]:
    return [
        (m.model, m.count, m.reason)
        for _, m in await database.outbox()
        if isinstance(m, PredictionsLost)
    ]


class Killed(Exception):
    """The process died here."""


class Mortal(SqliteShippingLedger):
    """A ledger whose process dies before or after its n-th writing."""

    def __init__(self, database: Database, deaths: dict[int, str]) -> None:
        super().__init__(database)
        self.deaths = deaths
        self.writes = 0

    async def begin(
        self, segment_id: int, name: str, start: int, end: int, topic_offset: int
    ) -> Range:
        return await self._mortal(super().begin(segment_id, name, start, end, topic_offset))

    async def end(self, done: Range, losses: Sequence[Loss], newest: Mapping[str, int]) -> None:
        await self._mortal(super().end(done, losses, newest))

    async def _mortal(self, write: Coroutine[Any, Any, T]) -> T:
        self.writes += 1
        death = self.deaths.get(self.writes)
        if death == "before":
            write.close()
            raise Killed
        found = await write
        if death == "after":
            raise Killed
        return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
    st.dictionaries(st.integers(1, 8), st.sampled_from(["before", "after"]), max_size=4),
    st.lists(st.integers(0, 2), max_size=4),
    st.booleans(),
)
async def test_every_call_is_published_once_whatever_dies(
    bursts: list[int], deaths: dict[int, str], failures: list[int], has_two_models: bool
) -> None:
    database = memory()
    await database.start()
    spool, topic = FakeSpool(), FakeTopic(plan=list(failures))
    ledger = Mortal(database, deaths)
    ship = shipper(database, spool, topic)
    ship._ledger = ledger
    wanted: list[str] = []
    for burst in [*bursts, 0]:
        for _ in range(burst):
            model = "n" if has_two_models and len(wanted) % 2 else "m"
            spool.write(FILE, line(len(wanted), model))
            wanted.append(f"id-{len(wanted)}")
        for _ in range(20):
            try:
                if not await ship.step():
                    break
            except Retry:
                ship._is_in_doubt = True
            except Killed:
                ship = shipper(database, spool, topic)
                ship._ledger = ledger
    assert published(topic) == Counter(wanted)
    ids = [event.id for event in topic.events]
    assert len(set(ids)) == len(ids)
    assert await lost(database) == []
    await database.stop()


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("mn"), st.integers(0, 9)), max_size=12), st.integers(0, 9)
)
async def test_a_shadow_begins_before_all_that_it_asks_and_not_at_the_beginning(
    calls: list[tuple[str, int]], since_hours: int
) -> None:
    database = memory()
    await database.start()
    spool, topic = FakeSpool(), FakeTopic()
    ship = shipper(database, spool, topic)
    for number, (model, hours) in enumerate(calls):
        spool.write(FILE, line(number, model, hours * HOUR_US + number))
        await ship.step()
    found = await SqliteShadowBook(database).offsets("r", "m", since_hours * HOUR_US)
    start = found.get(0, 0)
    wanted = [n for n, (model, hours) in enumerate(calls) if model == "m" and hours >= since_hours]
    assert start == wanted[0] if wanted else start <= len(calls)
    await database.stop()


async def test_a_line_that_is_still_being_written_waits_for_its_end() -> None:
    database = memory()
    await database.start()
    spool, topic = FakeSpool(), FakeTopic()
    ship = shipper(database, spool, topic)
    spool.write(FILE, line(1) + line(2)[:20])
    assert await ship.step()
    assert not await ship.step()
    spool.write(FILE, line(2)[20:])
    assert await ship.step()
    assert published(topic) == Counter(["id-1", "id-2"])
    assert await lost(database) == []


async def test_the_torn_end_of_a_closed_file_and_nonsense_are_counted_by_model() -> None:
    database = memory()
    await database.start()
    spool, topic = FakeSpool(), FakeTopic()
    ship = shipper(database, spool, topic)
    spool.write(FILE, line(1) + b"nonsense\n" + line(2) + line(3)[:-4])
    spool.write("serve-0000000000000002.log", line(4))
    while await ship.step():
        pass
    assert published(topic) == Counter(["id-1", "id-2", "id-4"])
    assert sorted(await lost(database)) == [("-", 1, "TORN_RECORD"), ("m", 1, "TORN_RECORD")]


async def test_a_long_file_is_rotated_and_goes_on_where_it_was() -> None:
    database = memory()
    await database.start()
    spool, topic = FakeSpool(), FakeTopic()
    ship = shipper(database, spool, topic, SpoolLimits(len(line(1)) * 2, 10**9))
    for number in range(10):
        spool.write(FILE, line(number))
        while await ship.step():
            pass
    assert published(topic) == Counter(f"id-{n}" for n in range(10))
    assert len(spool.files) == 4


@pytest.mark.parametrize("is_kafka_away", [False, True])
async def test_a_full_spool_gives_up_shipped_files_first_and_counts_the_others(
    is_kafka_away: bool,
) -> None:
    database = memory()
    await database.start()
    spool, topic = FakeSpool(), FakeTopic()
    limits = SpoolLimits(segment_bytes=len(line(1)) * 2, total_bytes=len(line(1)) * 5)
    ship = shipper(database, spool, topic, limits)
    if is_kafka_away:
        topic.plan = [0] * 1000
    for number in range(10, 30):
        spool.write(FILE, line(number))
        try:
            while await ship.step():
                pass
        except Retry:
            ship = shipper(database, spool, topic, limits)
    assert sum(map(len, spool.files.values())) <= limits.total_bytes + len(line(10)) * 3
    if is_kafka_away:
        topic.plan = []
        while await ship.step():
            pass
    dropped = sum(count for _, count, reason in await lost(database) if reason == "SPOOL_FULL")
    assert sum(published(topic).values()) + dropped == 20
    assert max(published(topic).values()) == 1
    assert bool(dropped) == is_kafka_away


async def test_lines_that_envoy_could_not_write_are_counted_once() -> None:
    database = memory()
    await database.start()
    spool = FakeSpool()
    looks = [("a", 0), ("a", 3), None, ("a", 3), ("a", 5), ("b", 1), ("b", 1), ("c", 7), ("d", 0)]
    for look in looks:  # b counts up to less than a before it is asked, c to more than b
        spool.failures = WriteFailureCount(*look) if look else None
        await WriteFailures(spool, SqliteShippingLedger(database), GatewayMetrics()).step()
    assert await lost(database) == [("-", n, "SPOOL_FULL") for n in (3, 2, 1, 7)]
    await database.stop()
