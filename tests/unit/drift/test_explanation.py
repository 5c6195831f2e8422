"""What an alarm says of the change: since when, at what cost, and whether an input is broken."""

from __future__ import annotations

import numpy as np
import pytest

from ciclo_drift import Kind, StreamSet

REFERENCE_ROWS = 4_000
BEFORE = 300


def world(seed: int, rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    fuel = rng.choice(["a", "b", "c"], rows, p=[0.6, 0.3, 0.1])
    return {"speed": rng.normal(50.0, 10.0, rows), "load": rng.exponential(1.0, rows), "fuel": fuel}


def fitted(seed: int = 0, **settings: object) -> StreamSet:
    return StreamSet.fit(world(seed, REFERENCE_ROWS), budget_rows=10_000, seed=seed, **settings)


def alarm_after(streams: StreamSet, live: dict[str, np.ndarray]):
    alarm = streams.update(live)
    assert alarm is not None
    return alarm


def moved_mean(values: np.ndarray) -> np.ndarray:
    return values + 10.0


def moved_spread(values: np.ndarray) -> np.ndarray:
    return 50.0 + 1.6 * (values - 50.0)


@pytest.mark.parametrize("change", [moved_mean, moved_spread])
@pytest.mark.parametrize("at", [300, 500, 2_030])
def test_the_interval_of_the_change_point_covers_it(change, at: int):
    covered = found = 0
    for seed in range(40):
        streams, live = fitted(seed), world(1_000 + seed, at + 900)
        live["speed"][at:] = change(live["speed"][at:])
        alarm = streams.update(live)
        if alarm is not None and alarm.row >= at:
            culprit = alarm.culprits[0]
            found += 1
            covered += culprit.since_low <= at <= culprit.since_high

    assert found >= 25
    assert covered >= 0.88 * found


def test_the_interval_of_a_change_of_categories_covers_it():
    covered, runs, at = 0, 40, 500
    for seed in range(runs):
        streams, live = fitted(seed), world(1_000 + seed, at + 900)
        live["fuel"][at:] = np.random.default_rng(seed).choice(
            ["a", "b", "c"], 900, p=[0.3, 0.3, 0.4]
        )
        culprit = alarm_after(streams, live).culprits[0]
        covered += culprit.since_low <= at <= culprit.since_high

    assert covered >= 0.85 * runs


def test_the_interval_is_as_narrow_as_the_change_is_large():
    wide = []
    for seed in range(20):
        streams, live = fitted(seed), world(1_000 + seed, BEFORE + 900)
        live["speed"][BEFORE:] += 10.0
        culprit = alarm_after(streams, live).culprits[0]
        wide.append(culprit.since_high - culprit.since_low)

    assert np.median(wide) <= 30.0


def test_a_change_that_lowers_the_loss_is_not_the_costliest():
    reference = world(0, REFERENCE_ROWS)
    losses = 0.5 - 0.4 * (reference["speed"] > 50.0) + 0.2 * (reference["load"] > 1.0)
    streams = StreamSet.fit(reference, losses=losses, budget_rows=10_000)
    live = world(2, 400)
    live["speed"] += 20.0
    live["load"] += 0.4
    streams.update(live)

    costly, *_, saving = streams.report().by_effect()
    assert (costly.stream, saving.stream) == ("load", "speed")
    assert saving.effect is not None
    assert saving.effect < 0.0


def test_a_change_before_the_kept_rows_still_has_an_interval():
    rng = np.random.default_rng(3)
    days = np.repeat(np.arange(90), 100)
    reference = rng.normal(size=90)[days] + rng.normal(size=9_000)
    streams = StreamSet.fit({"speed": reference}, blocks=days, budget_blocks=60)
    live = rng.normal(size=60)[days[:6_000]] + rng.normal(size=6_000)
    live[2_000:] += 2.0
    culprit = alarm_after(streams, {"speed": live}).culprits[0]

    assert streams.alarm is not None
    assert streams.alarm.row - culprit.since_row >= 100
    assert culprit.since_low <= 2_000 <= culprit.since_high


def test_medians_before_and_now_are_in_the_unit_of_the_stream():
    live = world(1, 600)
    live["speed"] += 10.0
    culprit = alarm_after(fitted(), live).culprits[0]

    assert culprit.stream == "speed"
    assert culprit.before == pytest.approx(50.0, abs=1.0)
    assert culprit.now == pytest.approx(60.0, abs=8.0)


def test_culprits_are_ranked_by_what_their_change_costs():
    reference = world(0, REFERENCE_ROWS)
    # The loss hangs on the load alone.
    losses = 0.1 + 0.5 * (reference["load"] > 1.0)
    streams = StreamSet.fit(reference, losses=losses, budget_rows=10_000)
    live = world(2, 400)
    live["speed"] += 20.0
    live["load"] += 0.4
    alarm = alarm_after(streams, live)
    alarm = streams.report()
    costly, *others = alarm.by_effect()

    assert alarm.culprits[0].stream == "speed"
    assert costly.stream == "load"
    gained = 0.5 * (np.mean(live["load"] > 1.0) - np.mean(reference["load"] > 1.0))
    assert costly.effect == pytest.approx(gained, abs=0.05)
    assert all(abs(other.effect or 0.0) < 0.02 for other in others)


def test_without_losses_no_effect_is_claimed():
    live = world(1, 400)
    live["speed"] += 10.0

    assert alarm_after(fitted(), live).culprits[0].effect is None


def break_missing(live: dict[str, np.ndarray]) -> None:
    live["speed"][::2] = np.nan


def break_stuck(live: dict[str, np.ndarray]) -> None:
    live["speed"][:] = 51.5


def break_unit(live: dict[str, np.ndarray]) -> None:
    live["speed"] *= 1_000.0


def break_infinite(live: dict[str, np.ndarray]) -> None:
    live["load"][::3] = np.inf


def break_retyped(live: dict[str, np.ndarray]) -> None:
    live["fuel"] = np.arange(len(live["fuel"]))


def break_lost_categories(live: dict[str, np.ndarray]) -> None:
    live["fuel"][::2] = ""


@pytest.mark.parametrize(
    ("breaking", "stream", "fault"),
    [
        (break_missing, "speed", "missing"),
        (break_stuck, "speed", "stuck"),
        (break_unit, "speed", "out of range"),
        (break_infinite, "load", "out of range"),
        (break_retyped, "fuel", "unseen"),
        (break_lost_categories, "fuel", "missing"),
    ],
)
def test_a_broken_input_is_called_so(breaking, stream: str, fault: str):
    live = world(1, 300)
    breaking(live)
    alarm = alarm_after(fitted(), live)

    assert (alarm.culprits[0].stream, alarm.culprits[0].fault) == (stream, fault)
    assert alarm.kind is Kind.BROKEN_INPUT


@pytest.mark.parametrize("seed", range(10))
def test_three_missing_rows_are_enough_to_see_the_fault(seed: int):
    streams, live = fitted(seed), world(100 + seed, 120)
    live["speed"][100:] = np.nan
    alarm = alarm_after(streams, live)

    assert alarm.row <= 106
    assert (alarm.culprits[0].stream, alarm.culprits[0].fault) == ("speed", "missing")


@pytest.mark.parametrize("seed", range(10))
def test_an_input_that_only_moved_is_not_called_broken(seed: int):
    live = world(100 + seed, 600)
    live["speed"] += 10.0
    alarm = alarm_after(fitted(seed), live)

    assert alarm.kind is Kind.COVARIATE
    assert [c.fault for c in alarm.culprits] == [None] * 3


def test_a_ramp_too_slow_to_be_noticed_shows_in_the_distance_to_the_reference():
    streams, live = fitted(), world(1, 2_000)
    assert set(streams.distances().values()) == {0.0}

    streams.update(live)
    still = streams.distances()
    streams.reset()
    live["speed"] += np.linspace(0.0, 8.0, 2_000)
    live["fuel"][-512:] = "a"
    streams.update(live)

    assert max(still.values()) < 0.1
    assert streams.distances()["speed"] == pytest.approx(0.27, abs=0.06)
    assert streams.distances()["fuel"] == pytest.approx(0.4, abs=0.03)
