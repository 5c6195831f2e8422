"""What others send that cannot be used: refused or put aside with the reason, and nothing waits."""

from typing import Any

import grpc
import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from google.protobuf.message import Message
from tests.integration.feature_store.conftest import FeatureStore, Publisher
from tests.integration.feature_store.test_service import (
    answered,
    is_known,
    online_request,
    stored,
    weather,
)
from tests.support.eventually import eventually
from tests.unit.feature_store.examples import (
    HOUR_US,
    START_US,
    feature_rows_event,
    labels_event,
)

from ciclo.tensors import pack_column, unpack_column
from ciclo.topics import DEAD_LETTERS, FEATURES, LABELS, PREDICTIONS

NOON_US = START_US + 12 * HOUR_US


@pytest.fixture
async def serving(feature_store: FeatureStore, publisher: Publisher) -> FeatureStore:
    """A service that knows a loop."""
    feature_store.know_definitions()
    await feature_store.start()
    await publisher.apply_loop()
    return feature_store


async def dead_letters(store: FeatureStore) -> list[ConsumerRecord]:
    topic = DEAD_LETTERS.name(store.env)
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=store.bootstrap, auto_offset_reset="earliest"
    ) as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        found: list[ConsumerRecord] = []
        while len(found) < sum(ends.values()):
            polled = await consumer.getmany(timeout_ms=200)
            found += [record for records in polled.values() for record in records]
        return found


def as_sent(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


async def test_records_that_cannot_become_rows_are_put_aside_whole_and_the_rest_flows(
    serving: FeatureStore, stub: Any, publisher: Publisher
) -> None:
    bundle = publisher.blobs.bundle_digest
    unknown_variant = answered("bad-1", 1, bundle)
    unknown_variant.variant = 99
    uneven = answered("bad-2", 1, bundle)
    uneven.event_time_us.append(1)
    other_type = feature_rows_event(
        "weather", [START_US], {"origin": ["EWR"]}, {"humid": np.array(["wet"], dtype=object)}
    )
    far_row = labels_event(("f1", 1.0, START_US))
    far_row.labels.add(prediction_id="x", row=3_000_000_000, value=1.0, event_time_us=START_US)
    bad_text = b"\x0a\x02\xff\xff"  # field 1, a text, is not UTF-8

    await publisher.publish(weather(1), "weather")
    for message in (answered("f1", 1, bundle), unknown_variant, uneven, far_row):
        await publisher.publish(message)
    await publisher.publish_bytes(PREDICTIONS, bad_text, like=unknown_variant)
    await publisher.publish_bytes(LABELS, bad_text, like=far_row)
    await publisher.publish(other_type, "weather")
    await publisher.publish_bytes(FEATURES, b"\xff", like=other_type)
    await publisher.publish(answered("f2", 2, bundle))
    await publisher.publish(labels_event(("f2", 0.0, START_US)))
    await publisher.publish(weather(12), "weather")

    await eventually(lambda: is_known(stub, NOON_US))

    async def all_are_there() -> None:
        assert len(await dead_letters(serving)) == 6

    await eventually(all_are_there)
    letters = {(one.value, dict(one.headers)["dl_reason"]) for one in await dead_letters(serving)}
    assert letters == {
        (as_sent(unknown_variant), b"UNSTORABLE_RECORD"),
        (as_sent(uneven), b"BAD_ANSWERS"),
        (as_sent(other_type), b"BAD_FEATURE_ROWS"),
        (bad_text, b"MALFORMED_EVENT"),
        (b"\xff", b"MALFORMED_EVENT"),
    }
    serving.kill()
    await serving.start()
    assert serving.stop() == 0
    assert sorted(stored(serving, "predictions", "prediction_id")) == ["id-f1", "id-f2"]
    assert sorted(stored(serving, "labels", "row_key")) == ["f1", "f2"]


async def test_an_unknown_entity_has_missing_features_and_a_missing_one_is_refused(
    serving: FeatureStore, stub: Any, publisher: Publisher
) -> None:
    await publisher.publish(weather(12), "weather")
    await eventually(lambda: is_known(stub, NOON_US))
    for as_of_us in (NOON_US, None):
        answer = await stub.GetOnlineFeatures(online_request(as_of_us, ["EWR", "atlantis"]))
        humid, sky, *_ = (unpack_column(column).tolist() for column in answer.features)
        assert humid == [np.float32(12.1), pytest.approx(float("nan"), nan_ok=True)]
        assert sky == ["", ""]
        assert list(answer.view_times[0].event_time_us) == [NOON_US, 0]
    await is_refused(stub, "carrier is missing", origin=["EWR"])
    await is_refused(stub, r"joined by origin \(text\)", origin=[7], carrier=["UA"])
    await is_refused(stub, "expected equal lengths", origin=["EWR", "JFK"], carrier=["UA"])


async def is_refused(stub: Any, words: str, **entities: list[Any]) -> None:
    request = online_request(NOON_US, [])
    del request.entities[:]
    request.entities.extend(pack_column(name, values) for name, values in entities.items())
    with pytest.raises(grpc.aio.AioRpcError, match=words) as refused:
        await stub.GetOnlineFeatures(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
