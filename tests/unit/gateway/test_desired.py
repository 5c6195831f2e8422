"""From the registry's wishes to loads and routes."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciclo_gateway.domain.desired import Desired, Placement, Rollout, Share, Stage
from ciclo_gateway.domain.packing import Version
from ciclo_gateway.domain.routing import Route, decode_route, encode_route, table, table_digest

ONE, TWO = Version("m", 1, "sha256:1"), Version("m", 2, "sha256:2")
NOW = datetime(2013, 6, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def rollout(stage: Stage) -> Rollout:
    return Rollout("r", "c", TWO, stage, 0)


CANARY = Desired(
    model="m",
    generation=5,
    champion=ONE,
    rollout=rollout(Stage.CANARY),
    shares=(Share(1, "champion", 0.9), Share(2, "challenger", 0.1)),
    salt="s",
    lease_expires=LATER,
)
BAKING = Desired(
    model="m",
    generation=6,
    champion=TWO,
    previous=ONE,
    rollout=rollout(Stage.BAKING),
    shares=(Share(2, "champion", 1.0), Share(1, "champion", 0.0)),
    lease_expires=LATER,
)
SHADOW = Desired(
    model="m",
    generation=4,
    champion=ONE,
    rollout=rollout(Stage.SHADOW),
    shares=(Share(1, "champion", 1.0),),
)
BOTH = frozenset({1, 2})


@pytest.mark.parametrize(
    ("desired", "serving", "shadow"),
    [
        (Desired("m", 1), (), ()),
        (Desired("m", 1, champion=ONE), (1,), ()),
        (SHADOW, (1, 2), (2,)),
        (CANARY, (1, 2), (1, 2)),
        (BAKING, (1, 2), (1, 2)),
    ],
)
def test_each_stage_needs_its_versions(
    desired: Desired, serving: tuple[int, ...], shadow: tuple[int, ...]
) -> None:
    assert tuple(v.number for v in desired.versions(Placement.SERVING)) == serving
    assert tuple(v.number for v in desired.versions(Placement.SHADOW)) == shadow


def test_a_canary_is_routed_champion_first() -> None:
    assert CANARY.route(BOTH, frozenset(), NOW) == (
        Share(1, "champion", 0.9),
        Share(2, "challenger", 0.1),
    )


def test_a_lease_that_ran_out_gives_the_champion_all() -> None:
    assert CANARY.has_expired(LATER)
    assert CANARY.route(BOTH, frozenset(), LATER) == (
        Share(1, "champion", 1.0),
        Share(2, "challenger", 0.0),
    )


def test_a_bake_needs_no_lease_because_the_champion_has_all() -> None:
    assert not BAKING.has_expired(LATER)
    assert BAKING.incumbent == ONE
    assert BAKING.route(BOTH, frozenset(), LATER) == (
        Share(2, "champion", 1.0),
        Share(1, "previous", 0.0),
    )


def test_routes_wait_until_all_that_should_answer_do() -> None:
    assert CANARY.route(frozenset({1}), frozenset(), NOW) is None
    assert CANARY.route(frozenset({2}), frozenset(), NOW) is None


def test_what_a_quarantined_version_should_answer_the_champion_answers() -> None:
    route = CANARY.route(frozenset({1}), frozenset({2}), NOW)
    assert route == (Share(1, "champion", 1.0),)


def test_a_shadow_that_is_not_loaded_yet_holds_nothing_up() -> None:
    assert SHADOW.route(frozenset({1}), frozenset(), NOW) == (Share(1, "champion", 1.0),)


def test_without_champion_or_weights_nothing_is_routed() -> None:
    assert Desired("m", 1).route(BOTH, frozenset(), NOW) == ()
    assert Desired("m", 1, champion=ONE).route(BOTH, frozenset(), NOW) == ()


@given(
    st.sampled_from([SHADOW, CANARY, BAKING]),
    st.sets(st.integers(1, 3)),
    st.sets(st.integers(1, 3)),
    st.sampled_from([NOW, LATER]),
)
def test_no_request_is_ever_routed_to_what_does_not_answer(
    desired: Desired, serving: set[int], quarantined: set[int], now: datetime
) -> None:
    shares = desired.route(serving, quarantined, now)
    if shares:
        assert {share.version for share in shares} <= serving
        assert sum(share.weight for share in shares) == pytest.approx(1)


def test_the_table_is_what_envoys_script_reads_and_its_digest_ignores_generations() -> None:
    route = Route(5, "s", (Share(1, "champion", 0.95), Share(2, "challenger", 0.05)))
    assert table({"m": route}) == {
        "m": {
            "salt": "s",
            "versions": [
                {"version": "1", "weight": 9500, "variant": "champion"},
                {"version": "2", "weight": 500, "variant": "challenger"},
            ],
        }
    }
    renewed = Route(6, "s", route.shares)
    assert renewed.is_like(route)
    assert table_digest({"m": renewed}) == table_digest({"m": route})
    assert table_digest({"m": Route(5, "t", route.shares)}) != table_digest({"m": route})
    assert decode_route(encode_route(route)) == route
