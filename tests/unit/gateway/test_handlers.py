"""Predictions by entity, as callers see them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ciclo.errors import NotFound, Reject, Retry
from ciclo_gateway.catalog import Catalog
from ciclo_gateway.domain.desired import Desired, Share
from ciclo_gateway.domain.event_times import DAY_US
from ciclo_gateway.domain.packing import Version
from ciclo_gateway.domain.questions import Columns, Contract, Features
from ciclo_gateway.domain.routing import Route
from ciclo_gateway.domain.tensors import Field, Signature
from ciclo_gateway.handlers import Handlers
from ciclo_gateway.metrics import GatewayMetrics
from ciclo_gateway.ports.serving import Answered
from ciclo_runtime.clock import ManualClock

SIGNATURE = Signature(
    "s",
    (Field("origin", "string", "entity"), Field("temp", "float32", "feature", "weather")),
    (Field("late", "float32", "output"),),
)
COLUMNS = {"origin": np.array(["EWR", "JFK"], dtype=object)}
ONE = Version("m", 1)
NOW_US = int(ManualClock().now().timestamp() * 1e6)


@dataclass
class World:
    """The feature-store, the loops and the models at once."""

    asked_as_of_us: list[int] = field(default_factory=list)
    inferred: list[dict[str, Any]] = field(default_factory=list)

    async def contract(self, digest: str) -> Contract:
        assert digest == "sha256:loop"
        return Contract("service", {"origin": "string"}, {}, "", 60, {})

    async def features(self, service: str, entities: Columns, as_of_us: int) -> Features:
        assert service == "service"
        self.asked_as_of_us.append(as_of_us)
        rows = len(entities["origin"])
        return Features({"temp": np.full(rows, 20.0)}, {"weather": np.full(rows, as_of_us)})

    async def infer(self, model: str, values: Mapping[str, Any], **said: Any) -> Answered:
        self.inferred.append({"model": model, "values": values, **said})
        return Answered({"late": np.array([[0.25], [0.5]], np.float32)}, "id", 1, "champion")


def handlers(world: World, catalog: Catalog, labels: Any = None) -> Handlers:
    return Handlers(
        catalog, world, world, world, labels, metrics=GatewayMetrics(), clock=ManualClock()
    )


def catalog(*, is_loaded: bool = True, champion: Version | None = ONE) -> Catalog:
    found = Catalog(desired={"m": Desired("m", 1, loop_digest="sha256:loop", champion=champion)})
    if is_loaded:
        found.versions["m", 1] = ONE, SIGNATURE
        found.routes["m"] = Route(1, "", (Share(1, "champion", 1.0),))
    return found


async def test_features_are_those_known_a_lag_before_and_the_key_sticks() -> None:
    world = World()
    found = await handlers(world, catalog()).predict("m", COLUMNS, 1_000, "mine")
    assert world.asked_as_of_us == [940]
    (asked,) = world.inferred
    assert (asked["event_time_us"], asked["key"], asked["client_id"]) == (1_000, "EWR", "mine")
    assert list(asked["values"]) == ["origin", "temp"]
    assert found.answered.prediction_id == "id"
    assert found.fallback_rows == {}


async def test_without_an_event_time_it_is_now() -> None:
    world = World()
    await handlers(world, catalog()).predict("m", COLUMNS, None, "")
    assert world.inferred[0]["event_time_us"] == NOW_US


@pytest.mark.parametrize(
    ("known", "model", "error", "reason"),
    [
        (catalog(), "n", NotFound, "UNKNOWN_MODEL"),
        (catalog(is_loaded=False, champion=None), "m", NotFound, "NO_VERSION"),
        (catalog(is_loaded=False), "m", Retry, "LOADING"),
    ],
)
async def test_a_model_that_does_not_serve_says_why(
    known: Catalog, model: str, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error) as refused:
        await handlers(World(), known).predict(model, COLUMNS, 1, "")
    assert refused.value.reason == reason  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("event_time_us", "about"), [(-1, "before 1970"), (NOW_US + 2 * DAY_US, "2 days ahead")]
)
async def test_an_event_time_before_1970_or_far_ahead_is_refused(
    event_time_us: int, about: str
) -> None:
    world = World()
    with pytest.raises(Reject, match=about) as refused:
        await handlers(world, catalog()).predict("m", COLUMNS, event_time_us, "")
    assert refused.value.field == "event_time"
    assert world.inferred == []
    await handlers(world, catalog()).predict("m", COLUMNS, NOW_US + DAY_US, "")
    assert len(world.inferred) == 1
