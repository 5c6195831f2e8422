import pytest
from aiokafka import ConsumerRecord
from sqlalchemy import insert, select
from tests.unit.runtime.conftest import EFFECTS, drift, raw_record, record_of

from ciclo.cloudevents import Envelope
from ciclo.errors import Fatal, Reject, Retry
from ciclo.events.v1.drift_detected_pb2 import DriftDetected
from ciclo.events.v1.episode_closed_pb2 import EpisodeClosed
from ciclo_runtime.clock import ManualClock
from ciclo_runtime.database import Database
from ciclo_runtime.dead_letters import DeadLetters
from ciclo_runtime.handling import Outcome, RecordHandler, Route
from ciclo_runtime.ledger import Outgoing, pending
from ciclo_runtime.metrics import ServiceMetrics
from ciclo_runtime.transaction import Tx

MAX_FAILURES = 3


class Handled:
    """A handler that does what it is told to, after having written something."""

    def __init__(self) -> None:
        self.raises: Exception | None = None

    def on_drift_detected(self, envelope: Envelope, episode_id: str, tx: Tx) -> None:
        tx.connection.execute(insert(EFFECTS).values(episode_id=episode_id))
        if self.raises:
            raise self.raises


@pytest.fixture
def handled() -> Handled:
    return Handled()


@pytest.fixture
def handler(
    database: Database, metrics: ServiceMetrics, clock: ManualClock, handled: Handled
) -> RecordHandler:
    def decode(message: DriftDetected) -> str:
        if message.episode_id == "undecodable":
            raise Reject("no such episode", field="episode_id")
        return message.episode_id

    return RecordHandler(
        database=database,
        routes={"ciclo.events.v1.DriftDetected": Route(handled.on_drift_detected, decode)},
        consumer="trainer",
        dead_letters=DeadLetters(database, metrics=metrics, clock=clock),
        metrics=metrics,
        clock=clock,
        max_failures=MAX_FAILURES,
    )


async def effects(database: Database) -> list[str]:
    return await database.read(lambda tx: list(tx.execute(select(EFFECTS)).scalars()))


async def letters(database: Database) -> list[Outgoing]:
    return await database.read(lambda connection: pending(connection, 10))


async def test_a_handler_gets_what_decode_made_and_a_repeat_has_no_effect(
    handler: RecordHandler, database: Database
) -> None:
    assert await handler.handle(drift("a", 0)) is Outcome.DONE
    assert await handler.handle(drift("a", 1)) is Outcome.DUPLICATE

    assert await effects(database) == ["a"]


async def test_a_type_without_a_route_is_skipped_even_if_nobody_knows_it(
    handler: RecordHandler, database: Database
) -> None:
    unknown = raw_record(b"?", (("ce_type", b"ciclo.events.v9.NotYetInvented"),))

    assert await handler.handle(record_of(EpisodeClosed())) is Outcome.SKIPPED
    assert await handler.handle(unknown) is Outcome.SKIPPED
    assert await letters(database) == []


async def test_a_retry_leaves_nothing_behind_and_the_event_can_still_be_handled(
    handler: RecordHandler, database: Database, handled: Handled
) -> None:
    handled.raises = Retry("the registry is away")
    for attempt in range(1, 20):
        assert await handler.handle(drift("a")) is Outcome.RETRIED
        assert handler.attempts("t.ciclo.monitoring.v1", 0) == attempt
    assert await effects(database) == []

    handled.raises = None
    assert await handler.handle(drift("a")) is Outcome.DONE
    assert await effects(database) == ["a"]
    assert handler.attempts("t.ciclo.monitoring.v1", 0) == 0


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (drift("undecodable"), b"INVALID_ARGUMENT"),
        (raw_record(b"\xff", (("ce_type", b"ciclo.events.v1.DriftDetected"),)), b"MALFORMED_EVENT"),
        (raw_record(b"", ()), b"MALFORMED_EVENT"),
        (raw_record(None, ()), b"MALFORMED_EVENT"),
    ],
)
async def test_what_cannot_be_read_becomes_a_dead_letter_at_once(
    handler: RecordHandler, database: Database, record: ConsumerRecord, reason: bytes
) -> None:
    assert await handler.handle(record) is Outcome.REJECTED

    (letter,) = await letters(database)
    assert letter.value == record.value
    assert letter.headers[: len(record.headers)] == record.headers
    assert dict(letter.headers)["dl_reason"] == reason


async def test_an_unexpected_failure_is_tried_again_a_few_times_and_then_put_aside(
    handler: RecordHandler, database: Database, handled: Handled
) -> None:
    handled.raises = ZeroDivisionError("a bug")
    outcomes = [await handler.handle(drift("a")) for _ in range(MAX_FAILURES)]
    handled.raises = None

    assert outcomes == [Outcome.FAILED] * (MAX_FAILURES - 1) + [Outcome.REJECTED]
    (letter,) = await letters(database)
    assert dict(letter.headers)["dl_attempts"] == str(MAX_FAILURES).encode()
    assert await handler.handle(drift("b", 1)) is Outcome.DONE
    assert await effects(database) == ["b"]


async def test_waiting_does_not_use_up_the_tries_of_an_unexpected_failure(
    handler: RecordHandler, handled: Handled
) -> None:
    handled.raises = Retry("away")
    for _ in range(MAX_FAILURES + 1):
        await handler.handle(drift("a"))
    handled.raises = ZeroDivisionError("a bug")

    assert await handler.handle(drift("a")) is Outcome.FAILED


async def test_fatal_is_handed_up(handler: RecordHandler, handled: Handled) -> None:
    handled.raises = Fatal("the disk is another's")

    with pytest.raises(Fatal, match="another's"):
        await handler.handle(drift("a"))


async def test_a_rejected_event_can_be_sent_again_once_its_cause_is_mended(
    handler: RecordHandler, database: Database, handled: Handled
) -> None:
    handled.raises = Reject("too early")
    await handler.handle(drift("a", 0))
    handled.raises = None

    assert await handler.handle(drift("a", 1)) is Outcome.DONE
    assert await effects(database) == ["a"]
