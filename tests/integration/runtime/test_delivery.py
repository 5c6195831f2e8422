"""What becomes of an event on its way through Kafka, a handler and the outbox."""

import asyncio
from datetime import timedelta

from tests.integration.runtime.conftest import Broker
from tests.integration.runtime.ledger_service import InProcess
from tests.support.eventually import eventually
from tests.support.stack import LocalStack

from ciclo.cloudevents import decode
from ciclo.events.v1.drift_detected_pb2 import DriftDetected
from ciclo.topics import DEAD_LETTERS, MONITORING, TRAINING


async def expect_effects(service: InProcess, expected: list[str], seconds: float = 15) -> None:
    async def same() -> None:
        assert await service.effects() == expected

    await eventually(same, timedelta(seconds=seconds))


async def test_an_event_delivered_twice_has_its_effect_once(
    broker: Broker, service: InProcess
) -> None:
    for _ in range(2):
        await broker.publish(DriftDetected(episode_id="a"), event_id="1")
    await broker.publish(DriftDetected(episode_id="b"), event_id="2")

    await expect_effects(service, ["a", "b"])
    assert service.handled("duplicate") == 1


async def test_an_event_that_must_wait_holds_up_its_successors_and_keeps_its_place(
    broker: Broker, service: InProcess
) -> None:
    for number, episode in enumerate(["first", "wait", "last"]):
        await broker.publish(DriftDetected(episode_id=episode), event_id=str(number))

    await expect_effects(service, ["first", "wait", "last"])
    assert service.handled("retried") == 3


async def test_what_cannot_be_handled_is_kept_whole_and_the_rest_flows(
    broker: Broker, service: InProcess
) -> None:
    garbage = [("ce_type", b"ciclo.events.v1.DriftDetected"), ("odd", b"\xff\x00")]
    await broker.publish_raw(MONITORING, b"k", b"\xff\xff", garbage)
    await broker.publish(DriftDetected(episode_id="bad"), event_id="7")
    await broker.publish(DriftDetected(episode_id="good"), event_id="8")

    await expect_effects(service, ["good"])

    async def both_are_there() -> None:
        assert len(await broker.records(DEAD_LETTERS)) == 2

    await eventually(both_are_there)
    broken, refused = await broker.records(DEAD_LETTERS)
    assert (broken.key, broken.value) == (b"k", b"\xff\xff")
    assert list(broken.headers[:2]) == garbage
    facts = dict(broken.headers)
    assert facts["dl_reason"] == b"MALFORMED_EVENT"
    assert facts["dl_topic"] == MONITORING.name(broker.env).encode()
    assert (facts["dl_partition"], facts["dl_offset"], facts["dl_attempts"]) == (b"0", b"0", b"1")
    assert facts["dl_service"] == b"ledger"
    envelope, message = decode(refused.value, refused.headers)
    assert (envelope.id, message) == ("7", DriftDetected(episode_id="bad"))
    assert b"this episode is bad" in dict(refused.headers)["dl_error"]


async def test_nothing_is_lost_while_kafka_is_dead(
    broker: Broker, service: InProcess, stack: LocalStack
) -> None:
    await broker.publish(DriftDetected(episode_id="before"), event_id="1")
    await expect_effects(service, ["before"])

    await asyncio.to_thread(stack.kill, "kafka")
    await asyncio.to_thread(stack.stop, "kafka")
    await service.database.transaction(
        lambda tx: tx.emit(DriftDetected(episode_id="meanwhile"), subject="flights")
    )
    await asyncio.to_thread(stack.start, "kafka")
    await broker.publish(DriftDetected(episode_id="after"), event_id="2")

    async def all_arrived() -> None:
        assert sorted(await service.effects()) == ["after", "before", "meanwhile"]
        assert await service.database.outbox() == []

    await eventually(all_arrived, timedelta(seconds=60))
    assert len(await broker.records(TRAINING)) == 3
