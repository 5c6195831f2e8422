"""The methods that the benchmark compares, on a handful of its streams."""

from __future__ import annotations

import numpy as np
import pytest
from tests.benchmarks.drift import arms, budgets, delays, streams

COUNTS = {"null": 2, "changed": 4}
NUMBERS = range(5)
RUN_LENGTH = 200


class Mute:
    """A detector that never alarms."""

    def __init__(self, *args, **kwargs):
        self.certificate = type("Certificate", (), {"certified": True})

    def update(self, *batch):
        return None


def told(watch, name: str) -> dict[str, str]:
    """What the part says of a method: by change, its delay or why there is none."""
    answer = {f"{name} | {RUN_LENGTH} | references 0 to 4": watch}
    figures = delays.figures(answer | {f"{arms.LIMIT} | {RUN_LENGTH} | x": limit()})
    return {f.name.split(": ")[1]: f.measured for f in figures if f.name.startswith(f"{name}:")}


def limit() -> dict:
    return arms.watch_limit(RUN_LENGTH, NUMBERS, COUNTS)


def test_the_clairvoyant_is_the_cusum_of_its_definition():
    ratios = np.random.default_rng(0).normal(-0.1, 1.0, size=(3, 300))
    thresholds = np.array([0.5, 2.0, 4.0, 50.0])
    expected = []
    for row in ratios:
        held, path = 0.0, []
        for ratio in row:
            held = max(held, 0.0) + ratio
            path.append(held)
        first = [next((i for i, x in enumerate(path) if x >= h), -1) for h in thresholds]
        expected.append(first)

    assert arms.clairvoyant(ratios, thresholds).tolist() == expected


@pytest.mark.parametrize("change", streams.CHANGES)
def test_what_the_clairvoyant_knows_is_a_likelihood_ratio(change: str):
    values = np.random.default_rng(0).normal(size=400_000)

    assert np.exp(streams.CHANGES[change].log_ratio(values)).mean() == pytest.approx(1.0, abs=0.05)


def test_a_larger_change_is_found_sooner_and_nobody_is_faster_than_the_limit():
    ours = arms.watch_ours(500, RUN_LENGTH, NUMBERS, COUNTS)
    found = delays.figures(
        {
            f"{arms.LIMIT} | {RUN_LENGTH} | x": limit(),
            f"{delays.ours(500)} | {RUN_LENGTH} | x": ours,
        }
    )

    rows = {figure.name: figure.value for figure in found if figure.part.startswith(delays.PART)}
    mine, best = (
        [rows[f"{method}: {change}"] for change in ("mean +.5", "mean +1")]
        for method in (delays.ours(500), arms.LIMIT)
    )

    assert mine[0] > mine[1]
    assert best[0] > best[1]
    assert mine[1] > 0.8 * best[1]


def test_a_detector_that_never_alarms_is_told_as_missed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(arms, "RankBank", Mute)

    answer = arms.watch_ours(500, RUN_LENGTH, NUMBERS, COUNTS)

    assert set(told(answer, delays.ours(500)).values()) == {"missed"}


def test_the_same_streams_come_again_whatever_their_number():
    for draw in (
        lambda count: streams.nulls(3, count, 100),
        lambda count: streams.changed("sd x1.5", 3, count),
    ):
        np.testing.assert_array_equal(draw(2), draw(5)[:2])


def test_false_alarms_are_counted_once_a_stream_with_the_rows_watched():
    answer = budgets.count("i.i.d.", 200, 50, range(30))

    runs, alarms, rows = (
        sum(part[k] for part in answer.values()) for k in ("runs", "alarms", "rows")
    )
    assert runs == 30
    assert 10 <= alarms <= 30
    assert 30 <= rows <= 30 * 3 * 50


def test_a_detector_that_alarms_ten_times_too_often_misses_the_target(
    monkeypatch: pytest.MonkeyPatch,
):
    made = budgets.RankBank
    monkeypatch.setattr(
        budgets, "RankBank", lambda reference, budget_rows, seed: made(reference, budget_rows=20)
    )

    answer = {"i.i.d. | 200 | 200": budgets.count("i.i.d.", 200, 200, range(30))}

    assert [figure.verdict for figure in budgets.figures(answer)] == ["MISS"]


@pytest.mark.parametrize("world", streams.WORLDS)
def test_a_world_without_a_change_keeps_its_distribution(world: str):
    first, second = np.split(streams.WORLDS[world](streams.seeded(world), 240_000), 2)

    assert first.mean() == pytest.approx(second.mean(), abs=0.05)
    assert first.std() == pytest.approx(second.std(), rel=0.03)


def test_a_change_that_only_ours_finds_counts_for_ours():
    length = delays.PEER_RUN_LENGTH
    ours = arms.watch_ours(arms.PEER_REFERENCE_ROWS, length, NUMBERS, COUNTS)
    mute = {name: np.full_like(np.array(ours[name], dtype=int), -1).tolist() for name in ours}
    limit = arms.watch_limit(length, NUMBERS, COUNTS)
    found = {
        f"{arms.LIMIT} | {length} | x": limit,
        f"{delays.ours(arms.PEER_REFERENCE_ROWS)} | {length} | x": ours,
        f"River ADWIN | {length} | x": mute,
    }

    best = [f for f in delays.figures(found) if f.part == "delay over the best other"]
    assert {figure.verdict for figure in best} == {"aim"}

    found[f"{delays.ours(arms.PEER_REFERENCE_ROWS)} | {length} | x"] = mute
    best = [f for f in delays.figures(found) if f.part == "delay over the best other"]
    assert {figure.verdict for figure in best} == {"MISS"}
