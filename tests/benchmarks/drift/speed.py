"""Part `speed`: processor time a row, bytes a feature; medians of interleaved turns, one core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from tests.benchmarks.drift import many
from tests.benchmarks.drift.figures import Figure, Target
from tests.benchmarks.drift.store import Job

from ciclo_drift import Reference, StreamSet
from ciclo_drift.bank import ENGINE, Bank
from ciclo_drift.joint import JointBank

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from tests.benchmarks.drift.sizes import Size

BATCH_ROWS = 100
WIDTHS = (8, 64, 512)
REFERENCE_ROWS = 5_000
DIMENSIONS = 32
BATCHES = 100

NEVER = 1e12
"""A budget that no run here uses up."""

WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
from tests.benchmarks.drift import speed
speed.without_numba(int(sys.argv[1]), float(sys.argv[2]))
"""
"""A process of its own: which loops run is settled when the library is imported."""

KERNEL = "kernel, 64 features"
JOINT = "JointBank, 32-d"
KERNEL_TARGET = Target(400_000.0, 1_000_000.0, at_least=True)
JOINT_TARGET = Target(150.0, 30.0)


def jobs(size: Size) -> list[Job]:
    """One job, never kept: it tells of this machine, now."""
    return [Job("speed", measure, size.turns, ())]


def figures(found: Mapping[str, dict[str, Any]]) -> list[Figure]:
    """Rates, and the time of an embedding."""
    rates, sized = found["speed"]["rates"], found["speed"]["bytes"]
    told = []
    for name, turns in rates.items():
        value, ends = float(np.median(turns)), (min(turns), max(turns))
        if name == JOINT:
            value, ends = 1e6 / value, (1e6 / ends[1], 1e6 / ends[0])
            told.append(Figure("speed", name, value, "us/row", ends, "", JOINT_TARGET))
        else:
            target = KERNEL_TARGET if name == KERNEL else None
            told.append(Figure("speed", name, value, "rows/s", ends, "", target))
    return told + [
        Figure("speed", f"{name} of a feature", size, "bytes") for name, size in sized.items()
    ]


def measure(repeats: int, turn_s: float) -> dict[str, Any]:
    """Measures all in turns, so that every figure sees the same machine.

    Args:
        repeats: Turns of each.
        turn_s: Processor time of a turn, about.

    Returns:
        `rates`: rows a second in each turn, by name; `bytes` a feature.
    """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    loads = {f"kernel, {width} features": kernel(width) for width in WIDTHS}
    loads["update with encoding, 64 features"] = updating(64)
    loads[JOINT] = joint()
    rates = timed(loads, repeats, turn_s)
    command = [sys.executable, "-c", WITHOUT_NUMBA, str(repeats), str(turn_s)]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    return {"rates": rates | json.loads(told.stdout), "bytes": sizes()}


def timed(
    loads: dict[str, Callable[[], None]], repeats: int, turn_s: float
) -> dict[str, list[float]]:
    """Rows a second of processor time, in each turn."""
    calls = {}
    for name, load in loads.items():
        load()  # compiles
        start = time.process_time()
        load()
        calls[name] = max(1, round(turn_s / max(time.process_time() - start, 1e-6)))
    rates: dict[str, list[float]] = {name: [] for name in loads}
    for _ in range(repeats):
        for name, load in loads.items():
            start = time.process_time()
            for _ in range(calls[name]):
                load()
            spent = time.process_time() - start
            rates[name].append(calls[name] * BATCH_ROWS / spent)
    return rates


def kernel(width: int) -> Callable[[], None]:
    """Rows that are encoded already, through the bank."""
    reference, batches = drawn(width)
    references = [Reference.numeric(c, name=n) for n, c in many.columns(reference).items()]
    bank = Bank(references, np.full(width, 1.0 / width), 0)
    encoded = cycle([bank.encode(many.columns(batch)) for batch in batches])
    return lambda: bank.run(next(encoded), grow=True)


def updating(width: int) -> Callable[[], None]:
    """What a user calls, with columns."""
    reference, batches = drawn(width)
    watcher = StreamSet.fit(many.columns(reference), budget_rows=NEVER)
    columns = cycle([many.columns(batch) for batch in batches])
    return lambda: watcher.update(next(columns))


def joint() -> Callable[[], None]:
    """The same, with vectors."""
    reference, batches = drawn(DIMENSIONS)
    watcher = JointBank.fit(reference, budget_rows=NEVER, seed=0)
    vectors = cycle(batches)
    return lambda: watcher.update(next(vectors))


def drawn(width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A reference, and enough batches that a pool which grows with them stays what it was."""
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(REFERENCE_ROWS, width))
    return reference, rng.normal(size=(BATCHES, BATCH_ROWS, width))


def sizes() -> dict[str, float]:
    """Bytes a feature, of 64: what a reference keeps, and what moves."""
    reference, batches = drawn(64)
    watcher = StreamSet.fit(many.columns(reference), budget_rows=NEVER)
    watcher.update(many.columns(batches[0]))
    kept = sum(len(reference.to_bytes()) for reference in watcher.references)
    state = watcher.snapshot().items()
    moving = sum(array.nbytes for name, array in state if name.startswith("bank_"))
    return {"reference": kept / 64, "state": moving / 64}


def without_numba(repeats: int, turn_s: float) -> None:
    """Prints the rates of the path without a compiler: called where numba cannot be found."""
    assert ENGINE.__name__.endswith(".rowwise"), ENGINE
    loads = {"kernel in NumPy, 64 features": kernel(64)}
    print(json.dumps(timed(loads, repeats, turn_s)))  # noqa: T201 -- the parent reads it
