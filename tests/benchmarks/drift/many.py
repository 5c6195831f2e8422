"""Part `many`: 64 streams under one budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tests.benchmarks.drift import store, streams
from tests.benchmarks.drift.figures import Figure, Target
from tests.benchmarks.drift.run_length import curve, delay_at, poisson_bounds
from tests.benchmarks.drift.store import Job
from tests.benchmarks.drift.streams import PREFIX_ROWS, seeded

from ciclo_drift import StreamSet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from tests.benchmarks.drift.sizes import Size

    from ciclo_drift import Alarm

    Reals = NDArray[np.float64]

STREAMS = 64
REFERENCE_ROWS = 5_000
BUDGET_ROWS = 10_000
NULL_ROWS = streams.NULL_LENGTHS * BUDGET_ROWS

PARTS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4)
"""Thresholds tried, in those that the library sets."""

BATCH_ROWS = 100
CHANGED_ROWS = 1_000


def one_moves(rows: Reals) -> Reals:
    """One stream moves by half a deviation."""
    moved = rows.copy()
    moved[:, 0] += 0.5
    return moved


def all_move(rows: Reals) -> Reals:
    """All streams move by a quarter of a deviation."""
    return rows + 0.25


SHIFTS: dict[str, tuple[Callable[[Reals], Reals], Target]] = {
    "one at .5": (one_moves, Target(120.0, 90.0)),
    "all at .25": (all_move, Target(15.0, 6.0)),
}


def jobs(size: Size) -> list[Job]:
    """A reference each."""
    return [
        Job(f"64 streams | reference {n}", watch, (n, size.nulls, 2 * size.changed), store.OURS)
        for n in range(size.sets[0])
    ]


def figures(found: Mapping[str, dict[str, Any]]) -> list[Figure]:
    """Delays at the measured run length, and false alarms at the library's threshold."""
    alarms = {
        name: np.concatenate([answer[name] for answer in found.values()])
        for name in ("null", *SHIFTS)
    }
    told = []
    for name, (_, target) in SHIFTS.items():
        measured = curve(alarms["null"], NULL_ROWS, alarms[name], PREFIX_ROWS + CHANGED_ROWS)
        delay = delay_at(measured, BUDGET_ROWS)
        told.append(Figure("delay, 64 streams", name, *delay.told, target=target))
    return [*told, over_budget("delay, 64 streams", alarms["null"][:, PARTS.index(1.0)])]


def over_budget(part: str, alarms: NDArray[np.int64]) -> Figure:
    """False alarms over the budget, of first alarms on streams of `NULL_ROWS`. Shape (S,)."""
    count = int((alarms >= 0).sum())
    expected = float(np.where(alarms < 0, NULL_ROWS, alarms + 1).sum()) / BUDGET_ROWS
    bounds = poisson_bounds(count, expected)
    return Figure(part, "false alarms over budget", count / expected, interval=bounds)


def watch(number: int, nulls: int, changed: int) -> dict[str, Any]:
    """First alarms of `StreamSet` at several thresholds, (streams, thresholds) by name."""
    rng = seeded("64 streams", number)
    reference = columns(rng.normal(size=(REFERENCE_ROWS, STREAMS)))
    watcher = StreamSet.fit(reference, budget_rows=BUDGET_ROWS, seed=number)
    set_at = watcher.threshold

    def alarms(rows: Reals) -> list[int]:
        found = []
        for part in PARTS:
            watcher.reset()
            watcher.threshold = part * set_at
            found.append(first_alarm(lambda batch: watcher.update(columns(batch)), rows))
        return found

    told: dict[str, Any] = {
        "null": [alarms(rng.normal(size=(NULL_ROWS, STREAMS))) for _ in range(nulls)]
    }
    for name, (move, _) in SHIFTS.items():
        told[name] = []
        for _ in range(changed):
            before = rng.normal(size=(PREFIX_ROWS, STREAMS))
            after = move(rng.normal(size=(CHANGED_ROWS, STREAMS)))
            told[name].append(alarms(np.concatenate([before, after])))
    return told


def first_alarm(update: Callable[[Reals], Alarm | None], rows: Reals) -> int:
    """Feeds rows until an alarm; returns its row, -1 without one."""
    for start in range(0, len(rows), BATCH_ROWS):
        if alarm := update(rows[start : start + BATCH_ROWS]):
            return alarm.row
    return -1


def columns(rows: Reals) -> dict[str, Reals]:
    """Rows as streams."""
    return {f"f{number:02}": column for number, column in enumerate(rows.T)}
