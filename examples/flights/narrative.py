"""What recorded events tell: the headline, the cycles, the moments. Called by the page and screen.

Takes `figures` as the demo writes them; a part that is missing or empty is told as nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ALARMS: Final = ("PerformanceDegraded", "DriftDetected")

STEPS: Final = {
    "noticed": ALARMS,
    "trained": (
        "TrainingStarted",
        "TrainingSkipped",
        "TrainingCompleted",
        "TrainingFailed",
        "VersionRegistered",
    ),
    "judged": ("GatesEvaluated", "RolloutJudged"),
    "rolled out": (
        "RolloutStarted",
        "RolloutAdvanced",
        "ModelPromoted",
        "RolloutCompleted",
        "RolloutRolledBack",
        "VersionQuarantined",
        "LeaseExpired",
    ),
}
"""The steps of a cycle, in order, with the events that belong to each."""

VERSION: Final = re.compile(r"\bversion \d+")

TAKEN_BACK: Final = "taken back"


@dataclass(frozen=True, slots=True)
class Moment:
    """A point of event time worth a mark on a plot.

    Args:
        time: Event time.
        text: A word or three.
    """

    time: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Told:
    """An event of a cycle, for people.

    Args:
        day: Its event time as `19 Jun`; empty where the event does not say.
        what: Its type in words.
        text: What it tells.
    """

    day: str
    what: str
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """One of the four steps of a cycle.

    Args:
        name: `noticed`, `trained`, `judged`, and `rolled out` or `taken back`.
        items: Its events, oldest first.
    """

    name: str
    items: tuple[Told, ...]


@dataclass(frozen=True, slots=True)
class Cycle:
    """One turn of the loop.

    Args:
        cycle: Its id.
        title: The version that it made and how that ended.
        steps: Always four.
    """

    cycle: str
    title: str
    steps: tuple[Step, ...]


def instant(text: object) -> datetime | None:
    """Returns an RFC 3339 time (without an offset: UTC), or None where there is none."""
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def finite(value: object) -> float:
    """Returns a number, or NaN for what is none or not finite."""
    number = float(value) if isinstance(value, int | float) else math.nan
    return number if math.isfinite(number) else math.nan


def short_day(text: object) -> str:
    """Returns `19 Jun`, or nothing where there is no time."""
    time = instant(text)
    return f"{time.day} {time:%b}" if time else ""


def long_day(text: object) -> str:
    """Returns `19 June 2013`, or nothing where there is no time."""
    time = instant(text)
    return f"{time.day} {time:%B} {time.year}" if time else ""


def listed(figures: Mapping[str, Any], key: str) -> list[Any]:
    """Returns a list of the figures, empty where it is missing."""
    return list(figures.get(key) or [])


def headline(figures: Mapping[str, Any]) -> str:
    """Returns what happened, in one sentence."""
    clauses: list[str] = []
    year = ""
    for event, version in _with_versions(figures):
        on = long_day(event.get("event_time"))
        what = {
            "PerformanceDegraded": "the served version was found degraded",
            "ModelPromoted": f"{version or 'a version'} took over",
            "RolloutAdvanced": f"a person forced {version} past the shadow"
            if _is_forced(event)
            else "",
            "RolloutRolledBack": f"{version or 'a version'} was {_taken_back(event)}",
        }.get(event["type"], "")
        if on and what:  # what has no event time was before the traffic
            on, _, said = on.rpartition(" ")
            clauses.append(f"{what} on {on}" + (f" {said}" if said != year else ""))
            year = said
    if not clauses:
        return "Nothing was decided: no alarm, no promotion, nothing taken back."
    sentence = "; ".join(clauses)
    return f"{sentence[0].upper()}{sentence[1:]}."


def moments(figures: Mapping[str, Any]) -> list[Moment]:
    """Returns the moments that plots mark, oldest first; none from before the traffic."""
    start = instant(figures.get("event_start"))
    found = [moment for moment in _moments(figures) if start is None or moment.time >= start]
    return sorted(found, key=lambda moment: moment.time)


def cycles(figures: Mapping[str, Any]) -> list[Cycle]:
    """Returns the cycles in which a step was taken, oldest first."""
    by_cycle: dict[str, list[dict[str, Any]]] = {}
    for event in listed(figures, "events"):
        by_cycle.setdefault(event.get("cycle") or "", []).append(event)
    by_cycle.pop("", None)
    versions = _version_by_cycle(figures)
    return [
        _cycle(name, events, versions.get(name, ""))
        for name, events in by_cycle.items()
        if any(event["type"] in types for event in events for types in STEPS.values())
    ]


def in_words(name: str) -> str:
    """Returns the words of a CamelCase name."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _version_by_cycle(figures: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for event in listed(figures, "events"):
        named = VERSION.search(event.get("told") or "")
        if (
            event["type"] in ("VersionRegistered", "RolloutStarted")
            and event.get("cycle")
            and named
        ):
            found.setdefault(event["cycle"], named[0])
    return found


