"""What is known online of an entity depends on what was sent, never on when it arrived."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.feature_store.examples import SERVICE, WEATHER

from ciclo.errors import Reject
from ciclo_feature_store.domain.feature_rows import BadFeatureRows, FeatureRows, feature_rows
from ciclo_feature_store.domain.online import BeforeHistory, OnlineStore, OnlineView

TTL_US = WEATHER.ttl_us


@dataclass(frozen=True)
class Sent:
    """One row as a source sent it; `offset` says how late."""

    offset: int
    origin: str
    time_us: int
    humid: float


@st.composite
def histories(draw: st.DrawFn) -> list[Sent]:
    rows = draw(
        st.lists(
            st.tuples(st.sampled_from("AB"), st.integers(0, 8), st.integers(0, 99)), max_size=30
        )
    )
    return [
        Sent(offset, origin, time, float("nan") if humid > 90 else float(humid))
        for offset, (origin, time, humid) in enumerate(rows)
    ]


def batch(rows: Sequence[Sent], watermark_us: int | None = None) -> FeatureRows:
    return feature_rows(
        "weather",
        np.array([row.time_us for row in rows], dtype=np.int64),
        {"origin": np.array([row.origin for row in rows], dtype=object)},
        {"humid": np.array([row.humid for row in rows])},
        watermark_us,
    )


def filled(rows: Sequence[Sent], rows_per_entity: int = 100) -> OnlineView:
    view = OnlineView("weather", rows_per_entity)
    for row in rows:
        view.apply(batch([row]), row.offset)
    return view


def expected(rows: Sequence[Sent], origin: str, as_of_us: int) -> tuple[int, float]:
    """Brute force: the latest event time, of equal ones the one sent last."""
    known = [row for row in rows if row.origin == origin and row.time_us <= as_of_us]
    if not known:
        return 0, float("nan")
    newest = max(known, key=lambda row: (row.time_us, row.offset))
    return newest.time_us, newest.humid


def read(view: OnlineView, origin: str, as_of_us: int | None) -> tuple[int, float]:
    found = view.read(WEATHER, {"origin": [origin]}, as_of_us)
    return found.event_times_us[0], found.columns[0][0]


def same(one: tuple[int, float], other: tuple[int, float]) -> bool:
    return one[0] == other[0] and (one[1] == other[1] or math.isnan(one[1] + other[1]))


@given(histories(), st.integers(-1, 9), st.randoms())
def test_reads_as_of_a_time_equal_brute_force_whatever_the_order_of_arrival(
    rows: list[Sent], as_of_us: int, rng
) -> None:
    arrived = list(rows)
    rng.shuffle(arrived)
    view = filled(arrived)
    for origin in "ABC":
        assert same(read(view, origin, as_of_us), expected(rows, origin, as_of_us))


@given(histories(), st.randoms())
def test_a_late_row_never_overwrites_a_newer_one(rows: list[Sent], rng) -> None:
    arrived = list(rows)
    rng.shuffle(arrived)
    view = OnlineView("weather", 100)
    newest: dict[str, tuple[int, int]] = {}
    for row in arrived:
        view.apply(batch([row]), row.offset)
        newest[row.origin] = max(newest.get(row.origin, (-1, -1)), (row.time_us, row.offset))
        time_us, offset = newest[row.origin]
        assert same(read(view, row.origin, None), (time_us, rows[offset].humid))


@given(histories())
def test_a_row_that_comes_twice_changes_nothing(rows: list[Sent]) -> None:
    view = filled(rows)
    again = [view.apply(batch([row]), row.offset) for row in rows]
    assert sum(again) == 0


@given(histories(), st.integers(1, 4), st.integers(-1, 9))
def test_a_short_history_answers_rightly_or_refuses(
    rows: list[Sent], most: int, as_of_us: int
) -> None:
    view = filled(rows, most)
    for origin in "AB":
        times = {row.time_us for row in rows if row.origin == origin}
        kept = sorted(times)[-most:]
        if len(times) > most and as_of_us < kept[0]:
            with pytest.raises(BeforeHistory, match="CICLO_ONLINE_ROWS_PER_ENTITY"):
                read(view, origin, as_of_us)
        else:
            assert same(read(view, origin, as_of_us), expected(rows, origin, as_of_us))


@given(histories(), st.integers(1, 4), st.integers(-1, 9))
def test_a_restored_view_answers_as_the_one_that_was_lost(
    rows: list[Sent], most: int, as_of_us: int
) -> None:
    before, after = filled(rows, most), OnlineView("weather", most)
    stored = {}
    for row in rows:
        stored[row.origin, row.time_us] = (
            (row.origin,),
            row.time_us,
            (row.offset, 0),
            (row.humid,),
        )
    newest_first = sorted(stored.values(), key=lambda kept: (kept[0], -kept[1]))
    kept = [
        row
        for place, row in enumerate(newest_first)
        if sum(other[0] == row[0] for other in newest_first[:place]) <= most
    ]
    after.restore({"origin": str}, {"humid": float}, kept)
    for origin in "AB":
        try:
            wanted = read(before, origin, as_of_us)
        except BeforeHistory:
            with pytest.raises(BeforeHistory):
                read(after, origin, as_of_us)
        else:
            assert same(read(after, origin, as_of_us), wanted)


@given(st.lists(st.one_of(st.none(), st.integers(-5, 5))))
def test_a_watermark_never_goes_back(watermarks: list[int | None]) -> None:
    view = OnlineView("weather", 10)
    greatest = None
    for offset, watermark_us in enumerate(watermarks):
        view.apply(batch([], watermark_us), offset)
        said = [w for w in watermarks[: offset + 1] if w is not None]
        greatest = max(said) if said else None
        assert view.watermark_us == greatest


def test_values_older_than_the_view_s_ttl_are_missing() -> None:
    view = filled([Sent(0, "A", 0, 1.0)])
    assert same(read(view, "A", TTL_US), (0, 1.0))
    assert same(read(view, "A", TTL_US + 1), (0, float("nan")))


def test_a_field_that_a_batch_lacks_is_missing_in_its_rows() -> None:
    view = filled([Sent(0, "A", 0, 1.0)])
    sky = {"sky": np.array(["clear"], dtype=object)}
    origin = {"origin": np.array(["A"], dtype=object)}
    view.apply(feature_rows("weather", np.array([1]), origin, sky, None), 1)
    found = view.read(WEATHER, {"origin": ["A", "A"]}, 1)
    assert math.isnan(found.columns[0][0])
    assert found.columns[1] == ["clear", "clear"]
    assert view.read(WEATHER, {"origin": ["A"]}, 0).columns[1] == [""]


def test_a_batch_joined_by_other_entities_is_refused_whole() -> None:
    view = filled([Sent(0, "A", 0, 1.0)])
    other = feature_rows(
        "weather",
        np.array([1]),
        {"carrier": np.array(["UA"], dtype=object)},
        {"humid": np.array([2.0])},
        5,
    )
    with pytest.raises(BadFeatureRows, match="joined by origin"):
        view.apply(other, 1)
    assert view.watermark_us is None


@pytest.mark.parametrize(
    ("field", "values", "words"),
    [
        (
            "humid",
            np.array(["wet"], dtype=object),
            r"humid \(number\), the batch has humid \(text\)",
        ),
        ("Humid", np.array([2.0]), r"humid \(number\), the batch has Humid"),
    ],
)
def test_what_the_table_would_refuse_is_never_readable_online(
    field: str, values: Any, words: str
) -> None:
    fresh, restored = filled([Sent(0, "A", 0, 1.0)]), OnlineView("weather", 10)
    restored.restore({"origin": str}, {"humid": float}, [(("A",), 0, (0, 0), (1.0,))])
    origin = {"origin": np.array(["A"], dtype=object)}
    other = feature_rows("weather", np.array([1]), origin, {field: values}, 5)
    for view in (fresh, restored):
        with pytest.raises(BadFeatureRows, match=words):
            view.apply(other, 1)
        assert same(read(view, "A", None), (0, 1.0))
        assert view.watermark_us is None


def test_a_key_of_another_type_is_refused_because_it_would_be_unknown() -> None:
    view = filled([Sent(0, "A", 0, 1.0)])
    with pytest.raises(Reject, match=r"origin \(text\)"):
        view.read(WEATHER, {"origin": [1]}, None)
    number = {"origin": np.array([7])}
    with pytest.raises(BadFeatureRows, match="whole number"):
        view.apply(feature_rows("weather", np.array([1]), number, {}, None), 1)


def test_a_service_is_read_view_by_view_and_unknown_entities_are_missing() -> None:
    store = OnlineStore(10)
    store.view("weather").apply(batch([Sent(0, "A", 3, 1.0)], watermark_us=3), 0)
    weather, airport, carrier = store.read(
        SERVICE, {"origin": ["A", "?"], "carrier": ["UA"] * 2}, 9
    )
    assert weather.event_times_us == [3, 0]
    assert airport.event_times_us == carrier.event_times_us == [0, 0]
    assert store.watermarks() == {"weather": 3}
