"""Part `vectors`: joint changes of 32 dimensions, most of which no single one of them shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tests.benchmarks.drift import many, store
from tests.benchmarks.drift.figures import Figure, Target
from tests.benchmarks.drift.many import BUDGET_ROWS, NULL_ROWS
from tests.benchmarks.drift.run_length import LEAST_FOUND, Delay, curve
from tests.benchmarks.drift.store import Job
from tests.benchmarks.drift.streams import PREFIX_ROWS, seeded

from ciclo_drift.joint import JointBank

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from tests.benchmarks.drift.sizes import Size

    Reals = NDArray[np.float64]
    Draw = Callable[[np.random.Generator, int, NDArray[np.float64]], NDArray[np.float64]]

DIMENSIONS = 32
REFERENCE_ROWS = 5_000
CHANGED_ROWS = 1_000


def standard(rng: np.random.Generator, rows: int, _frame: Reals) -> Reals:
    """Independent standard normal numbers."""
    return rng.normal(size=(rows, DIMENSIONS))


def paired(correlation: float, pairs: int, *, turned: bool) -> Draw:
    """Standard normal numbers of which some pairs correlate, in a random frame if `turned`."""

    def draw(rng: np.random.Generator, rows: int, frame: Reals) -> Reals:
        drawn = rng.normal(size=(rows, DIMENSIONS))
        first, second = (slice(start, 2 * pairs, 2) for start in (0, 1))
        own = np.sqrt(1.0 - correlation**2) * drawn[:, second]
        drawn[:, second] = correlation * drawn[:, first] + own
        return drawn @ frame if turned else drawn

    return draw


def moved(rng: np.random.Generator, rows: int, frame: Reals) -> Reals:
    """The mean moves by 1 in a random direction."""
    return standard(rng, rows, frame) + frame[0]


def clustered(rng: np.random.Generator, rows: int, frame: Reals) -> Reals:
    """A tenth of the rows comes from a cluster, 4 away in a random direction."""
    return standard(rng, rows, frame) + 4.0 * frame[0] * (rng.random((rows, 1)) < 0.1)


@dataclass(frozen=True, slots=True)
class Joint:
    """How vectors are drawn before and after a change, and how soon it is to be found."""

    before: Draw
    after: Draw
    target: Target | None = None


CHANGES = {
    "rotation: 16 correlations of .8 change sign, in a random frame": Joint(
        paired(0.8, 16, turned=True), paired(-0.8, 16, turned=True), Target(50.0, 30.0)
    ),
    "rotation: one correlation of .8 changes sign": Joint(
        paired(0.8, 1, turned=False), paired(-0.8, 1, turned=False), Target(50.0, 30.0)
    ),
    "mean of norm 1": Joint(standard, moved, Target(120.0, 80.0)),
    "one new correlation of .6": Joint(standard, paired(0.6, 1, turned=False)),
    "10 % new cluster, 4 away": Joint(standard, clustered),
}


def jobs(size: Size) -> list[Job]:
    """A change and a reference each."""
    return [
        Job(f"{name} | {n}", watch, (name, n, size.nulls, 2 * size.changed), store.OURS)
        for name in CHANGES
        for n in range(size.sets[1])
    ]


def figures(found: Mapping[str, dict[str, Any]]) -> list[Figure]:
    """Delays and false alarms at the stated budget."""
    part, told = f"delay, {DIMENSIONS} dimensions", []
    nulls = np.concatenate([answer["null"] for answer in found.values()])
    for name, change in CHANGES.items():
        shards = [answer for key, answer in found.items() if key.startswith(f"{name} | ")]
        alarms = np.concatenate([answer["changed"] for answer in shards])[:, None]
        measured = curve(nulls[:, None], NULL_ROWS, alarms, PREFIX_ROWS + CHANGED_ROWS)
        share, mean = float(measured.found[0]), float(measured.delay[0])
        missed = share < LEAST_FOUND
        delay = Delay(None if missed else mean, measured.delays[:, 0], share, "missed" * missed)
        told.append(Figure(part, name, *delay.told, target=change.target))
    return [*told, many.over_budget(part, nulls)]


def watch(name: str, number: int, nulls: int, changed: int) -> dict[str, Any]:
    """First alarms of `JointBank` with the threshold that it sets. Shape (streams,) each."""
    change, rng = CHANGES[name], seeded("vectors", name, number)
    frame = np.linalg.qr(rng.normal(size=(DIMENSIONS, DIMENSIONS)))[0]
    reference = change.before(rng, REFERENCE_ROWS, frame)
    watcher = JointBank.fit(reference, budget_rows=BUDGET_ROWS, seed=number)

    def alarm(*parts: Reals) -> int:
        watcher.reset()
        return many.first_alarm(watcher.update, np.concatenate(parts))

    return {
        "null": [alarm(change.before(rng, NULL_ROWS, frame)) for _ in range(nulls)],
        "changed": [
            alarm(change.before(rng, PREFIX_ROWS, frame), change.after(rng, CHANGED_ROWS, frame))
            for _ in range(changed)
        ],
    }
