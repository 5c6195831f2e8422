"""Nothing of a bad batch is believed."""

from typing import Any

import numpy as np
import pytest
from tests.unit.feature_store.examples import WEATHER, feature_rows_event

from ciclo.errors import Reject
from ciclo_feature_store import wire
from ciclo_feature_store.domain.feature_rows import BadFeatureRows, FeatureRows, require_fit

GOOD: dict[str, Any] = {"view": "weather", "times_us": [1, 2], "entities": {"origin": ["A", "B"]}}


def rows(**changes) -> FeatureRows:
    return wire.observed_rows(
        feature_rows_event(**({**GOOD, "fields": {"humid": [0.1, float("nan")]}} | changes))
    )


def test_numbers_are_float32_from_the_door_on() -> None:
    humid = rows().fields["humid"]
    assert humid.dtype == np.float32
    assert humid[0] == np.float32(0.1)
    assert np.isnan(humid[1])
    assert rows(fields={"humid": [1, 2]}).fields["humid"].dtype == np.float32


def test_a_watermark_may_come_alone() -> None:
    alone = rows(times_us=[], entities={}, fields={}, watermark_us=7)
    assert (len(alone), alone.watermark_us) == (0, 7)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fields": {"humid": [0.1]}}, "has 1 values, expected 2"),
        ({"fields": {"humid": [0.1, 1e39]}}, "beyond float32"),
        ({"fields": {"humid": [0.1, float("inf")]}}, "infinite"),
        ({"fields": {"_offset": [1.0, 2.0]}}, "must not be called"),
        ({"fields": {"event_time": [1.0, 2.0]}}, "must not be called"),
        ({"fields": {'a" ; DROP': [1.0, 2.0]}}, "must not be called"),
        ({"fields": {"Event_Time": [1.0, 2.0]}}, "must not be called"),
        ({"fields": {"origin": [1.0, 2.0]}}, "same but for case"),
        ({"fields": {"Origin": [1.0, 2.0]}}, "same but for case"),
        ({"fields": {"sky": [1.0, 2.0], "SKY": [1.0, 2.0]}}, "same but for case"),
        ({"entities": {}}, "needs an entity"),
        ({"view": "../weather"}, "no name of a view"),
        ({"view": "v" * 256}, "no name of a view"),
    ],
)
def test_a_batch_that_is_not_whole_is_refused(changes, words: str) -> None:
    with pytest.raises(BadFeatureRows, match=words):
        rows(**changes)


def test_a_column_that_occurs_twice_is_refused() -> None:
    event = feature_rows_event(**GOOD, fields={"humid": [0.1, 0.2]})
    event.fields.add().CopyFrom(event.fields[0])
    with pytest.raises(Reject, match="twice"):
        wire.observed_rows(event)


@pytest.mark.parametrize("seconds", [-62_135_596_801, 253_402_300_800, 2**62])
def test_a_watermark_that_no_calendar_has_is_refused(seconds: int) -> None:
    event = feature_rows_event(**GOOD, fields={"humid": [0.1, 0.2]})
    event.watermark_time.seconds = seconds
    with pytest.raises(Reject, match="a year from 1 to 9999"):
        wire.observed_rows(event)


@pytest.mark.parametrize(
    ("changes", "never_store", "words"),
    [
        ({"entities": {"carrier": ["A", "B"]}}, (), "joined by origin"),
        ({"fields": {"humid": np.array(["a", "b"], dtype=object)}}, (), "is float32"),
        ({"fields": {"sky": [0.5, 0.5]}}, (), "is string"),
        ({"fields": {"tailnum": [0.5, 0.5]}}, ("tailnum",), "never_store forbids tailnum"),
    ],
)
def test_a_batch_that_does_not_fit_its_view_is_refused(changes, never_store, words: str) -> None:
    with pytest.raises(BadFeatureRows, match=words):
        require_fit(rows(**changes), WEATHER, never_store)


def test_a_field_that_is_not_declared_yet_is_kept() -> None:
    batch = rows(fields={"pressure": [1.0, 2.0]})
    require_fit(batch, WEATHER, ("tailnum",))
    assert list(batch.fields) == ["pressure"]
