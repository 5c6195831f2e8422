"""A backtest as a page: one file that needs no network and no script."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ciclo_drift.backtest.plots import distribution_plot, evidence_plot
from ciclo_drift.backtest.report import (
    budget_line,
    certificate_line,
    change_rows,
    counted,
    headings,
    headline,
    how,
    loss_lines,
    percent,
)

if TYPE_CHECKING:
    from ciclo_drift.backtest.result import Backtest, Picture

READ_EVIDENCE = (
    "Grows while rows look unlike the reference, and is back at its start after an alarm. "
    "Dashed: where it alarms. Numbers: the changes below, at their first alarms."
)
"""How to read the first plot."""

READ_PICTURES = (
    'Distributions in the <b class="then">reference</b> and <b class="now">since the change</b>, '
    "of the streams that moved most."
)
"""How to read the others."""

STYLE = """
:root { --ink: #1d232b; --muted: #5d6875; --paper: #fff; --card: #f5f7f9; --line: #d8dee5;
  --then: #0072b2; --alarm: #b8410b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaef; --muted: #9aa6b3; --paper: #14181d;
  --card: #1d232b; --line: #36404b; --then: #56b4e9; --alarm: #f0984a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 72rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.3; margin: .25rem 0 .75rem; text-wrap: balance; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.75rem 0 .25rem; }
p { margin: .25rem 0 .5rem; }
.muted, figcaption, dt { color: var(--muted); }
.muted, li { font-size: .9rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0; }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem .9rem; }
.cards b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.warn { border-left: .3rem solid var(--alarm); background: var(--card); padding: .6rem .9rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr));
  gap: 1.25rem 1rem; }
figure { margin: 0; }
figcaption { font-size: .875rem; } figcaption b { color: var(--ink); }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit; }
.then { color: var(--then); } .now { color: var(--alarm); }
.scroll { overflow-x: auto; } .wide { min-width: 42rem; }
table { border-collapse: collapse; width: 100%; font-size: .85rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--muted); }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem;
  white-space: pre-wrap; overflow-wrap: anywhere; font: .85rem/1.4 ui-monospace, monospace; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .9rem; }
dd { margin: 0; overflow-wrap: anywhere; }
"""
"""Colours for day and night; the plots take theirs from here."""


def html_page(found: Backtest, command: str | None = None) -> str:
    """The whole page.

    Args:
        found: What to show.
        command: The command line that made it, if one did.
    """
    title = headline(found)
    parts = [
        f"<h1>{escape(title[0].upper() + title[1:])}</h1>",
        _cards(found),
        _certificate(found),
        "<h2>Evidence</h2>",
        f'<p class="muted">{READ_EVIDENCE}</p>',
        f'<div class="scroll"><div class="wide">{evidence_plot(found)}</div></div>',
        _changes(found),
        _losses(found),
        _notes(found),
        _settings(found, command),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        '<p class="muted">Backtest</p>\n'
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def _cards(found: Backtest) -> str:
    spent = found.spending
    low, high = spent.interval
    changes, noun = counted(len(found.episodes), "change").split()
    over = "changes" if found.loss_rises is None else "changes and rises of the loss"
    cards = [
        (changes, f"{noun}, {counted(len(found.alarms), 'alarm')}"),
        (f"{spent.allowed:.2g}", "false alarms allowed by the budget"),
        (f"{spent.ratio:.2g}", f"{over} over allowed (95 %: {low:.2g} to {high:.2g})"),
        (
            f"{found.rows:,}",
            f"{'row' if found.rows == 1 else 'rows'}, {spent.rows:,} of them watched",
        ),
        (f"{found.reference_rows:,}", "rows of reference"),
        (f"{len(found.streams)}", "streams"),
    ]
    return (
        '<div class="cards">'
        + "".join(
            f"<div><b>{escape(value)}</b><span class='muted'>{escape(text)}</span></div>"
            for value, text in cards
        )
        + "</div>"
    )


def _certificate(found: Backtest) -> str:
    warn = "muted" if found.certificate.certified else "warn"
    return (
        f'<p class="muted">{escape(budget_line(found))}.</p>\n'
        f'<p class="{warn}">{escape(certificate_line(found))}.</p>'
    )


def _changes(found: Backtest) -> str:
    if not found.alarms:
        return ""
    table = _table(headings(found), change_rows(found))
    parts = ["<h2>Changes</h2>", table]
    if found.pictures:
        parts.append(f'<p class="muted">{READ_PICTURES}</p>')
        figures = "".join(_figure(found, picture) for picture in found.pictures)
        parts.append(f'<div class="pictures">{figures}</div>')
    return "\n".join(parts)


def _figure(found: Backtest, picture: Picture) -> str:
    number = picture.episode + 1
    alarm = next(alarm for alarm in found.alarms if alarm.episode == picture.episode)
    leads = (
        f": {how(alarm, found.episodes[picture.episode].fault)}"
        if alarm.stream == picture.stream
        else ""
    )
    title = f"<b>{number}. {escape(picture.stream + leads)}</b>"
    missing = ""
    if max(picture.before[-1], picture.now[-1]) > 0.0:
        missing = f"; missing {percent(picture.before[-1])}, now {percent(picture.now[-1])}"
    rows = f"{counted(picture.rows, 'row')} since the change{missing}"
    return (
        f"<figure><figcaption>{title}<br>{rows}</figcaption>{distribution_plot(picture)}</figure>"
    )


def _table(names: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _losses(found: Backtest) -> str:
    if not found.loss:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in loss_lines(found))
    return f"<h2>Loss</h2><ul>{items}</ul>"


def _notes(found: Backtest) -> str:
    if not found.notes:
        return ""
    return "<h2>Notes</h2><ul>" + "".join(f"<li>{escape(n)}</li>" for n in found.notes) + "</ul>"


def _settings(found: Backtest, command: str | None) -> str:
    shown = {**found.settings, "streams": ", ".join(found.streams)}
    pairs = "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(str(value))}</dd>"
        for name, value in shown.items()
        if value is not None
    )
    line = f"<pre>{escape(command)}</pre>" if command else ""
    took = f'<p class="muted">Took {found.seconds:.2f} s.</p>'
    return f"<h2>To reproduce</h2>{line}<dl>{pairs}</dl>{took}"
