"""Records that nobody can use are put aside with a reason; the good ones around them all count."""

from collections import Counter
from datetime import timedelta
from typing import Any

import numpy as np
from google.protobuf.message import Message
from tests.integration.monitor import story
from tests.integration.monitor.conftest import World
from tests.support.eventually import eventually
from tests.unit.monitor import worlds

from ciclo.cloudevents import Envelope, encode
from ciclo.events.v1.labels_reported_pb2 import Label, LabelsReported
from ciclo.events.v1.predictions_lost_pb2 import PredictionsLost
from ciclo.events.v1.predictions_served_pb2 import PredictionsServed
from ciclo.tensors import pack_tensor
from ciclo.topics import DEAD_LETTERS, LABELS, PREDICTIONS
from ciclo_runtime.clock import SystemClock

*DAYS, DAY_AFTER = worlds.world(11, seed=5)
NOISE = np.random.default_rng(1).bytes(200)
FAR_US = 2**62
"""An event time that no timestamp can say."""


def damaged(**fields: Any) -> PredictionsServed:
    """A batch like the first of the last day, but for some fields."""
    batch = next(story.served(9, DAYS[9]))
    for name, value in fields.items():
        batch.ClearField(name)
        getattr(batch, name).extend(value)
    return batch


def headers(message: Message) -> list[tuple[str, bytes]]:
    envelope = Envelope("bad", "/ciclo/test/tests", story.NAME, SystemClock().now())
    return list(encode(envelope, message).headers)


def batches() -> list[tuple[PredictionsServed, str]]:
    """Answers that contradict themselves or the model, each with the reason that is given."""
    good = damaged()
    rows = good.inputs[0]
    torn = pack_tensor("x", DAYS[9]["x"][:50])
    torn.contents = torn.contents[:-1]
    unknown_model = damaged()
    unknown_model.version.model = "nobody"
    no_version = damaged()
    no_version.version.version = 2**32 - 1
    return [
        (damaged(prediction_ids=good.prediction_ids[1:]), "BAD_ROWS"),
        (damaged(event_time_us=good.event_time_us[1:]), "BAD_ROWS"),
        (damaged(event_time_us=[FAR_US] * 10), "BAD_ROWS"),
        (damaged(row_counts=[2**32 - 1] * 10), "MALFORMED_TENSOR"),
        (damaged(row_counts=[4] * 10), "MALFORMED_TENSOR"),
        (damaged(inputs=[rows, torn]), "MALFORMED_TENSOR"),
        (damaged(inputs=[rows]), "BAD_ROWS"),
        (damaged(inputs=[rows, pack_tensor("x", ["warm"] * 50)]), "BAD_ROWS"),
        (damaged(outputs=[]), "BAD_ROWS"),
        (damaged(outputs=[pack_tensor("leaves", np.full(50, np.nan))]), "BAD_ROWS"),
        (unknown_model, "NOT_FOUND"),
        (no_version, "BAD_ROWS"),
    ]


STRANGERS = 3
NOW_US = int(DAYS[0]["times"][0])

REFUSED = LabelsReported(
    model=story.NAME,
    labels=[
        Label(row_key="0/0", value=0.5, event_time_us=NOW_US),
        Label(row_key="0/0", value=float("nan"), event_time_us=NOW_US),
        Label(value=1.0, event_time_us=NOW_US),
        Label(row_key="0/0", value=1.0, event_time_us=FAR_US),
    ],
)
UNMATCHED = LabelsReported(
    model=story.NAME,
    labels=[Label(row_key=f"x{n}", value=1.0, event_time_us=NOW_US) for n in range(STRANGERS)],
)


async def test_bad_records_are_put_aside_with_a_reason_and_the_good_ones_around_all_count(
    world: World,
) -> None:
    world.start()
    wrong = batches()
    for number, day in enumerate(DAYS):
        await world.publish(story.served(number, day))
        await world.publish(story.labels(number, day))
        if number < len(wrong):
            await world.publish([wrong[number][0]])
        if number == 0:
            await publish_noise(world)
            await world.publish([REFUSED, UNMATCHED, LabelsReported(model="nobody")])
            await world.publish([PredictionsLost(model=story.NAME, count=1)])
    await world.publish([bad for bad, _ in wrong[len(DAYS) :]])
    await world.publish(story.served(0, DAYS[0]))  # told again: counts once

    rows = len(DAYS) * worlds.ROWS_A_DAY
    await world.until(lambda h: (h.counts.predictions, h.counts.labels_joined) == (rows, rows))
    await world.publish(story.served(len(DAYS), DAY_AFTER))  # labels for nothing are given up
    await world.until(lambda h: h.counts.labels_unmatched == STRANGERS)

    expected = Counter([reason for _, reason in wrong] + NOISE_REASONS + ["NOT_FOUND"])

    async def are_put_aside() -> None:
        reasons = [dict(r.headers)["dl_reason"].decode() for r in await world.records(DEAD_LETTERS)]
        assert Counter(reasons) == expected, world.log()[-3000:]

    await eventually(are_put_aside, timedelta(seconds=20))
    shown = world.metrics()
    for reason, refused in (
        ("LABEL_NOT_BINARY", 2),
        ("LABEL_NAMES_NO_ROW", 1),
        ("EVENT_TIME_OUT_OF_RANGE", 1),
    ):
        line = f'ciclo_monitor_rows_rejected_total{{model="churn",reason="{reason}"}} {refused}.0'
        assert line in shown
    assert [one.exitcode for one in world.running] == [None], "one monitor, which never stopped"


NOISE_REASONS = ["MALFORMED_EVENT"] * 5 + ["NOT_FOUND"]
"""Answers can be read as labels, of a model with an impossible name."""


async def publish_noise(world: World) -> None:
    """Publishes records that are no events of ours, in both topics."""
    for topic, right in ((PREDICTIONS, PredictionsServed()), (LABELS, LabelsReported())):
        await world.publish_raw(topic, NOISE, [])
        await world.publish_raw(topic, NOISE, headers(right))
    await world.publish_raw(PREDICTIONS, UNMATCHED.SerializeToString(), headers(damaged()))
    await world.publish_raw(LABELS, damaged().SerializeToString(), headers(UNMATCHED))
