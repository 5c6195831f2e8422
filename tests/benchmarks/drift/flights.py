"""Part `flights`: days of one season in random order, and two equal models."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tests.benchmarks.drift.figures import Figure, Target
from tests.benchmarks.drift.run_length import poisson_bounds
from tests.benchmarks.drift.store import Job
from tests.benchmarks.drift.streams import seeded

from ciclo.loop import read_loop
from ciclo_drift import PairedComparison, StreamSet, Verdict, sum_by_block

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.benchmarks.drift.sizes import Size

EXAMPLE = Path("examples/flights")
CACHE = Path("build/flights")

REFERENCE_DAYS = 60
BUDGET_DAYS = 60
FORTNIGHT_DAYS = 14

SOURCES = (
    "libs/drift/ciclo_drift/**/*.py",
    "examples/flights/**/*.py",
    "examples/flights/loop/loop.yaml",
    "tests/benchmarks/drift/flights.py",
)


PERMUTED = Target(1.0)
DECIDED = Target(5.0, 2.0)


def jobs(size: Size) -> list[Job]:
    """Shuffled features, shuffled losses, equal models."""
    features, losses = size.shuffles
    made = [
        Job(
            f"features | shuffle {number}", permuted_features, (range(number, number + 1),), SOURCES
        )
        for number in range(features)
    ]
    made.append(Job("losses", permuted_losses, (range(losses),), SOURCES))
    made.append(Job("models", equal_models, (range(size.seeds),), SOURCES))
    return made


def figures(found: Mapping[str, dict[str, Any]]) -> list[Figure]:
    """Alarms over budget, and decisions between models that are equal."""
    shuffles = [answer for name, answer in found.items() if name.startswith("features")]
    alarms = sum(sum(answer["alarms"]) for answer in shuffles)
    expected = sum(sum(answer["days"]) for answer in shuffles) / BUDGET_DAYS
    flagged = sum(not certified for answer in shuffles for certified in answer["certified"])
    losses = np.array(found["losses"]["over_budget"])
    reach = float(1.96 * losses.std(ddof=1) / np.sqrt(len(losses)))
    mean = float(losses.mean())
    decided, judged = (sum(found["models"][name]) for name in ("decided", "judged"))
    bounds = tuple(100.0 * end for end in poisson_bounds(decided, judged))
    return [
        Figure(
            "flights",
            f"features, days permuted, budget {BUDGET_DAYS} days: false alarms over budget",
            alarms / expected,
            interval=poisson_bounds(alarms, expected),
            note=f"{flagged} of {len(shuffles)} references flagged: reported, never acted on",
            target=PERMUTED,
            is_flagged=flagged == len(shuffles),
        ),
        Figure(
            "flights",
            "losses, days permuted: false alarms over budget",
            mean,
            interval=(max(mean - reach, 0.0), mean + reach),
            target=PERMUTED,
        ),
        Figure(
            "flights",
            "equal models (odd and even days): fortnights decided",
            100.0 * decided / judged,
            "%",
            (bounds[0], bounds[1]),
            f"{judged} fortnights",
            DECIDED,
        ),
    ]


def permuted_features(shuffles: range) -> dict[str, Any]:
    """Watches the features of a season whose days are in random order, with `StreamSet`.

    Returns:
        `alarms` and `days` watched in each shuffle, and whether each reference was certified.
    """
    world, loop = _world()
    from flights import COLUMNS
    from offline.examples import ask, instant_us
    from offline.story import TRAFFIC_FROM

    rows = ask(world, world.features, loop.knowledge_lag).between(
        instant_us("2013-01-02"), instant_us(TRAFFIC_FROM)
    )
    names = [name for view in COLUMNS.values() for name in view]
    by_day = {day: group[names].to_numpy(np.float64) for day, group in rows.groupby("day")}
    found: dict[str, Any] = {"alarms": [], "days": [], "certified": []}
    for shuffle in shuffles:
        days = seeded("days", shuffle).permutation(np.array(list(by_day)))
        reference = [by_day[day] for day in days[:REFERENCE_DAYS]]
        watcher = StreamSet.fit(
            dict(zip(names, np.concatenate(reference).T, strict=True)),
            blocks=np.repeat(np.arange(REFERENCE_DAYS), [len(part) for part in reference]),
            budget_blocks=BUDGET_DAYS,
            seed=shuffle,
        )
        live = days[REFERENCE_DAYS:]
        alarmed = [
            watcher.update(dict(zip(names, by_day[day].T, strict=True))) is not None for day in live
        ]
        watched = alarmed.index(True) + 1 if any(alarmed) else len(live)
        found["alarms"].append(int(any(alarmed)))
        found["days"].append(watched)
        found["certified"].append(watcher.certificate.certified)
    return found


def permuted_losses(shuffles: range) -> dict[str, Any]:
    """Watches the losses of models on such days, as the example's control does.

    Returns:
        Alarms over budget in each shuffle.
    """
    world, loop = _world()
    from offline.controls import permuted

    plays = [asdict(permuted(world, loop, seed, shuffles=1)) for seed in shuffles]
    return {"over_budget": [play["over_budget"] for play in plays]}


def equal_models(seeds: range) -> dict[str, Any]:
    """Compares models trained on odd and on even days, every fortnight that follows.

    Returns:
        For each seed, how many fortnights were `judged` and how many `decided`.
    """
    world, loop = _world()
    from flights import DAY_US
    from offline.examples import ask, instant_us, losses, microseconds
    from offline.judging import CLIP, closed
    from offline.models import train
    from offline.story import BOOTSTRAP_CUT

    asked = ask(world, world.features, loop.knowledge_lag)
    cut_us, end_us = instant_us(BOOTSTRAP_CUT), instant_us("2013-12-31")
    known = asked.known(cut_us - microseconds(loop.retrain.data.last), cut_us, cut_us)
    judged, decided = [], []
    for seed in seeds:
        odd, even = (
            train(known[known["day"] % 2 == parity], loop.retrain.data.holdout.days, seed)
            for parity in (1, 0)
        )
        verdicts = []
        span_us = FORTNIGHT_DAYS * DAY_US
        for first_us in range(cut_us, end_us - span_us, span_us):
            rows = closed(asked, first_us, first_us + span_us, loop)
            label = rows["label"].to_numpy()
            gain = losses(label, odd.score(rows)) - losses(label, even.score(rows))
            sums = sum_by_block(rows["day"].to_numpy(), gain)
            pair = PairedComparison(
                margin=loop.rollout.shadow.margin,
                alpha=1 - loop.rollout.shadow.confidence,
                clip=CLIP,
            )
            said = {
                pair.update(float(total), int(count)).verdict
                for total, count in zip(sums.totals, sums.rows, strict=True)
            }
            verdicts.append(bool(said & {Verdict.BETTER, Verdict.WORSE}))
        judged.append(len(verdicts))
        decided.append(sum(verdicts))
    return {"judged": judged, "decided": decided}


def _world() -> tuple[Any, Any]:
    """The recorded year and the example's loop; the example's folder joins the import path."""
    if str(EXAMPLE) not in sys.path:
        sys.path.insert(0, str(EXAMPLE))
    from flights import read_world

    return read_world(CACHE), read_loop(EXAMPLE / "loop")
