"""Part `budgets`: false alarms over the number that the budget allows, without a change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.benchmarks.drift import store, streams
from tests.benchmarks.drift.figures import Figure, Target
from tests.benchmarks.drift.run_length import poisson_bounds
from tests.benchmarks.drift.store import Job

from ciclo_drift import RankBank, Reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from tests.benchmarks.drift.sizes import Size

    from ciclo_drift import Alarm

LENGTH = 3
"""Rows after which a stream without an alarm is left, in budgets."""

BATCHES = 30
"""Batches of such a stream: a detector stops in the one that alarms."""

TARGET = Target(1.2, 1.05, upper=True, aim_from=0.7)
TARGET_DEPENDENT = Target(1.3, 1.0, upper=True)

DEPENDENT = ("households", "AR(.5)", "AR(.9)", "day and night")


def jobs(size: Size) -> list[Job]:
    """Streams without a change, watched at the library's own thresholds."""
    settings = [
        ("i.i.d.", m, budget, size.runs) for m in size.reference_rows for budget in size.budgets
    ]
    settings += [(world, *setting) for world in DEPENDENT for setting in size.dependent]
    return [
        Job(
            f"{world} | {rows} | {budget}",
            count,
            (world, rows, budget, range(runs)),
            store.OURS,
        )
        for world, rows, budget, runs in settings
    ]


def figures(found: Mapping[str, dict[str, Any]]) -> list[Figure]:
    """Alarms over the budget; of dependent streams, those of certified references."""
    told = []
    for name, answer in found.items():
        world, rows, budget = name.split(" | ")
        certified, flagged = answer["certified"], answer["flagged"]
        dependent = world in DEPENDENT
        promised = [certified] if dependent and certified["runs"] else [certified, flagged]
        alarms = sum(part["alarms"] for part in promised)
        expected = sum(part["rows"] for part in promised) / int(budget)
        runs = certified["runs"] + flagged["runs"]
        told.append(
            Figure(
                "false alarms over budget",
                f"{world}, m {int(rows):,}, budget {int(budget):,}",
                alarms / expected,
                interval=poisson_bounds(alarms, expected),
                note=f"{flagged['runs']} of {runs} references flagged" * (flagged["runs"] > 0),
                target=TARGET_DEPENDENT if dependent else TARGET,
                is_flagged=dependent and certified["runs"] == 0,
            )
        )
    return told


def count(world: str, reference_rows: int, budget_rows: int, numbers: range) -> dict[str, Any]:
    """Watches each stream until it alarms or ends, with thresholds as the library sets them.

    Returns:
        By whether the reference was certified: `runs`, `alarms`, and `rows` watched.
    """
    found = {True: [0, 0, 0], False: [0, 0, 0]}
    draw = streams.WORLDS[world]
    for number in numbers:
        rng = streams.seeded(world, reference_rows, budget_rows, number)
        bank = made(world, draw(rng, reference_rows), budget_rows, number)
        rows = draw(rng, LENGTH * budget_rows)
        alarm = fed(bank, rows, streams.season(world, len(rows)))
        tally = found[bank.certificate.certified]
        tally[0] += 1
        tally[1] += alarm is not None
        tally[2] += len(rows) if alarm is None else alarm.row + 1
    return {
        kind: dict(zip(("runs", "alarms", "rows"), found[kind == "certified"], strict=True))
        for kind in ("certified", "flagged")
    }


def made(world: str, values: NDArray[np.float64], budget_rows: int, seed: int) -> RankBank:
    """Returns a bank as a user of the library makes it: what is known of the stream is declared."""
    reference = Reference.numeric(
        values,
        phases=streams.season(world, len(values)),
        budgets_rows=(budget_rows,) if world in DEPENDENT else (),
        seed=seed,
    )
    return RankBank(reference, budget_rows=budget_rows, seed=seed)


def fed(
    bank: RankBank, rows: NDArray[np.float64], phases: NDArray[np.int64] | None
) -> Alarm | None:
    """Feeds rows until an alarm."""
    batch = len(rows) // BATCHES
    for start in range(0, len(rows), batch):
        span = slice(start, start + batch)
        if alarm := bank.update(rows[span], None if phases is None else phases[span]):
            return alarm
    return None
