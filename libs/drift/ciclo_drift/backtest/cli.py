"""`python -m ciclo_drift backtest`: two files in, a summary, JSON or a page out."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ciclo_drift.backtest.report import counted, summary
from ciclo_drift.backtest.run import backtest
from ciclo_drift.backtest.tables import read_table
from ciclo_drift.errors import DriftInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ciclo_drift.backtest.result import Backtest

REFUSED = 2
"""Exit code where something about the arguments or the tables is wrong, as argparse has it."""

EXAMPLE = """example:
  python -m ciclo_drift backtest --reference june.parquet --stream july.parquet \\
      --time departure --season auto --budget "1 per 30 days" --html july.html

exit codes: 0 it ran, whatever it found; 2 something is wrong with the input, or the reference
is too short to promise the budget (--report-only looks all the same)"""


def main(arguments: Sequence[str]) -> int:
    """Runs a command line and returns its exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help()
        return 0
    try:
        found = _run(given)
        _write(found, given, arguments)
    except DriftInputError as error:
        sys.stderr.write(f"error: {_as_option(error, given)}\n")
        return REFUSED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ciclo_drift",
        description="Sequential drift detection that keeps its false-alarm budget.",
    )
    commands = parser.add_subparsers(dest="command", title="commands")
    made = commands.add_parser(
        "backtest",
        help="tell what watching a recorded stream would have said",
        description="Watches a recorded stream against a reference, row by row, and tells the "
        "alarms, since when, what moved, and what the budget allows.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--reference", required=True, metavar="FILE", help="rows that were normal (.parquet, .csv)")
    add("--stream", required=True, metavar="FILE", help="rows to look at, in their order")
    add("--budget", default="1 per 100000 rows", help="false alarms allowed (default: %(default)s)")
    add("--time", metavar="COL", help="when a row came: datetime, epoch seconds or ISO text")
    add("--season", metavar="PARTS", help="hour,weekday,month,minute, or auto: needs --time")
    add("--label", metavar="COL", help="what came true; empty = not yet known")
    add("--score", metavar="COL", help="probability of the label 1")
    add("--prediction", metavar="COL", help="value or class that was foretold")
    add("--categorical", default="", metavar="COLS", help="numbers that are categories: a,b")
    add("--block", metavar="COL", help="rows of one block depend on each other: a day, a batch")
    add("--json", metavar="FILE", help="write all figures; - for standard output")
    add("--html", metavar="FILE", help="write a page with plots, in one file")
    add("--report-only", action="store_true", help="run even if the budget cannot be promised")
    add("--seed", type=int, default=0, help="of resampling and ties (default: %(default)s)")
    return parser


def _run(given: argparse.Namespace) -> Backtest:
    return backtest(
        read_table(given.reference, "reference"),
        read_table(given.stream, "stream"),
        budget=given.budget,
        time=given.time,
        season=given.season,
        label=given.label,
        score=given.score,
        prediction=given.prediction,
        categorical=[name.strip() for name in given.categorical.split(",") if name.strip()],
        block=given.block,
        seed=given.seed,
        report_only=given.report_only,
        progress=_progress() if sys.stderr.isatty() else None,
    )


def _write(found: Backtest, given: argparse.Namespace, arguments: Sequence[str]) -> None:
    figures = json.dumps(found.to_dict(), indent=2, ensure_ascii=False) + "\n"
    if given.json == "-":
        sys.stdout.write(figures)
    else:
        sys.stdout.write(summary(found) + "\n")
    if given.json and given.json != "-":
        _save(given.json, figures, "json")
    if given.html:
        from ciclo_drift.backtest.page import html_page

        _save(
            given.html,
            html_page(found, shlex.join(["python", "-m", "ciclo_drift", *arguments])),
            "html",
        )


def _save(path: str, text: str, what: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        found = f"{path} cannot be written ({error.strerror})"
        raise DriftInputError(what, found, "a file in a folder that exists") from error


def _progress() -> Callable[[int, int], None]:
    """Writes the share of rows done over itself, in a terminal."""
    shown = -1

    def show(done: int, rows: int) -> None:
        nonlocal shown
        if (now := 100 * done // rows) != shown:
            shown = now
            sys.stderr.write(
                f"\r{now:3d} % of {counted(rows, 'row')}" + ("\n" if done == rows else "")
            )
            sys.stderr.flush()

    return show


def _as_option(error: DriftInputError, given: argparse.Namespace) -> str:
    """The error, with arguments named as on the command line."""
    text = re.sub(r"`(\w+)`", lambda found: f"--{found[1].replace('_', '-')}", str(error))
    return f"--{text}" if error.what in vars(given) else text