def _with_versions(figures: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Events with the version that their cycle is about; empty where none is known."""
    versions = _version_by_cycle(figures)
    for event in listed(figures, "events"):
        yield event, versions.get(event.get("cycle") or "", "")


def _moments(figures: Mapping[str, Any]) -> Iterator[Moment]:
    for event, version in _with_versions(figures):
        time = instant(event.get("event_time"))
        text = {
            "PerformanceDegraded": "alarm",
            "TrainingCompleted": f"{version} trained",
            "ModelPromoted": f"{version} promoted",
            "RolloutAdvanced": f"{version} forced" if _is_forced(event) else "",
            "RolloutRolledBack": f"{version} {_taken_back(event)}",
        }.get(event["type"], "")
        if time and text:
            yield Moment(time, text.strip())


def _is_forced(event: Mapping[str, Any]) -> bool:
    return ", forced by " in (event.get("told") or "")


def _taken_back(event: Mapping[str, Any]) -> str:
    return "stopped in shadow" if " from shadow" in (event.get("told") or "") else TAKEN_BACK


def _cycle(name: str, events: Sequence[dict[str, Any]], version: str) -> Cycle:
    kept = list(_without_repeats(events))
    types = {event["type"] for event in kept}
    steps = dict(STEPS)
    if not types & set(ALARMS):  # what a person or a program asked for is the beginning
        steps["noticed"] = ("TrainingStarted",)
        steps["trained"] = STEPS["trained"][1:]
    back = "RolloutRolledBack" in types
    return Cycle(
        name,
        f"{version or 'No version'}: {_outcome(types)}".capitalize(),
        tuple(
            Step(TAKEN_BACK if back and step == "rolled out" else step, _told(kept, wanted))
            for step, wanted in steps.items()
        ),
    )


def _outcome(types: set[str]) -> str:
    ends = {
        "RolloutRolledBack": TAKEN_BACK,
        "RolloutCompleted": "rolled out, and stays",
        "ModelPromoted": "promoted",
        "TrainingFailed": "training failed",
        "RolloutStarted": "under way",
        "VersionRegistered": "registered",
        "TrainingSkipped": "not trained",
    }
    return next((word for end, word in ends.items() if end in types), "reported only")


def _without_repeats(events: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of judgements in a row, only the last: the one that was acted upon."""
    shown = [event for event in events if any(event["type"] in step for step in STEPS.values())]
    for event, following in zip(shown, [*shown[1:], None], strict=True):
        repeats = following is not None and following["type"] == "RolloutJudged"
        if event["type"] != "RolloutJudged" or not repeats:
            yield event


def _told(events: Sequence[dict[str, Any]], wanted: Sequence[str]) -> tuple[Told, ...]:
    return tuple(
        Told(short_day(event.get("event_time")), in_words(event["type"]), event.get("told") or "")
        for event in events
        if event["type"] in wanted
    )
