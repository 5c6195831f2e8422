"""Digests say what matters; a loop that does not fit its features is refused with the reason."""

from dataclasses import replace

import pytest
from tests.unit.feature_store.examples import DEFINITIONS, SERVICE, WEATHER, flights_loop

from ciclo_feature_store.domain.definitions import (
    Definitions,
    Feature,
    FeatureService,
    UnfitDefinitions,
    UnknownFeatureService,
    View,
    apply_loop,
)


def test_a_view_s_digest_changes_with_what_it_gives_and_not_with_its_words() -> None:
    reworded = replace(
        WEATHER, features=(Feature("humid", "float32", "percent"), WEATHER.features[1])
    )
    assert reworded.digest == WEATHER.digest
    shorter = replace(WEATHER, ttl_us=1)
    fewer = replace(WEATHER, features=WEATHER.features[:1])
    assert len({WEATHER.digest, shorter.digest, fewer.digest}) == 3


def test_a_loop_finds_its_service_and_its_features_in_order() -> None:
    applied = apply_loop("sha256:0", flights_loop(), DEFINITIONS)
    assert [f.name for f in applied.service.features] == ["humid", "sky", "delay_1h", "delay_3h"]


def test_a_service_that_is_not_defined_is_named_with_those_that_are() -> None:
    with pytest.raises(UnknownFeatureService, match="defines flight_delay"):
        apply_loop("sha256:0", flights_loop(features="other"), DEFINITIONS)


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (View("v", ("origin",), (Feature("distance", "float32"),)), "more than one input"),
        (View("v", ("origin",), (Feature("label", "float32"),)), "rename"),
        (View("v", ("airport",), (Feature("x", "float32"),)), "joined by airport"),
    ],
)
def test_features_that_clash_with_the_loop_are_refused(view: View, words: str) -> None:
    service = FeatureService("flight_delay", (view,), (view.digest,))
    definitions = Definitions({"v": view}, {"flight_delay": service})
    with pytest.raises(UnfitDefinitions, match=words):
        apply_loop("sha256:0", flights_loop(), definitions)


def test_a_service_s_digest_follows_its_views() -> None:
    other = replace(SERVICE, view_digests=("sha256:other", *SERVICE.view_digests[1:]))
    assert other.digest != SERVICE.digest
