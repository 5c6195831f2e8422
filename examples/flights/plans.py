"""When what is done from outside: the story, and the controls in which nothing may be decided."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final


def at(text: str) -> int:
    """Returns microseconds since the epoch of a UTC time such as `2013-05-15 08:00`."""
    found = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(found.timestamp()) * 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """When what is done from outside: docs/adr/0002-flights-timeline.md says why then.

    Args:
        control: permuted, no-labels or equal; empty for the story.
        start: Traffic begins; history ends.
        end: Traffic ends at the latest.
        first_cut: Event time as of which version 1 is cut.
        backfill: A faulty backfill restates the delays, and somebody trains on it.
        again: An equal challenger is trained.
        days_per_second: Speed of the event clock.
    """

    control: str = ""
    start: int = at("2013-05-15 08:00")
    end: int = at("2013-09-05 08:00")
    first_cut: int = at("2013-04-08 00:00")
    backfill: int | None = at("2013-07-24 12:00")
    again: int | None = None
    days_per_second: float = 1.0


CONTROLS: Final = {
    "": Plan(),
    # The days of the reference season in random order: nothing that was learned has changed.
    "permuted": Plan("permuted", at("2013-04-08 08:00"), at("2013-05-15 08:00"), backfill=None),
    "no-labels": Plan("no-labels", end=at("2013-07-10 08:00"), backfill=None),
    "equal": Plan(
        "equal",
        end=at("2013-06-18 08:00"),  # before the world moves, when newer data would be better
        backfill=None,
        again=at("2013-05-16 12:00"),
    ),
}
"""What each control plays."""
