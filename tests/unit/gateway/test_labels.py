"""Labels: which reports are taken, and that each becomes events once."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from tests.unit.gateway.fakes import memory

from ciclo.errors import NotFound
from ciclo.events.v1.labels_reported_pb2 import LabelsReported
from ciclo_gateway.adapters.label_book import SqliteLabelBook
from ciclo_gateway.catalog import Catalog
from ciclo_gateway.domain.desired import Desired
from ciclo_gateway.domain.event_times import DAY_US
from ciclo_gateway.domain.labels import (
    EVENT_LABELS,
    MAX_KEY_CHARACTERS,
    MAX_ROW,
    BadLabel,
    Truth,
    require_labels,
)
from ciclo_gateway.handlers import Handlers
from ciclo_gateway.metrics import GatewayMetrics
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.database import Database
from ciclo_runtime.transaction import MAX_EVENT_BYTES

NOW_US = 1_000 * DAY_US
GOOD = Truth("F", "", 0, 1.0, 1)


@pytest_asyncio.fixture
async def database() -> AsyncIterator[Database]:
    database = memory()
    await database.start()
    yield database
    await database.stop()


def handlers(database: Database, metrics: GatewayMetrics | None = None) -> Handlers:
    unused: Any = None
    return Handlers(
        Catalog(desired={"m": Desired("m", 1)}),
        unused,
        unused,
        unused,
        SqliteLabelBook(database),
        metrics=metrics or GatewayMetrics(),
        clock=ManualClock(),
    )


async def stored(database: Database) -> list[LabelsReported]:
    return [m for _, m in await database.outbox() if isinstance(m, LabelsReported)]


async def test_a_report_is_stored_once_and_split_into_events_that_fit(database: Database) -> None:
    labels: Sequence[Truth] = [Truth(f"F{n:0255d}", "", 0, 1.0, 1) for n in range(EVENT_LABELS + 1)]
    metrics = GatewayMetrics()
    served = handlers(database, metrics)
    for _ in range(2):
        assert await served.report_labels("m", labels, "monday") == EVENT_LABELS + 1
    assert [len(m.labels) for m in await stored(database)] == [EVENT_LABELS, 1]
    assert {m.model for m in await stored(database)} == {"m"}
    assert metrics.labels_accepted.labels("m")._value.get() == EVENT_LABELS + 1
    for _ in range(2):
        await served.report_labels("m", labels[:1], "")
    assert len(await stored(database)) == 4


@pytest.mark.parametrize("letter", ["a", "é", "鍵", "😀"])
async def test_a_report_of_the_longest_keys_becomes_events_that_kafka_takes(
    database: Database, letter: str
) -> None:
    key = letter * MAX_KEY_CHARACTERS
    far = Truth("", key, MAX_ROW, 1.0, int(ManualClock().now().timestamp() * 1e6))
    labels = [far] * (2 * EVENT_LABELS)
    assert await handlers(database).report_labels("m", labels, "") == len(labels)
    events = await stored(database)
    assert max(event.ByteSize() for event in events) <= MAX_EVENT_BYTES
    assert [label.prediction_id for event in events for label in event.labels] == [key] * len(
        labels
    )


async def test_a_report_with_a_bad_label_stores_nothing(database: Database) -> None:
    served = handlers(database)
    with pytest.raises(BadLabel):
        await served.report_labels("m", [GOOD, Truth("", "", 0, 1, 1)], "a")
    with pytest.raises(BadLabel):
        await served.report_labels("m", [GOOD, Truth("F", "", 0, 1, 10**18)], "a")
    assert await database.outbox() == []
    with pytest.raises(NotFound):
        await served.report_labels("n", [GOOD], "b")


@pytest.mark.parametrize(
    ("label", "field", "about"),
    [
        (Truth("", "", 0, 1.0, 1), "row_key", "names no row"),
        (Truth("F", "p", 0, 1.0, 1), "row_key", "names a row twice"),
        (Truth("F" * 257, "", 0, 1.0, 1), "row_key", "more than 256 characters"),
        (Truth("", "p", 3_000_000_000, 1.0, 1), "row", "has row 3000000000"),
        (Truth("", "p", MAX_ROW + 1, 1.0, 1), "row", "expected its index within the request"),
        (Truth("F", "", 0, 0.5, 1), "value", "expected 0 or 1"),
        (Truth("F", "", 0, float("nan"), 1), "value", "expected 0 or 1"),
        (Truth("F", "", 0, 1.0, 0), "event_time_us", "has no event time"),
        (Truth("F", "", 0, 1.0, -1), "event_time_us", "before 1970"),
        (Truth("F", "", 0, 1.0, NOW_US + DAY_US + 1), "event_time_us", "is 1 days ahead"),
        (
            Truth("F", "", 0, 1.0, NOW_US * 1_000),
            "event_time_us",
            "is 999000 days ahead: expected microseconds since 1970, at most one day ahead",
        ),
    ],
)
def test_a_bad_label_is_told_what_is_wrong(label: Truth, field: str, about: str) -> None:
    with pytest.raises(BadLabel, match=about) as refused:
        require_labels([GOOD, label], NOW_US)
    assert refused.value.field == f"labels[1].{field}"


@pytest.mark.parametrize(
    "label",
    [Truth("", "p", MAX_ROW, 0.0, 1), Truth("F", "", 0, 1.0, NOW_US + DAY_US)],
)
def test_a_label_at_the_limits_is_taken(label: Truth) -> None:
    require_labels([label], NOW_US)


@pytest.mark.parametrize("count", [0, 10_001])
def test_a_report_has_at_least_one_label_and_a_bounded_number(count: int) -> None:
    with pytest.raises(BadLabel, match="expected 1 to 10000"):
        require_labels([GOOD] * count, NOW_US)
