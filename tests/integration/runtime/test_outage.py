"""Kafka is away for longer than any session or request waits: whoever needs it loses nothing.

One outage for everybody, because each costs its whole length.
"""

import asyncio
import time
from datetime import timedelta
from typing import Any

from deltalake import DeltaTable
from tests.integration.feature_store.conftest import (  # noqa: F401 -- fixtures
    FeatureStore,
    Publisher,
    blobs,
    feature_store,
    publisher,
    stub,
)
from tests.integration.feature_store.test_service import (
    is_known,
    online_request,
    publish_flights,
    stored,
)
from tests.integration.runtime.conftest import Broker
from tests.integration.runtime.ledger_service import InProcess
from tests.support.eventually import eventually
from tests.support.stack import LocalStack
from tests.unit.feature_store.examples import HOUR_US, START_US

from ciclo.events.v1.drift_detected_pb2 import DriftDetected
from ciclo.topics import TRAINING
from ciclo_runtime.kafka import REQUEST_TIMEOUT, SESSION_TIMEOUT

OUTAGE = REQUEST_TIMEOUT + SESSION_TIMEOUT
"""Longer than each of them; at the time of writing 20 s."""

RECOVERY = timedelta(seconds=60)
"""Within which everybody is back: reconnections wait up to 5 s, a request for its timeout."""


async def test_a_long_absence_of_kafka_loses_nothing_and_doubles_nothing(
    stack: LocalStack,
    broker: Broker,
    service: InProcess,
    feature_store: FeatureStore,  # noqa: F811 -- fixtures
    stub: Any,  # noqa: F811
    publisher: Publisher,  # noqa: F811
) -> None:
    feature_store.know_definitions()
    await feature_store.start()
    await publisher.apply_loop()
    await publish_flights(publisher, 0, 20)
    await broker.publish(DriftDetected(episode_id="before"), event_id="1")
    await eventually(lambda: is_known(stub, hour_us(19)))
    await eventually(lambda: has_effects(service, "before"))
    await eventually(lambda: has_said_all(service))

    began = await take_away(stack)
    await service.database.transaction(
        lambda tx: tx.emit(DriftDetected(episode_id="meanwhile"), subject="flights")
    )
    known: list[int] = []
    await eventually(lambda: has_lasted(began, known, stub), 2 * OUTAGE)
    assert set(known) == {hour_us(19)}, "features were answered all the while"
    assert feature_store.process.poll() is None
    assert len(await service.database.outbox()) == 1
    await asyncio.to_thread(stack.start, "kafka")

    await broker.publish(DriftDetected(episode_id="after"), event_id="2")
    await publish_flights(publisher, 20, 40)
    await eventually(lambda: has_effects(service, "after", "before", "meanwhile"), RECOVERY)
    await eventually(lambda: has_said_all(service), RECOVERY)
    assert len(await broker.records(TRAINING)) == 3
    await eventually(lambda: is_known(stub, hour_us(39)), RECOVERY)
    assert feature_store.stop() == 0
    assert_each_row_is_there_once(feature_store, 40)


def hour_us(hour: int) -> int:
    return START_US + hour * HOUR_US


async def take_away(stack: LocalStack) -> float:
    """Returns when Kafka was last there."""
    await asyncio.to_thread(stack.kill, "kafka")
    began = time.monotonic()
    await asyncio.to_thread(stack.stop, "kafka")
    return began


async def has_lasted(began: float, known: list[int], stub: Any) -> None:  # noqa: F811
    answer = await stub.GetOnlineFeatures(online_request(hour_us(19), ["EWR"]))
    known += answer.view_times[0].event_time_us
    assert time.monotonic() >= began + OUTAGE.total_seconds()


async def has_effects(service: InProcess, *expected: str) -> None:
    assert sorted(await service.effects()) == list(expected)


async def has_said_all(service: InProcess) -> None:
    assert await service.database.outbox() == []


def assert_each_row_is_there_once(store: FeatureStore, flights: int) -> None:
    ids = [f"id-{flight}" for flight in range(flights)]
    assert sorted(stored(store, "predictions", "prediction_id")) == sorted(ids)
    keys = [str(flight) for flight in range(flights)]
    assert sorted(stored(store, "labels", "row_key")) == sorted(keys)
    view = DeltaTable(str(store.home / "delta" / "features" / "weather"))
    offsets = view.to_pyarrow_dataset().to_table()["_offset"].to_pylist()
    assert sorted(offsets) == sorted([*range(flights)] * 2)
