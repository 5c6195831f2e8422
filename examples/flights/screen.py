"""What a person sees while the demo runs: a live panel in a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from narrative import finite, headline, listed
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from summary import NONE, figure, in_a_line, outcome_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from rich.console import RenderableType

REFRESHES_PER_SECOND: Final = 4
"""Of the live panel."""

PLAIN_SECONDS: Final = 5.0
"""Between two lines of progress where there is no terminal."""


@dataclass(frozen=True, slots=True)
class View:
    """The loop at a glance.

    Args:
        event_time: How far it was played; None before the first request.
        rate_days_per_s: Event days a second of wall time.
        rows_answered: Rows that callers got.
        failed: Requests that failed.
        waited_s: How long the player waited for features.
        champion_loss: Of the newest closed day; None if there is none yet.
        challenger_loss: The same of the challenger.
        evidence: Of the performance test.
        threshold: At which it alarms.
        moved: What drifted most, strongest first.
        weights: Share of the requests by version.
        stage: Of the story.
    """

    event_time: datetime | None
    rate_days_per_s: float
    rows_answered: int
    failed: int
    waited_s: float
    champion_loss: float | None
    challenger_loss: float | None
    evidence: float | None
    threshold: float | None
    moved: Sequence[str]
    weights: Mapping[int, float]
    stage: str


class Screen:
    """Tells a run as it goes. Use it as a context manager; it is of one thread, or event loop.

    Args:
        console: Where to; None: standard output, plain unless that is a terminal.
        start_us: Event time of the first request: microseconds since 1970-01-01T00:00:00Z.
        end_us: Event time of the last one at the latest. Without both, no progress is shown.
        clock: Wall seconds, from anywhere.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        start_us: int = 0,
        end_us: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console()
        self._is_terminal = self._console.is_terminal and not self._console.is_dumb_terminal
        self._span_us = (start_us, end_us)
        self._clock = clock
        self._begun = clock()
        self._shown = -PLAIN_SECONDS
        self._view: View | None = None
        self._stage = ""
        self._live: Live | None = None

    def __enter__(self) -> Self:
        """Opens the live panel where there is a terminal."""
        if self._is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._panel,
                refresh_per_second=REFRESHES_PER_SECOND,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the panel; what scrolled stays."""
        self._close()

    def stage(self, text: str) -> None:
        """Tells that a new stage of the story begins, with the seconds since the start."""
        self._stage = text
        self._say(Text(f"[{self._seconds():5.1f} s] {text}", style="bold"))

    def note(self, text: str) -> None:
        """Tells an event that is worth a line."""
        self._say(Text(f"          {text}"))

    def show(self, view: View) -> None:
        """Shows how things stand: at once in a terminal, else at most a line in five seconds."""
        self._view = view
        self._stage = view.stage or self._stage
        if self._live is None and self._seconds() - self._shown >= PLAIN_SECONDS:
            self._shown = self._seconds()
            self._say(Text(f"[{self._shown:5.1f} s] {_in_a_line(view)}"))

    def summary(self, figures: Mapping[str, Any], page: Path | None = None) -> None:
        """Closes the panel and tells how it ended.

        Args:
            figures: As the demo writes them; missing parts are told as none.
            page: Where the page of the run lies, if one was written.
        """
        self._close()
        for title, columns, rows in outcome_tables(figures):
            if self._is_terminal and rows:
                self._console.print(_table(title, columns, rows))
            else:
                self._say(Text(f"{title}:{'' if rows else ' ' + NONE}", style="bold"))
                for row in rows:
                    self._say(Text("  " + "  ".join(filter(None, row))))
        passed = bool(figures.get("passed"))
        self._say(Text(in_a_line(figures)))
        self._say(Text(headline(figures)))
        if page is not None:
            self._say(Text(f"The page of this run: {page}"))
        checks = listed(figures, "checks")
        count = f"{sum(bool(check['passed']) for check in checks)} of {len(checks)} checks"
        style = "bold green" if passed else "bold red"
        self._say(Text(f"{'PASS' if passed else 'FAIL'}: {count}", style=style))

    def _say(self, text: Text) -> None:
        # Soft: a line is for a log as much as for an eye, so it is never broken here.
        self._console.print(text, soft_wrap=True)

    def _close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _seconds(self) -> float:
        return self._clock() - self._begun

    def _panel(self) -> RenderableType:
        title = Text(f"Ciclo, {self._seconds():.0f} s: {self._stage}", overflow="ellipsis")
        if self._view is None:
            return Panel(Text("starting"), title=title)
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(ratio=1)
        start, end = self._span_us
        if self._view.event_time is not None and end > start:
            done = self._view.event_time.timestamp() * 1e6 - start
            bar = ProgressBar(total=end - start, completed=min(max(done, 0), end - start))
            grid.add_row("played", bar)
        for name, value in _rows(self._view):
            grid.add_row(name, Text(value))
        return Panel(grid, title=title)


def _rows(view: View) -> list[tuple[str, str]]:
    return [
        ("event time", f"{_day(view.event_time)}, {view.rate_days_per_s:.2f} days/s"),
        (
            "answered",
            f"{view.rows_answered:,} rows, {view.failed} failed; waited {view.waited_s:.1f} s",
        ),
        (
            "loss",
            f"champion {_loss(view.champion_loss)}, challenger {_loss(view.challenger_loss)}",
        ),
        ("evidence", f"{_gauge(view)} {_evidence(view)}"),
        ("moved", ", ".join(view.moved) or NONE),
        ("weights", _weights(view)),
    ]


def _in_a_line(view: View) -> str:
    return (
        f"{_day(view.event_time)} at {view.rate_days_per_s:.2f} days/s: "
        f"{view.rows_answered} rows answered, {view.failed} failed, waited {view.waited_s:.1f} s; "
        f"loss {_loss(view.champion_loss)}, challenger's {_loss(view.challenger_loss)}; "
        f"evidence {_evidence(view)}; moved {', '.join(view.moved) or NONE}; {_weights(view)}"
    )


def _gauge(view: View) -> str:
    """Ten places full at the threshold."""
    evidence, threshold = finite(view.evidence), finite(view.threshold)
    full = int(min(10, 10 * evidence / threshold)) if evidence >= 0 and threshold > 0 else 0
    return "#" * full + "." * (10 - full)


def _evidence(view: View) -> str:
    return f"{figure(view.evidence, '.1f')} of {figure(view.threshold, '.0f')}"


def _weights(view: View) -> str:
    shares = (f"version {name} {share:.0%}" for name, share in sorted(view.weights.items()))
    return ", ".join(shares) or NONE


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else NONE


def _loss(loss: float | None) -> str:
    return figure(loss, ".3f")


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", expand=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        style = "red" if row[0] == "FAIL" else ""
        table.add_row(*(Text(str(cell)) for cell in row), style=style)
    return table
