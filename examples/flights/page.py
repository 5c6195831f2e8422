"""Writes the page of a run: one file that needs no network, for people who see Ciclo first here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from narrative import cycles, finite, headline, listed, long_day, short_day
from plots import colour_name, draw_plots

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATE: Final = "page.html.jinja"
"""Lies beside this module. Escapes whatever it is given but the plots."""

TEXT_LENGTH: Final = 150
"""Characters of a text in the strip of cycles; the list of events has it whole."""


def write_page(figures: Mapping[str, Any], to: Path) -> None:
    """Writes figures as a self-contained HTML page.

    Args:
        figures: As the demo writes them. Parts may be missing or empty: the page says none.
        to: The file. Its folder must exist.

    Raises:
        OSError: The file cannot be written.
    """
    page = (
        _environment()
        .get_template(TEMPLATE)
        .render(
            title=_title(figures),
            headline=headline(figures),
            played=_played(figures),
            passed=bool(figures.get("passed")),
            cycles=cycles(figures),
            plots=[
                (plot, {name: Markup(svg) for name, svg in plot.svg.items()})
                for plot in draw_plots(figures)
            ],
            colour_name=colour_name,
            counts=_counts(figures),
            failed=[check for check in listed(figures, "checks") if not check["passed"]],
            **{
                name: listed(figures, name)
                for name in ("checks", "versions", "rollouts", "events", "failures")
            },
            tables=figures.get("tables") or {},
        )
    )
    to.write_text(page, encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "gain": lambda value: _number(value, "+.4f"),
        "short_day": short_day,
        "minute": lambda text: str(text or "")[:16].replace("T", " "),
        "digest": lambda text: str(text or "").removeprefix("sha256:")[:12],
        "cut": lambda text: text if len(text) <= TEXT_LENGTH else text[: TEXT_LENGTH - 1] + "…",
    }
    return environment


def _title(figures: Mapping[str, Any]) -> str:
    control = figures.get("control")
    return f"Ciclo: flight delays, control “{control}”" if control else "Ciclo: flight delays"


def _played(figures: Mapping[str, Any]) -> str:
    start, end = (long_day(figures.get(name)) for name in ("event_start", "event_end"))
    if not (start and end):
        return ""
    days = _number(finite(figures.get("speedup")) / 86_400, ".2f")
    return f"Flights out of New York, {start} to {end}, played at {days} days a second."


def _counts(figures: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Groups of (what, how many)."""
    ids, skew = (figures.get(name) or {} for name in ("ids", "skew"))
    seconds = figures.get("seconds") or {}
    groups = {
        "rows": {
            "due": figures.get("rows_due"),
            "answered": figures.get("rows_answered"),
            "failed": figures.get("failed"),
            "answered by the bad challenger": figures.get("rows_by_bad"),
        },
        "request ids": {
            "that callers got": ids.get("callers"),
            "found on Kafka": ids.get("kafka"),
            "found in the Delta table": ids.get("delta"),
            "lost": figures.get("ids_lost"),
        },
        "labels": {
            "due": figures.get("labels_due"),
            "joined with their row": figures.get("labels_joined"),
            "rows never labelled": figures.get("never_labelled"),
        },
        "training against serving": {
            "rows audited": skew.get("rows_audited"),
            "rows that differ": skew.get("rows_different"),
        },
        "pace": {
            "event seconds per second": figures.get("speedup"),
            "seconds waited for features": figures.get("waited_s"),
        },
        "seconds of wall time": seconds,
    }
    return [
        (group, [(name, _number(value)) for name, value in rows.items()])
        for group, rows in groups.items()
    ]


def _number(value: object, spec: str = "") -> str:
    """A whole number with its thousands, another with `spec`; `none` for what is not finite."""
    number = finite(value)
    if number != number:  # NaN
        return "none"
    if spec:
        return format(number, spec)
    return f"{number:,.0f}" if number == int(number) or abs(number) >= 1000 else f"{number:,.2f}"
