"""A monitor that is killed ends where one that nobody disturbed ends, and told the same."""

import asyncio
import random
from collections import defaultdict
from typing import Any

from google.protobuf.message import Message
from tests.integration.monitor import story
from tests.integration.monitor.conftest import SOON, World
from tests.support.eventually import eventually
from tests.unit.monitor import worlds

from ciclo.cloudevents import Envelope, decode
from ciclo.events.v1.performance_degraded_pb2 import PerformanceDegraded
from ciclo.events.v1.rollout_judged_pb2 import STAGE_CANARY, STAGE_SHADOW, RolloutJudged
from ciclo.topics import DEAD_LETTERS, MONITORING

DEGRADED_FROM, SHADOW_FROM, CANARY_FROM, LAST = 20, 40, 52, 60
DAYS = worlds.world(LAST + 1, seed=3, degraded_from=DEGRADED_FROM)

WHEN = {"detect_time", "watermark_time", "exposed_rows", "captured"}
"""What a finding says of the moment at which it was found: how far both topics were read then."""


def deaths(seed: int) -> list[str]:
    """Moments in the order of the story, so that each is reached."""
    chosen = random.Random(seed)
    first_shadow, first_canary = 4 * SHADOW_FROM, 2 * CANARY_FROM
    return [
        f"predictions:{chosen.randrange(4 * DEGRADED_FROM)}",
        "Degraded",
        "Judged",
        f"predictions:{chosen.randrange(first_shadow, first_shadow + 8 * 12)}",
        f"labels:{chosen.randrange(first_canary, first_canary + 2 * 8)}",
    ]


async def test_a_monitor_killed_at_random_moments_ends_where_an_uninterrupted_one_ends(
    two_worlds: list[World],
) -> None:
    calm, troubled = two_worlds
    async with asyncio.TaskGroup() as tasks:
        for world, moments in ((calm, []), (troubled, deaths(seed=7))):
            tasks.create_task(world.live(moments))
            tasks.create_task(play(world))

    assert len(troubled.running) == 6, "five were killed, the sixth lives"
    assert await where_it_ended(troubled) == await where_it_ended(calm)
    told, expected = await told_once(troubled), await told_once(calm)
    assert told.keys() == expected.keys()
    assert {i: facts(*event) for i, event in told.items()} == {
        i: facts(*event) for i, event in expected.items()
    }
    assert evidence(told) == evidence(expected)
    assert sum(isinstance(m, PerformanceDegraded) for _, m in told.values()) == 1
    assert {m.stage for _, m in told.values() if isinstance(m, RolloutJudged)} == {
        STAGE_SHADOW,
        STAGE_CANARY,
    }
    for world in two_worlds:
        assert await world.records(DEAD_LETTERS) == []


async def play(world: World) -> None:
    """Publishes the story; what the registry says waits until what was before it is known."""
    await days(world, 0, SHADOW_FROM)
    await world.say(2, "SHADOW", SHADOW_FROM)
    await until_judged(world, STAGE_SHADOW)
    await days(world, SHADOW_FROM, CANARY_FROM, "SHADOW")
    await world.say(3, "CANARY", SHADOW_FROM)
    await until_judged(world, STAGE_CANARY)
    await days(world, CANARY_FROM, LAST, "CANARY")
    await days(world, LAST, LAST + 1, "CANARY")  # lets go of what waits, with all labels known


async def days(world: World, first: int, end: int, stage: str = "") -> None:
    """Publishes some days and waits until the monitor knows them."""
    for number in range(first, end):
        await world.publish(story.served(number, DAYS[number], stage))
        await world.publish(story.labels(number, DAYS[number]))
    rows = end * worlds.ROWS_A_DAY
    await world.until(lambda h: (h.counts.predictions, h.counts.labels_joined) == (rows, rows))


async def until_judged(world: World, stage: int) -> None:
    async def is_told() -> None:
        found = [decode(r.value, r.headers)[1] for r in await world.records(MONITORING)]
        assert any(isinstance(m, RolloutJudged) and m.stage == stage for m in found)

    await eventually(is_told, SOON)


async def where_it_ended(world: World) -> str:
    """Returns what the monitor holds true, but for the moments at which it was found."""
    health = await world.health()
    assert len(health.losses) > LAST
    health.state.episode.ClearField("open_time")
    for field in WHEN & {*RolloutJudged.DESCRIPTOR.fields_by_name}:
        health.judgement.ClearField(field)
    return str(health)


async def told_once(world: World) -> dict[str, tuple[Envelope, Message]]:
    """Returns all events by id. A kill may send one again: then it is the very same record."""
    sent = defaultdict(set)
    found = {}
    for record in await world.records(MONITORING):
        envelope, message = decode(record.value, record.headers)
        found[envelope.id] = (envelope, message)
        sent[envelope.id].add((record.value, tuple(record.headers)))
    assert {len(records) for records in sent.values()} == {1}
    return found


def facts(envelope: Envelope, message: Message) -> Any:
    """Returns what an event says, but for the moment at which it was found."""
    judged_by_day = isinstance(message, RolloutJudged)
    said = {
        field.name: str(value)
        for field, value in message.ListFields()
        if field.name not in WHEN and not (judged_by_day and field.name in EVIDENCE)
    }
    kind = message.DESCRIPTOR.name
    return kind, envelope.subject, envelope.correlation_id, envelope.causation_id, said


EVIDENCE = ("verdict", "mean_gain", "gain_low", "gain_high", "rows", "blocks_expected", "blocks")
"""Of a judgement: what so many blocks say. That of a day tells as many as are closed by then."""


def evidence(told: dict[str, tuple[Envelope, Message]]) -> dict[int, Any]:
    """Returns what each number of blocks says of the challenger; it says one thing only."""
    by_blocks = defaultdict(set)
    for _, message in told.values():
        if isinstance(message, RolloutJudged):
            by_blocks[message.blocks].add(tuple(getattr(message, name) for name in EVIDENCE))
    assert {len(said) for said in by_blocks.values()} == {1}
    return dict(by_blocks)
