"""How many captured rows a second the monitor takes in on one core, from bytes to its tests.

Run it: `python -m tests.benchmarks.monitor [--quick]`. It writes build/bench/monitor.json.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ciclo.cloudevents import Envelope, Record, decode, encode
from ciclo.common.v1.version_pb2 import VARIANT_CHAMPION, VersionRef
from ciclo.events.v1.predictions_served_pb2 import PURPOSE_SERVED, PredictionsServed
from ciclo.tensors import pack_tensor
from ciclo_drift import StreamSet
from ciclo_monitor import wire
from ciclo_monitor.domain.calendar import Calendar
from ciclo_monitor.domain.findings import Version
from ciclo_monitor.domain.model import ModelMonitor
from ciclo_monitor.domain.performance import HeldOut
from ciclo_monitor.domain.watch import Champion, WatchPolicy

OUT = Path("build/bench/monitor.json")
LEAST, AIM = 100_000, 300_000
"""Rows a second on one core: what must be reached, and what is aimed at."""

FEATURES = [f"f{number:02}" for number in range(64)]
BATCH_ROWS = 100
TURN_BATCHES = 20
"""Batches that one side takes before the other has its turn: both see the same machine."""

DAY_US = 86_400_000_000
ROWS_A_DAY = 20_000
KEPT_DAYS = 42
LOOP: Any = SimpleNamespace(input=SimpleNamespace(id="row"), output=SimpleNamespace(name="answer"))
"""What `wire.to_answers` asks of a definition."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured. Rates in rows a second of processor time, which others on the machine do
    not spoil; sizes in bytes."""

    rows: int
    rate: float
    floor: float
    ratio: float
    resident_growth: int
    least: int = LEAST
    aim: int = AIM


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke of a few seconds")
    quick = parser.parse_args().quick
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    figures = measure(20_000 if quick else 1_000_000)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(asdict(figures), indent=2) + "\n")
    print(  # noqa: T201 -- it is run to be read
        f"monitor: {figures.rate:,.0f} rows/s (at least {LEAST:,}, aim {AIM:,}); "
        f"decoding and a histogram a column alone: {figures.floor:,.0f} rows/s; "
        f"ratio {figures.ratio:.2f}; "
        f"{figures.resident_growth / 2**20:,.0f} MiB more over {figures.rows:,} rows"
    )


def measure(rows: int) -> Figures:
    """Feeds the same batches to the monitor and to the floor, in turns."""
    monitor, edges = made()
    stream = batches()
    for record in islice(stream, TURN_BATCHES):  # compiles the kernels
        take(monitor, record)
    spent = {"monitor": 0.0, "floor": 0.0}
    resident = resident_bytes()
    for _ in range(rows // (TURN_BATCHES * BATCH_ROWS)):
        turn = list(islice(stream, TURN_BATCHES))
        start = time.process_time()
        for record in turn:
            take(monitor, record)
        between = time.process_time()
        for record in turn:
            count(edges, record)
        spent["floor"] += time.process_time() - between
        spent["monitor"] += between - start
    rate, floor = rows / spent["monitor"], rows / spent["floor"]
    return Figures(rows, rate, floor, rate / floor, resident_bytes() - resident)


def take(monitor: ModelMonitor, record: Record) -> None:
    """What the worker does with a record."""
    _, message = decode(record.value, record.headers)
    answers = wire.to_answers(message, LOOP)
    assert answers is not None
    monitor.fold_answers(answers)


def count(edges: dict[str, Any], record: Record) -> None:
    """The least that anybody could do: read the message, count each column's values."""
    message = PredictionsServed.FromString(record.value)
    for tensor in message.inputs:
        if tensor.name in edges:
            np.histogram(np.frombuffer(tensor.contents, "<f4"), edges[tensor.name])


def batches() -> Iterator[Record]:
    """Yields records without end, in event time."""
    rng = np.random.default_rng(1)
    pool = [rng.normal(size=(BATCH_ROWS, len(FEATURES))) for _ in range(50)]
    scores = rng.uniform(0.05, 0.95, BATCH_ROWS)
    number = 0
    while True:
        first = number * BATCH_ROWS
        names = [f"row-{row}" for row in range(first, first + BATCH_ROWS)]
        times = 15_000 * DAY_US + np.arange(first, first + BATCH_ROWS) * (DAY_US // ROWS_A_DAY)
        columns = pool[number % len(pool)].T
        message = PredictionsServed(
            version=VersionRef(model="wide", version=1),
            variant=VARIANT_CHAMPION,
            purpose=PURPOSE_SERVED,
            prediction_ids=[f"prediction-{name}" for name in names],
            row_counts=[1] * BATCH_ROWS,
            event_time_us=times.tolist(),
            status_codes=[0] * BATCH_ROWS,
            inputs=[pack_tensor("row", names)]
            + [pack_tensor(name, c) for name, c in zip(FEATURES, columns, strict=True)],
            outputs=[pack_tensor("answer", scores)],
        )
        when = datetime(2013, 1, 1, tzinfo=UTC)
        yield encode(Envelope(f"batch-{number}", "/ciclo/bench/gateway", "wide", when), message)
        number += 1


def made() -> tuple[ModelMonitor, dict[str, Any]]:
    """Returns a monitor of a model with a reference, and edges for the floor's histograms."""
    rng = np.random.default_rng(0)
    rows, days = 6_000, 30
    reference = {name: rng.normal(size=rows) for name in FEATURES}
    edges = {name: np.quantile(column, np.linspace(0, 1, 65)) for name, column in reference.items()}
    streams = StreamSet.fit(
        {**reference, "score": rng.uniform(0.05, 0.95, rows)},
        blocks=np.repeat(np.arange(days), rows // days),
        budget_blocks=365,
    )
    held_out = HeldOut(rng.normal(90, 5, 12), np.full(12, 90.0), np.full(12, 200))
    policy = WatchPolicy(
        calendar=Calendar(DAY_US, DAY_US // 2, 3 * DAY_US),
        kept_us=KEPT_DAYS * DAY_US,
        most_rows=2_000_000,
        tolerance=0.02,
        budget_blocks=365,
        budget="1 per 365d",
        least_captured=0.99,
        margin=0.005,
        alpha=0.05,
        exposure_at_most=1_000,
    )
    monitor = ModelMonitor("wide", policy)
    monitor.set_champion(Champion(Version(1, "sha256:1", "sha256:s"), held_out, streams))
    return monitor, edges


def resident_bytes() -> int:
    """Returns the memory of this process that is in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
