"""The three controls: worlds and challengers in which nothing must be decided."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Final

import numpy as np
from flights import DAY_US, HOUR_US
from worlds import with_shuffled_days, without_labels

from offline.examples import ask, instant_us
from offline.judging import budget_days, closed, compare, excess, watch
from offline.models import train
from offline.story import BOOTSTRAP_CUT, TRAFFIC_FROM, TRAFFIC_UNTIL, bootstrap, version

if TYPE_CHECKING:
    from flights import World

    from ciclo.loop import Loop
    from ciclo_drift import BlockSums
    from offline.examples import Asked

ORDERS: Final = 60
"""Orders in which the same unseen days of a shuffled world are played."""

HELD_OUT_DAYS: Final = 14
"""Days of a shuffled world that stand for the held-out ones."""


@dataclass(frozen=True, slots=True)
class Permuted:
    """Days of the reference's season in random order: every alarm is a false one.

    Attributes:
        plays: How often the days after the cut were played.
        days: Days watched in all plays.
        alarms: False alarms.
        first_plays: Alarms in the first play of each shuffle, the order that a demo plays.
        over_budget: Alarms over what the budget allows for so many days.
    """

    shuffles: int
    plays: int
    days: int
    alarms: int
    first_plays: int
    over_budget: float


@dataclass(frozen=True, slots=True)
class Silent:
    """No labels: what could be judged and learned from, all of which must be 0."""

    days_tested: int
    days_compared: int
    rows_to_train_on: int


@dataclass(frozen=True, slots=True)
class Equal:
    """Challengers that differ from the champion by their seed.

    Attributes:
        spans: Comparisons made.
        days: Length of each.
        better: How many were called better: promotions for nothing.
        decided: How many were called better or worse.
    """

    spans: int
    days: int
    better: int
    decided: int


def permuted(world: World, loop: Loop, seed: int, shuffles: int) -> Permuted:
    """Shuffles the days before the traffic, trains on the first of them, watches the others.

    Training days, held-out days and watched days are exchangeable, so that the test's own error is
    all that can alarm. The unseen days are then played in other orders, with the same version.
    """
    first_us = instant_us("2013-01-01") + 8 * HOUR_US
    last_us = instant_us(TRAFFIC_FROM) + 8 * HOUR_US
    cut_us = instant_us(BOOTSTRAP_CUT)
    plays = days = alarms = first_plays = 0
    for number in range(shuffles):
        shuffled = with_shuffled_days(world, seed + number, first_us, last_us)
        asked = ask(shuffled, shuffled.features, loop.knowledge_lag)
        rows = asked.known(first_us, cut_us, cut_us + DAY_US)
        model = train(rows, HELD_OUT_DAYS, seed)
        whole_us = last_us // DAY_US * DAY_US
        unseen = excess(model, closed(asked, model.first_unseen_us, whole_us, loop))
        rng = np.random.default_rng(seed + number)
        for order in range(ORDERS):
            place = rng.permutation(len(unseen.ids)) if order else np.arange(len(unseen.ids))
            reference, live = place[:HELD_OUT_DAYS], place[HELD_OUT_DAYS:]
            watched = watch(_take(unseen, reference), _take(unseen, live), loop)
            plays, days = plays + 1, days + len(watched.days)
            alarms += watched.alarm is not None
            first_plays += order == 0 and watched.alarm is not None
    return Permuted(shuffles, plays, days, alarms, first_plays, alarms * budget_days(loop) / days)


def silent(world: World, loop: Loop, seed: int) -> Silent:
    """Plays the real traffic without a label."""
    labelled = ask(world, world.features, loop.knowledge_lag)
    one, two = (bootstrap(labelled, loop, s) for s in (seed, seed + 1))
    first_us, last_us = instant_us(TRAFFIC_FROM), instant_us(TRAFFIC_UNTIL)
    silence = ask(without_labels(world), world.features, loop.knowledge_lag)
    rows = closed(silence, first_us, last_us, loop)
    held_out = labelled.known(one.first_unseen_us, first_us, first_us)
    watched = watch(excess(one, held_out), excess(one, rows), loop)
    compared = compare(one, two, rows, loop, {"better", "worse"})
    return Silent(
        len(watched.days), len(compared.days), len(silence.known(first_us, last_us, last_us))
    )


def equal(asked: Asked, loop: Loop, seed: int, seeds: int) -> list[Equal]:
    """Compares versions of one dataset and different seeds, from every fortnight on.

    Both for a fortnight, which is how the targets count, and for as long as a shadow may last.
    """
    versions = [version(asked, instant_us(BOOTSTRAP_CUT), loop, seed + n) for n in range(seeds)]
    start_us, end_us = instant_us(BOOTSTRAP_CUT), instant_us("2013-12-31")
    found = []
    for days in (14, loop.rollout.shadow.at_most.days):
        verdicts = [
            compare(
                one,
                other,
                closed(asked, first_us, first_us + days * DAY_US, loop),
                loop,
                {"better", "worse"},
            ).verdict
            for one, other in combinations(versions, 2)
            for first_us in range(start_us, end_us - days * DAY_US, 14 * DAY_US)
        ]
        better = verdicts.count("better")
        found.append(Equal(len(verdicts), days, better, better + verdicts.count("worse")))
    return found


def _take(sums: BlockSums, places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> BlockSums:
    return replace(
        sums, ids=np.arange(len(places)), totals=sums.totals[places], rows=sums.rows[places]
    )
