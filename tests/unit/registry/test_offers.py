"""Which version begins a rollout by itself once another one has ended."""

import pytest
from tests.unit.registry.conftest import Registry, judged
from tests.unit.registry.examples import FILES, LOOP_YAML, NAME


async def challenger_of(registry: Registry) -> int:
    rollout = (await registry.model()).rollout
    return rollout.challenger.number if rollout else 0


@pytest.mark.parametrize(
    "verdicts",
    [
        [("WORSE", 1)],
        [("BETTER", 1), ("BETTER", 6), ("BETTER", 11), ("BETTER", 18)],
    ],
    ids=["taken back", "completed"],
)
async def test_a_version_that_came_during_a_rollout_is_offered_when_it_ends(
    rolling: Registry, verdicts: list[tuple[str, float]]
) -> None:
    await rolling.register("sha256:3")
    await rolling.register("sha256:4", high=0.5)  # refused by its gates
    for verdict, at in verdicts:
        assert await challenger_of(rolling) == 2
        await judged(rolling, verdict, at=at)
    assert await challenger_of(rolling) == 3
    state = (await rolling.states())[-1]
    assert state.rollout.challenger.version == 3
    assert (await rolling.facts())[-1] == "RolloutStarted"


async def test_of_the_versions_that_wait_the_newest_is_offered_and_each_only_once(
    rolling: Registry,
) -> None:
    for number in (3, 4):
        await rolling.register(f"sha256:{number}")
    tried = []
    while (number := await challenger_of(rolling)) and len(tried) < 5:
        tried.append(number)
        await judged(rolling, "WORSE", at=len(tried))
        if (await rolling.model()).is_paused:  # after the third failed cycle
            await rolling.commands.resume_loop(NAME, by="ada", reason="go on")
    assert tried == [2, 4, 3]


async def test_a_version_older_than_the_new_champion_is_not_offered(rolling: Registry) -> None:
    for number in (3, 4):
        await rolling.register(f"sha256:{number}")
    await judged(rolling, "WORSE", at=1)
    for at in (2, 7, 12, 19):
        assert await challenger_of(rolling) == 4
        await judged(rolling, "BETTER", at=at)
    model = await rolling.model()
    assert (model.champion and model.champion.number, model.rollout) == (4, None)


@pytest.mark.parametrize("mode", ["propose", "observe"])
async def test_a_loop_that_does_not_act_by_itself_offers_nothing_when_a_rollout_ends(
    rolling: Registry, mode: str
) -> None:
    await rolling.register("sha256:3")
    asking = LOOP_YAML.replace("mode: act", f"mode: {mode}").encode()
    await rolling.commands.apply_loop({**FILES, "loop.yaml": asking}, by="ada")
    await judged(rolling, "WORSE", at=1)
    assert (await rolling.model()).rollout is None


async def test_a_paused_loop_offers_what_waits_when_it_is_resumed(rolling: Registry) -> None:
    await rolling.register("sha256:3")
    await rolling.commands.pause_loop(NAME, by="ada", reason="holiday")
    await judged(rolling, "WORSE", at=1)
    assert (await rolling.model()).rollout is None
    await rolling.commands.resume_loop(NAME, by="ada", reason="back")
    assert await challenger_of(rolling) == 3


async def test_who_ends_a_rollout_has_not_asked_for_the_next(rolling: Registry) -> None:
    await rolling.register("sha256:3")
    await rolling.commands.roll_back(NAME, by="bob", reason="complaints")
    entries, intact = await rolling.commands.audit(NAME)
    assert intact
    assert (entries[-1].action, entries[-1].actor) == ("RolloutStarted", "ciclo")
    assert "complaints" not in entries[-1].reason
