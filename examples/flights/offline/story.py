"""Tells the demo's story offline: degradation, retraining, rollout, a bad challenger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from ciclo_trainer.training.quality import compare as compare_quality
from offline.examples import day_name, instant_us, microseconds
from offline.judging import Compared, Watched, calendar, closed, compare, excess, watch
from offline.models import train

if TYPE_CHECKING:
    from ciclo.loop import Loop
    from offline.examples import Asked
    from offline.models import Version

BOOTSTRAP_CUT: Final = "2013-04-08"
"""As of when version 1 is trained; its last fourteen days are held out."""

TRAFFIC_FROM: Final = "2013-05-15"
"""First day of traffic."""

TRAFFIC_UNTIL: Final = "2013-08-15"
"""Day before which the story must have ended."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What a version's held-out days say, and whether loop.yaml lets it pass."""

    loss: float
    champion_loss: float
    difference_high: float
    calibration_error: float
    passes: bool


@dataclass(frozen=True, slots=True)
class Story:
    """One telling; times in microseconds, days as UTC day numbers."""

    seed: int
    versions: dict[str, Version]
    watched: Watched
    retrained_us: int
    gate: Gate
    shadow: Compared
    canary_us: int
    canary: Compared
    full_us: int
    completed_us: int
    bad_gate: Gate
    bad_shadow: Compared
    forced_us: int
    bad_canary: Compared
    taken_back_us: int
    exposed_rows: int


class StoryBroken(RuntimeError):
    """An event of the story did not happen: the timeline does not hold for this seed."""


def bootstrap(asked: Asked, loop: Loop, seed: int) -> Version:
    """Trains version 1 on the loop's window, as known at the bootstrap."""
    return version(asked, instant_us(BOOTSTRAP_CUT), loop, seed)


def version(asked: Asked, cut_us: int, loop: Loop, seed: int) -> Version:
    """Trains on the loop's window before a cut, with the labels that were known at the cut."""
    first_us = cut_us - microseconds(loop.retrain.data.last)
    rows = asked.known(first_us, cut_us, cut_us)
    return train(rows, loop.retrain.data.holdout.days, seed)


def degradation(asked: Asked, champion: Version, loop: Loop) -> Watched:
    """Watches version 1 against its held-out days, from the first day of traffic."""
    first_us, last_us = instant_us(TRAFFIC_FROM), instant_us(TRAFFIC_UNTIL)
    cut_us = instant_us(BOOTSTRAP_CUT)
    held_out = asked.known(champion.first_unseen_us, cut_us, cut_us)
    live = closed(asked, first_us, last_us, loop)
    return watch(excess(champion, held_out), excess(champion, live), loop)


def tell(asked: Asked, restated: Asked, loop: Loop, seed: int) -> Story:
    """Tells the story once.

    Args:
        asked: Requests answered from honest features.
        restated: The same from restated ones: what a dataset holds after the faulty backfill.
        loop: The loop's policy.
        seed: Of every training run.

    Raises:
        StoryBroken: An event did not happen.
    """
    one = bootstrap(asked, loop, seed)
    watched = degradation(asked, one, loop)
    if watched.alarm is None:
        raise StoryBroken("version 1 never alarms")
    cut_us = calendar(loop).close_us(watched.days[watched.alarm])
    two = version(asked, cut_us, loop, seed)
    shadow = _compared(asked, one, two, cut_us, loop, "better")
    canary_us = calendar(loop).close_us(shadow.days[-1])
    policy = loop.rollout
    full_us = canary_us + len(policy.canary.weights) * microseconds(policy.canary.each)
    completed_us = full_us + microseconds(policy.bake.for_)
    canary = compare(one, two, closed(asked, cut_us, completed_us, loop), loop, {"worse"})
    bad = version(restated, completed_us, loop, seed)
    bad_shadow = _compared(asked, two, bad, completed_us, loop, "worse")
    forced_us = calendar(loop).close_us(bad_shadow.days[-1])
    # Evidence starts anew, the worst case: where it goes on from the shadow's, one day suffices.
    bad_canary = _compared(asked, two, bad, forced_us, loop, "worse")
    taken_back_us = calendar(loop).close_us(bad_canary.days[-1])
    return Story(
        seed=seed,
        versions={"1": one, "2": two, "bad": bad},
        watched=watched,
        retrained_us=cut_us,
        gate=gate(asked, two, one, cut_us, loop),
        shadow=shadow,
        canary_us=canary_us,
        canary=canary,
        full_us=full_us,
        completed_us=completed_us,
        bad_gate=gate(restated, bad, two, completed_us, loop),
        bad_shadow=bad_shadow,
        forced_us=forced_us,
        bad_canary=bad_canary,
        taken_back_us=taken_back_us,
        exposed_rows=exposed_rows(asked, forced_us, taken_back_us, loop),
    )


def _compared(
    asked: Asked, champion: Version, challenger: Version, since_us: int, loop: Loop, expected: str
) -> Compared:
    rows = closed(asked, since_us, instant_us(TRAFFIC_UNTIL), loop)
    found = compare(champion, challenger, rows, loop, {"better", "worse"})
    if found.verdict != expected:
        raise StoryBroken(f"from {day_name(since_us)}: {found.verdict}, expected {expected}")
    return found


def gate(asked: Asked, model: Version, champion: Version, cut_us: int, loop: Loop) -> Gate:
    """Judges a version on its held-out days, as the trainer's evidence and loop.yaml's gates do."""
    rows = asked.known(model.first_unseen_us, cut_us, cut_us)
    found = compare_quality(
        rows["label"].to_numpy(np.float32),
        rows["day"].to_numpy(np.int64),
        model.score(rows).astype(np.float32),
        champion.score(rows).astype(np.float32),
    )
    assert found.champion
    assert found.difference
    high = found.difference.log_loss.high or 0.0
    error = found.model.calibration_error.value or 0.0
    limits = {rule.rule: rule for rule in reversed(loop.gates)}
    passes = high <= getattr(limits["non_inferior"], "margin", 0.0)
    passes &= error <= getattr(limits["calibrated"], "error_at_most", 1.0)
    return Gate(
        found.model.log_loss.value or 0.0,
        found.champion.log_loss.value or 0.0,
        high,
        error,
        passes,
    )


def exposed_rows(asked: Asked, start_us: int, end_us: int, loop: Loop) -> int:
    """Counts the rows that a canary answers: keys are spread by hash, weights grow by steps."""
    policy, exposed = loop.rollout.canary, 0
    steps = [(weight, policy.each) for weight in policy.weights]
    for number, (weight, each) in enumerate(steps):
        first_us = start_us + number * microseconds(each)
        is_last = number == len(steps) - 1
        last_us = end_us if is_last else min(end_us, first_us + microseconds(each))
        keys = asked.between(first_us, max(first_us, last_us))["flight"].to_numpy(dtype=object)
        share = pd.util.hash_array(keys).astype(np.float64) / 2.0**64
        exposed += int((share < weight).sum())
    return exposed
