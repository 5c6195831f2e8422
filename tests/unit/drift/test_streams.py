"""Alarms of streams: whether, when, and what they say."""

from __future__ import annotations

import numpy as np
import pytest

from ciclo_drift import Alarm, DriftInputError, RankBank, Reference, StreamSet


def columns(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
    return {
        "speed": rng.normal(size=rows),
        "load": rng.exponential(size=rows),
        "fuel": rng.choice(["a", "b", "c"], rows, p=[0.6, 0.3, 0.1]),
    }


def fitted(seed: int = 0, **budget: float) -> tuple[StreamSet, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return StreamSet.fit(columns(rng, 5_000), **budget or {"budget_rows": 10_000}), rng


def numeric_alarm(change, *, seed: int = 0, rows: int = 3_000) -> Alarm:
    rng = np.random.default_rng(seed)
    bank = RankBank(Reference.numeric(rng.normal(size=5_000), name="x"), budget_rows=10_000)
    assert bank.update(rng.normal(size=300)) is None
    alarm = bank.update(change(rng.normal(size=rows), rng))
    assert alarm is not None
    return alarm


@pytest.mark.parametrize(
    ("change", "words", "size", "delay"),
    [
        (lambda x, _: x + 1.0, {"up"}, 1.0, 40),
        (lambda x, _: x - 1.0, {"down"}, -1.0, 40),
        (lambda x, _: 2.0 * x, {"wider", "tail_low", "tail_high"}, None, 60),
        (lambda x, _: 0.5 * x, {"narrower"}, 0.5, 120),
    ],
)
def test_an_alarm_says_what_moved_since_when_and_how_much(change, words, size, delay):
    alarm = numeric_alarm(change)
    top = alarm.culprits[0]

    assert 300 <= alarm.row <= 300 + delay
    assert abs(alarm.since_row - 300) <= 15
    assert alarm.evidence >= alarm.threshold
    assert top.change in words
    if size is not None:
        assert top.size == pytest.approx(size, rel=0.5)


def test_a_new_peak_inside_the_old_range_is_found():
    def peak(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.where(rng.random(len(x)) < 0.3, 0.4, x)

    assert numeric_alarm(peak).row < 500


def test_more_missing_values_are_found():
    rng = np.random.default_rng(0)

    def column(rows: int, missing: float) -> np.ndarray:
        return np.where(rng.random(rows) < missing, np.nan, rng.normal(size=rows))

    bank = RankBank(Reference.numeric(column(5_000, 0.02)), budget_rows=10_000)
    assert bank.update(column(300, 0.02)) is None
    alarm = bank.update(column(2_000, 0.10))

    assert alarm is not None
    assert alarm.row < 800


def test_a_new_category_is_found_and_named():
    rng = np.random.default_rng(0)
    bank = RankBank(Reference.categorical(rng.choice(list("abc"), 5_000)), budget_rows=10_000)
    live = rng.choice(list("abc"), 2_000)
    live[rng.random(2_000) < 0.08] = "new"

    alarm = bank.update(live)

    assert alarm is not None
    assert alarm.culprits[0].category == "(unseen)"
    assert alarm.row < 400


def test_the_culprit_is_the_stream_that_moved():
    streams, rng = fitted()
    assert streams.update(columns(rng, 300)) is None
    live = columns(rng, 500)
    live["load"] *= 2.0

    alarm = streams.update(live)

    assert alarm is not None
    assert alarm.culprits[0].stream == "load"
    assert alarm.culprits[0].share > 0.9
    assert [c.share for c in alarm.culprits] == sorted(c.share for c in alarm.culprits)[::-1]
    assert {c.stream for c in alarm.culprits} == set(streams.names)


def test_one_alarm_is_raised_until_reset():
    streams, rng = fitted()
    live = columns(rng, 200)
    live["speed"] += 2.0

    assert streams.update(live) is not None
    assert streams.update(live) is None
    assert streams.alarm is not None
    streams.reset()
    assert streams.alarm is None
    assert streams.update(live) is not None


def test_a_stream_without_weight_raises_no_alarm():
    rng = np.random.default_rng(0)
    weights = {"speed": 0.0, "load": 1.0, "fuel": 1.0}
    streams = StreamSet.fit(columns(rng, 5_000), budget_rows=10_000, weights=weights)
    live = columns(rng, 300)
    live["speed"] += 5.0

    assert streams.update(live) is None


def test_the_order_of_columns_does_not_matter():
    rng = np.random.default_rng(0)
    reference, live = columns(rng, 2_000), columns(rng, 200)

    first = StreamSet.fit(reference, budget_rows=1_000)
    second = StreamSet.fit(dict(reversed(reference.items())), budget_rows=1_000)
    first.update(live)
    second.update(dict(reversed(live.items())))

    assert first.evidence == pytest.approx(second.evidence, rel=1e-12)


def days(rng: np.random.Generator, count: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows of a day share an effect, and two streams share it among them."""
    ids = np.repeat(np.arange(count), 60)
    effect = 0.5 * rng.normal(size=(count, 2))[ids]
    first = effect[:, 0] + rng.normal(size=len(ids))
    second = effect.sum(axis=1) + rng.normal(size=len(ids))
    return {"first": first, "second": second}, ids


def test_days_that_vary_keep_the_budget_with_blocks_and_break_it_without():
    rng = np.random.default_rng(0)
    reference, ids = days(rng, 60)
    blocked = StreamSet.fit(reference, blocks=ids, budget_blocks=30)
    careless = StreamSet(
        [Reference.numeric(rng.permutation(v), name=k) for k, v in reference.items()],
        np.array([0.5, 0.5]),
        0.78 * 30 * 60,
        blocked.certificate,
        0,
    )
    alarms = {"blocked": 0, "careless": 0}
    for _ in range(300):
        live, _ = days(rng, 1)
        for name, streams in (("blocked", blocked), ("careless", careless)):
            if streams.update(live) is not None:
                alarms[name] += 1
                streams.reset()

    assert blocked.certificate.certified
    # 300 days at one in 30: ten are allowed.
    assert alarms["blocked"] <= 15
    assert alarms["careless"] >= 50


def test_a_budget_in_blocks_is_one_in_rows_of_average_blocks():
    rng = np.random.default_rng(0)
    reference, ids = days(rng, 40)

    by_blocks = StreamSet.fit(reference, blocks=ids, budget_blocks=20)
    by_rows = StreamSet.fit(reference, blocks=ids, budget_rows=1_200)

    assert by_blocks.threshold == by_rows.threshold


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "none or two; expected one of budget_rows, budget_blocks"),
        ({"budget_rows": 100, "budget_blocks": 10}, "none or two"),
        ({"budget_blocks": 10}, "blocks: None; expected block ids"),
        ({"budget_rows": 1}, "between 10"),
    ],
)
def test_a_budget_that_is_none_is_refused(settings: dict[str, float], message: str):
    with pytest.raises(DriftInputError, match=message):
        StreamSet.fit(columns(np.random.default_rng(0), 200), **settings)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"fuel": None}, "no 'fuel'"),
        ({"speed": np.zeros(3)}, "lengths .* expected equal lengths"),
        ({"speed": np.array(["fast"] * 20)}, "speed: values that are not numbers"),
    ],
)
def test_a_broken_batch_is_refused_and_changes_nothing(broken, message: str):
    streams, rng = fitted()
    streams.update(columns(rng, 20))
    before = streams.snapshot()
    live = {k: v for k, v in (columns(rng, 20) | broken).items() if v is not None}

    with pytest.raises(DriftInputError, match=message):
        streams.update(live)

    after = streams.snapshot()
    assert all((before[name] == after[name]).all() for name in before)


def test_an_empty_batch_changes_nothing():
    streams, rng = fitted()
    streams.update(columns(rng, 0))

    assert (streams.rows, streams.evidence) == (0, 0.0)


def test_reference_columns_of_unequal_length_are_refused():
    with pytest.raises(DriftInputError, match="equal length"):
        StreamSet.fit({"a": np.zeros(200), "b": np.zeros(300)}, budget_rows=100)


def test_an_alarm_survives_a_snapshot():
    streams, rng = fitted()
    live = columns(rng, 200)
    live["fuel"][:] = "c"
    streams.update(live)

    assert StreamSet.restore(streams.snapshot()).alarm == streams.alarm is not None
