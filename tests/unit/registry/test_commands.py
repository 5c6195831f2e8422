"""What people may ask of the registry, what they are refused, and that it is written down."""

from typing import Any

import pytest
from sqlalchemy import text
from tests.unit.registry.conftest import Registry
from tests.unit.registry.examples import FILES, LOOP_YAML, NAME, examined

from ciclo.errors import Conflict, NotFound, Reject
from ciclo_registry.domain.policy import Stage
from ciclo_registry.domain.versions import Status, VersionRef


@pytest.fixture
async def serving(registry: Registry) -> Registry:
    """Version 1 serves, version 2 waits: the loop asks a person."""
    await registry.register("sha256:1", compared=False)
    proposing = {**FILES, "loop.yaml": LOOP_YAML.replace("mode: act", "mode: propose").encode()}
    await registry.commands.apply_loop(proposing, by="ada")
    await registry.register("sha256:2")
    assert (await registry.model()).rollout is None
    return registry


async def start(registry: Registry, number: int = 2, override_reason: str = "") -> str:
    return await registry.commands.start_rollout(
        NAME, number, by="ada", override_reason=override_reason
    )


def number(ref: VersionRef | None) -> int:
    return ref.number if ref else 0


async def audited(registry: Registry) -> list[tuple[str, str, str]]:
    entries, intact = await registry.commands.audit("")
    assert intact
    return [(entry.action, entry.actor, entry.reason) for entry in entries]


async def test_a_definition_is_stored_and_put_into_force_once(empty: Registry) -> None:
    first = await empty.commands.apply_loop(FILES, by="ada")
    again = await empty.commands.apply_loop(FILES, by="ada")
    assert (first.model, first.has_changed, again.has_changed) == (NAME, True, False)
    assert first.loop_digest == again.loop_digest == (await empty.states())[-1].loop_digest
    assert await empty.facts() == ["LoopApplied"]


@pytest.mark.parametrize(
    ("files", "field"),
    [
        ({**FILES, "loop.yaml": b"schema: 1"}, None),
        ({**FILES, "loop.yaml": b"\xff"}, "loop.yaml"),
        ({k: v for k, v in FILES.items() if k != "loop.yaml"}, None),
        ({k: v for k, v in FILES.items() if k != "recipe.py"}, "recipe.py"),
        ({k: v for k, v in FILES.items() if k != "features.py"}, "features.py"),
        ({**FILES, "large.py": b"x" * 1_000_001}, "large.py"),
    ],
)
async def test_a_definition_that_does_not_hold_together_is_refused(
    empty: Registry, files: dict[str, bytes], field: str | None
) -> None:
    with pytest.raises(Reject) as caught:
        await empty.commands.apply_loop(files, by="ada")
    assert field is None or caught.value.field == field
    assert empty.blobs.loops == []


async def test_a_version_is_registered_once_however_often_it_is_asked(serving: Registry) -> None:
    again = await serving.commands.register_version(NAME, "sha256:2", by="ada")
    assert again.ref.number == 2
    assert (await serving.facts()).count("VersionRegistered") == 2


async def test_a_bundle_that_is_not_there_is_not_found(registry: Registry) -> None:
    with pytest.raises(NotFound):
        await registry.commands.register_version(NAME, "sha256:none", by="ada")
    with pytest.raises(NotFound):
        await registry.commands.register_version("unknown", "sha256:1", by="ada")


async def test_a_person_starts_a_rollout_that_passed_its_gates(serving: Registry) -> None:
    rollout_id = await start(serving)
    rollout = (await serving.model()).rollout
    assert rollout
    assert rollout.rollout_id == rollout_id
    assert (await audited(serving))[-1][:2] == ("RolloutStarted", "ada")


async def test_refused_gates_must_be_overridden_with_a_reason_which_is_audited(
    serving: Registry,
) -> None:
    await serving.register("sha256:3", high=0.5)
    with pytest.raises(Conflict) as caught:
        await start(serving, 3)
    assert caught.value.reason == "GATES_REFUSED"
    await start(serving, 3, override_reason="the holdout was a storm")
    assert "the holdout was a storm" in (await audited(serving))[-1][2]


async def test_what_ciclo_decides_within_a_person_s_act_is_ciclo_s(serving: Registry) -> None:
    for seed in (3, 4, 5):
        await serving.register(f"sha256:{seed}", high=0.5)
    acts = [(action, actor) for action, actor, _ in await audited(serving)]
    assert acts[-2:] == [("GatesEvaluated", "ada"), ("LoopPaused", "ciclo")]


async def test_a_version_that_was_taken_back_starts_again_only_with_a_reason(
    serving: Registry,
) -> None:
    await start(serving)
    await serving.commands.roll_back(NAME, by="ada", reason="too early")
    with pytest.raises(Conflict):
        await start(serving)
    await start(serving, override_reason="now is the time")


async def test_there_is_one_rollout_at_a_time(serving: Registry) -> None:
    await start(serving)
    await serving.register("sha256:3")
    for attempt in (
        start(serving, 3),
        serving.commands.force_rollout(NAME, 3, by="ada", reason="now"),
    ):
        with pytest.raises(Conflict) as caught:
            await attempt
        assert caught.value.reason == "ROLLOUT_IN_PROGRESS"


