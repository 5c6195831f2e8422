"""Measures drift detection beside its targets; see `--help`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.drift import (
    budgets,
    delays,
    flights,
    many,
    peers,
    plots,
    readme,
    speed,
    table,
    vectors,
)
from tests.benchmarks.drift.sizes import FULL, QUICK
from tests.benchmarks.drift.store import measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.drift.figures import Figure
    from tests.benchmarks.drift.sizes import Size

OUT = Path("build/bench/drift.json")
DRAWN = Path("build/bench/delay.svg")

PARTS = {
    "delays": delays,
    "budgets": budgets,
    "many": many,
    "vectors": vectors,
    "flights": flights,
    "speed": speed,
}
"""In the order in which they are measured; speed is alone on the machine, as far as we know."""


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(prog="make bench NAME=drift", description=__doc__)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true", help="within three minutes (the default)")
    sizes.add_argument("--full", action="store_true", help="all of it, within half an hour")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be repeated")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument(
        "--readme",
        action=argparse.BooleanOptionalAction,
        help="put tables and plot into the library's README (on with --full)",
    )
    given = parser.parse_args()
    os.environ.update(peers.ONE_THREAD)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wanted = given.only or list(PARTS)
    try:
        figures = run(FULL if given.full else QUICK, wanted, given.jobs)
    except KeyboardInterrupt:
        print("stopped; what was measured is kept in build/bench/drift", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    report(figures, "full" if given.full else "quick")
    print(table.lines(figures))  # noqa: T201 -- it is run to be read
    if given.readme or (given.full and given.readme is None and not given.only):
        readme.publish(table.markdown(figures), DRAWN)


def run(size: Size, wanted: Sequence[str], processes: int) -> list[Figure]:
    """Measures the wanted parts, one after the other."""
    figures = []
    for name, part in PARTS.items():
        if name not in wanted:
            continue
        jobs = part.jobs(size)
        if name == "delays" and size.peers:
            peers.install()
        found = measure(jobs, processes)
        figures += part.figures(found)
        if name == "delays":
            plots.draw(delays.plot(found), DRAWN)
    return figures


def report(figures: Sequence[Figure], size: str) -> None:
    """Writes what was measured, where and with what."""
    told = {
        "size": size,
        "machine": {"processor": platform.processor(), "cores": os.cpu_count()},
        "versions": {"python": platform.python_version(), "numpy": version("numpy")}
        | {"numba": version("numba"), "ciclo-drift": version("ciclo-drift")}
        | peers.versions(),
        "figures": [figure.as_json() for figure in figures],
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
