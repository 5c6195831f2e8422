"""Puts the tables and the plot into the library's README, between two markers."""

from __future__ import annotations

import shutil
from pathlib import Path

README = Path("libs/drift/README.md")
PLOT = Path("libs/drift/docs/delay.svg")

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def publish(tables: str, drawn: Path) -> None:
    """Puts the tables and what was drawn last where a reader finds them."""
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(drawn, PLOT)
    put(f"{tables}\n\n![Delay against run length](docs/{PLOT.name})")


def put(text: str, readme: Path = README) -> None:
    """Replaces what stands between the markers; without markers, adds both at the end.

    Raises:
        ValueError: One marker is there without the other.
    """
    page = readme.read_text()
    if BEGIN not in page and END not in page:
        page = f"{page.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, found, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{readme}: one of {BEGIN} and {END} is missing; expected both, in order")
    readme.write_text(f"{before}{BEGIN}\n{text.strip()}\n{END}{after}")