async def test_the_champion_and_quarantined_and_unknown_versions_cannot_start(
    serving: Registry,
) -> None:
    with pytest.raises(Conflict):
        await start(serving, 1)
    with pytest.raises(NotFound):
        await start(serving, 9)
    await serving.database.transaction(
        lambda tx: serving.setup.open_books(tx.connection).set_status(NAME, 2, Status.QUARANTINED)
    )
    with pytest.raises(Conflict) as caught:
        await start(serving, 2, override_reason="please")
    assert caught.value.reason == "QUARANTINED"


async def test_a_version_of_another_signature_cannot_start(serving: Registry) -> None:
    await serving.register("sha256:3", signature_digest="sha256:other")
    with pytest.raises(Conflict) as caught:
        await start(serving, 3, override_reason="please")
    assert caught.value.reason == "SIGNATURE_DIFFERS"


async def test_forcing_starts_in_the_canary_and_says_who_and_why(serving: Registry) -> None:
    after = await serving.commands.force_rollout(NAME, 2, by="ada", reason="demo")
    assert after.rollout
    assert after.rollout.stage is Stage.CANARY
    assert after.rollout.is_forced
    assert after.lease_expire_time is not None
    told: list[Any] = [message for _, message in await serving.said()]
    (started,) = [m for m in told if m.DESCRIPTOR.name == "RolloutStarted"]
    (advanced,) = [m for m in told if m.DESCRIPTOR.name == "RolloutAdvanced"]
    assert (advanced.forced_by, advanced.forced_reason) == ("ada", "demo")
    assert ("RolloutAdvanced", "ada") in [entry[:2] for entry in await audited(serving)]
    assert started.rollout_id == advanced.rollout_id


async def test_forcing_needs_a_rollout_or_a_version_and_a_reason(serving: Registry) -> None:
    with pytest.raises(Conflict) as caught:
        await serving.commands.force_rollout(NAME, 0, by="ada", reason="demo")
    assert caught.value.reason == "NO_ROLLOUT"
    for by, reason, field in [("ada", " ", "reason"), ("", "demo", "requested_by")]:
        with pytest.raises(Reject) as refused:
            await serving.commands.force_rollout(NAME, 2, by=by, reason=reason)
        assert refused.value.field == field


async def test_a_person_takes_back_the_rollout_and_after_it_the_champion(serving: Registry) -> None:
    for _ in range(4):
        after = await serving.commands.force_rollout(NAME, 2, by="ada", reason="demo")
        if after.rollout is None:
            break
    assert (number(after.champion), number(after.previous)) == (2, 1)
    back = await serving.commands.roll_back(NAME, by="bob", reason="complaints")
    assert (number(back.champion), back.previous) == (1, None)
    assert (await audited(serving))[-1][1] == "bob"
    with pytest.raises(Conflict):
        await serving.commands.roll_back(NAME, by="bob", reason="again")


async def test_pausing_twice_is_pausing_once(serving: Registry) -> None:
    for _ in range(2):
        await serving.commands.pause_loop(NAME, by="ada", reason="holiday")
    assert (await serving.facts()).count("LoopPaused") == 1


async def test_a_rollout_keeps_the_policy_that_it_began_with(serving: Registry) -> None:
    await start(serving)
    changed = LOOP_YAML.replace("[0.05, 0.25]", "[0.5]").encode()
    await serving.commands.apply_loop({**FILES, "loop.yaml": changed}, by="ada")
    after = await serving.commands.force_rollout(NAME, 0, by="ada", reason="demo")
    assert after.rollout
    assert after.rollout.weight == 0.05


async def test_rollouts_are_listed_newest_first(serving: Registry) -> None:
    first = await start(serving)
    await serving.commands.roll_back(NAME, by="ada", reason="no")
    second = await start(serving, override_reason="yes")
    listed = await serving.commands.rollouts(NAME)
    assert [rollout.rollout_id for rollout in listed] == [second, first]


async def test_a_changed_row_of_the_audit_table_is_noticed(serving: Registry) -> None:
    forge = text("UPDATE audit SET actor = 'bob' WHERE sequence = 2")
    await serving.database.transaction(lambda tx: tx.connection.execute(forge))
    assert (await serving.commands.audit(""))[1] is False


async def test_the_last_row_of_the_audit_table_cannot_vanish_unnoticed(serving: Registry) -> None:
    forge = text("DELETE FROM audit WHERE sequence = (SELECT max(sequence) FROM audit)")
    await serving.database.transaction(lambda tx: tx.connection.execute(forge))
    assert (await serving.commands.audit(""))[1] is False


@pytest.mark.parametrize("call", ["model", "versions", "rollouts"])
async def test_an_unknown_model_is_not_found(registry: Registry, call: str) -> None:
    with pytest.raises(NotFound) as caught:
        await getattr(registry.commands, call)("unknown")
    assert caught.value.field == "model"


async def test_without_a_champion_a_person_s_rollout_serves_at_once(registry: Registry) -> None:
    observing = {**FILES, "loop.yaml": LOOP_YAML.replace("mode: act", "mode: observe").encode()}
    await registry.commands.apply_loop(observing, by="ada")
    registry.blobs.bundles["sha256:1"] = examined(compared=False)
    await registry.commands.register_version(NAME, "sha256:1", by="ada")
    assert (await registry.model()).champion is None
    assert await start(registry, 1) == ""
    assert number((await registry.model()).champion) == 1
