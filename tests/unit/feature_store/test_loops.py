"""A loop that cannot be read holds up no other one."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.feature_store.examples import DEFINITIONS, FEATURES_PY, LOOP_YAML, MODEL

from ciclo.errors import CicloError, Reject, Retry
from ciclo_bundle.store import BlobStore
from ciclo_feature_store.adapters.loops import ENDLESS_REST, LoopCatalog
from ciclo_feature_store.adapters.offline_process import OfflineTimeLimit
from ciclo_feature_store.domain.definitions import Definitions, LoopState, UnfitDefinitions
from ciclo_feature_store.domain.tasks import DefineTask
from ciclo_runtime.clock import ManualClock


@dataclass
class FakeStates:
    """Which loops are in force."""

    by_model: dict[str, LoopState] = field(default_factory=dict)

    def items(self) -> dict[str, LoopState]:
        return self.by_model

    def get(self, model: str) -> LoopState | None:
        return self.by_model.get(model)


@dataclass
class FakeOffline:
    """Fails for some loops as a test says."""

    failures: dict[str, CicloError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def define(self, task: DefineTask) -> Definitions:
        self.asked.append(task.loop_digest)
        if task.loop_digest in self.failures:
            raise self.failures[task.loop_digest]
        return DEFINITIONS


class World:
    """Two models, the first of which is in trouble."""

    def __init__(self, folder: Path) -> None:
        store = BlobStore(str(folder / "blobs"))
        self.digests = {name: put_loop(store, folder / name, name) for name in ("bad", MODEL)}
        states: Any = FakeStates({m: LoopState(m, 1, d) for m, d in self.digests.items()})
        self.states, self.offline, self.clock = states, FakeOffline(), ManualClock()
        offline: Any = self.offline
        self.loops = LoopCatalog(states, store, offline, folder / "loops", self.clock)

    def fail(self, error: CicloError) -> None:
        self.offline.failures[self.digests["bad"]] = error


def put_loop(store: BlobStore, folder: Path, model: str) -> str:
    folder.mkdir()
    (folder / "features.py").write_text(FEATURES_PY)
    (folder / "loop.yaml").write_text(LOOP_YAML.replace(MODEL, model))
    return store.put_folder(folder)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_features_py_that_does_not_end_is_read_again_only_after_a_rest(
    world: World,
) -> None:
    world.fail(OfflineTimeLimit("not done within 0:02:00"))
    for _ in range(3):
        await world.loops.step()
        assert world.loops.applied(MODEL).definitions == DEFINITIONS
        with pytest.raises(UnfitDefinitions, match="not done within 0:02:00"):
            world.loops.applied("bad")
    assert world.offline.asked == [world.digests["bad"], world.digests[MODEL]]
    world.clock.advance(ENDLESS_REST + timedelta(seconds=1))
    await world.loops.step()
    assert world.offline.asked[2:] == [world.digests["bad"]]


async def test_what_cannot_be_read_now_is_asked_for_again_and_the_others_are_in_force(
    world: World,
) -> None:
    world.fail(Retry("the offline process died"))
    with pytest.raises(Retry, match="died"):
        await world.loops.step()
    assert world.loops.service("flight_delay").name == "flight_delay"
    with pytest.raises(Retry, match="just being read"):
        world.loops.applied("bad")
    world.offline.failures.clear()
    await world.loops.step()
    assert world.loops.applied("bad").definitions == DEFINITIONS


async def test_a_loop_that_is_no_longer_in_force_serves_nothing(world: World) -> None:
    await world.loops.step()
    world.states.by_model.clear()
    await world.loops.step()
    assert world.loops.view_rules("weather") is None


def files(**changed: tuple[str, str]) -> dict[str, bytes]:
    """The files of a loop, with a text in a file exchanged for another."""
    texts = {"loop.yaml": LOOP_YAML, "features.py": FEATURES_PY}
    for name, (before, after) in changed.items():
        file = {"loop": "loop.yaml", "features": "features.py"}[name]
        assert before in texts[file]
        texts[file] = texts[file].replace(before, after)
    return {name: text.encode() for name, text in texts.items()}


async def test_a_definition_is_checked_without_being_put_into_force(world: World) -> None:
    await world.loops.step()
    asked = list(world.offline.asked)

    found = await world.loops.check(files(loop=("owner: flight-ops", "owner: somebody")))

    assert world.offline.asked == [*asked, found.digest]
    assert found.loop.owner == "somebody"
    assert world.loops.applied(MODEL).digest == world.digests[MODEL]


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("features: flight_delay", "features: flight_dlay", "takes feature service 'flight_dlay'"),
        ("entities: [origin, carrier]", "entities: [origin]", "input.entities"),
        ("distance: float32", "humid: float32", "humid: more than one input"),
        ("airport_delays", "airport_dlays", "input.fallback of flight-delay names airport_dlays"),
        ("log_loss: {above", "log_loss: {above", None),
        ("{per: 365d}", "{per: 365d}, slices: [carrier, sky]", None),
        ("{per: 365d}", "{per: 365d}, slices: [carier]", "monitor.slices .* names carier"),
        (
            "retrain:",
            "gates: [{rule: non_inferior, margin: 0.1, by: carier}]\nretrain:",
            "gates.by",
        ),
    ],
)
async def test_what_loop_yaml_says_of_features_is_compared_with_them(
    world: World, before: str, after: str, says: str | None
) -> None:
    check = world.loops.check(files(loop=(before, after)))
    if says is None:
        assert (await check).loop.model == MODEL
        return
    with pytest.raises(Reject, match=says):
        await check


async def test_a_path_that_leaves_the_folder_is_refused(world: World) -> None:
    with pytest.raises(Reject, match="a loop's folder"):
        await world.loops.check({**files(), "../../evil.py": b""})
