"""Did the story happen? Each step by recorded events and figures, against what loop.yaml asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ciclo.loop import Loop

Event = dict[str, Any]
"""As `ciclo why` tells it."""

ALARM_WITHIN: Final = ("2013-06-15", "2013-06-25")
"""docs/adr/0002-flights-timeline.md says why then."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must have happened.

    Args:
        name: What.
        passed: It did.
        detail: What was seen, in one line.
    """

    name: str
    passed: bool
    detail: str


def check_story(f: dict[str, Any], loop: Loop) -> list[Check]:
    """Returns the checks of the three cycles.

    Args:
        f: All figures.
        loop: As its owner declares it.
    """
    events = f["events"]
    stopped = _first(events, "RolloutRolledBack", lambda m: m["from_stage"] == "STAGE_SHADOW")
    bad = stopped["message"]["challenger"]["version"] if stopped else 0
    return [
        *_noticed(events),
        *_won(f, loop),
        _looked_better_offline(f, bad),
        _stopped(f, stopped),
        _taken_back(f, loop, bad),
        _lead_back(events),
    ]


def _noticed(events: list[Event]) -> list[Check]:
    alarm = _first(events, "PerformanceDegraded", lambda m: m["version"]["version"] == 1)
    drift = _first(events, "DriftDetected", lambda m: m["version"]["version"] == 1)
    trained = _first(events, "TrainingStarted", lambda m: m["trigger"] == "TRIGGER_DEGRADED")
    day = (alarm["event_time"] or "")[:10] if alarm else ""
    is_one = bool(alarm and drift and alarm["cycle"] == drift["cycle"])
    reasons = {e["id"] for e in (alarm, drift) if e}
    is_because = trained is not None and trained["cause"] in reasons
    by_cycle = [e["cycle"] for e in events if e["type"] == "VersionRegistered"]
    return [
        Check("degradation was noticed", ALARM_WITHIN[0] <= day <= ALARM_WITHIN[1], _told(alarm)),
        Check("what moved was told, of the version that degraded", is_one, _told(drift)),
        Check("the loop retrained by itself, because of that", is_because, _told(trained)),
        Check(
            "one version for each cycle",
            len(by_cycle) == len(set(by_cycle)) > 0,
            f"{len(set(by_cycle))} cycles, {len(by_cycle)} versions",
        ),
    ]


def _won(f: dict[str, Any], loop: Loop) -> list[Check]:
    """The rollout that went through: by which judgement, in which steps, how it ended."""
    events = f["events"]
    completed = _first(events, "RolloutCompleted")
    rollout = completed["message"]["rollout_id"] if completed else ""
    number = completed["message"]["version"]["version"] if completed else 0
    steps = [
        e
        for e in events
        if e["type"] == "RolloutAdvanced" and e["message"]["rollout_id"] == rollout
    ]
    judged = next((e for e in events if steps and e["id"] == steps[0]["cause"]), None)
    is_better = judged is not None and judged["message"].get("verdict") == "VERDICT_BETTER"
    weights = [_weight(e, number) for e in steps]
    until = completed["wall_time"] if completed else ""
    applied = [
        _weight(e, number)
        for e in events
        if e["type"] == "RoutesApplied" and e["wall_time"] < until
    ]
    wanted = [*loop.rollout.canary.weights, 1.0]
    routed = [w for w, before in zip(applied, [0.0, *applied], strict=False) if w != before]
    times = [datetime.fromisoformat(e["event_time"]) for e in steps]
    lasted = [later - earlier for earlier, later in pairwise(times)]
    is_in_steps = weights == routed == wanted and min(lasted) >= loop.rollout.canary.each
    said = f"weights {weights} decided, {routed} routed, {wanted} declared"
    said += f"; each for {' and '.join(f'{span / timedelta(days=1):.1f}' for span in lasted)} days"
    return [
        Check("the shadow was won", is_better, _told(judged)),
        Check("the canary went in the declared steps", is_in_steps, said),
        _stayed_warm(f, steps[-1:], completed),
        Check("version 2 was promoted and stayed", number == 2, _told(completed)),
    ]


def _stayed_warm(f: dict[str, Any], baking: Sequence[Event], completed: Event | None) -> Check:
    """While the bake ran, Triton had the version before it ready at every look."""
    first, last = (e["wall_time"] if e else "" for e in (next(iter(baking), None), completed))
    looks = [look["versions"] for look in f["triton_ready"] if first < look["wall_time"] < last]
    ready = sum(1 in versions for versions in looks)
    said = f"ready in Triton at {ready} of {len(looks)} looks"
    return Check("version 1 stayed warm during the bake", 0 < len(looks) == ready, said)


def _looked_better_offline(f: dict[str, Any], bad: int) -> Check:
    """By the bundle's own evidence, on days that neither version had seen."""
    metrics = {v["version"]: v["metrics"] for v in f["versions"]}.get(bad, {})
    own, champion = metrics.get("log_loss", 0.0), metrics.get("champion:log_loss", 0.0)
    said = f"version {bad} held out: log loss {own:.4f}, the champion's {champion:.4f}"
    return Check("the bad challenger was better offline", 0 < own < champion, said)


def _stopped(f: dict[str, Any], stopped: Event | None) -> Check:
    rows = _rows_by_bad(f, stopped)
    passed = stopped is not None and stopped["message"]["reason"] == "WORSE" and rows == 0
    said = f"{_told(stopped)}; {rows} rows by the topic"
    return Check("the shadow stopped the bad challenger, which answered nobody", passed, said)


def _taken_back(f: dict[str, Any], loop: Loop, bad: int) -> Check:
    back = _first(
        f["events"],
        "RolloutRolledBack",
        lambda m: m["from_stage"] == "STAGE_CANARY" and m["challenger"]["version"] == bad,
    )
    rows, limit = _rows_by_bad(f, back), loop.rollout.canary.exposure_at_most
    passed = back is not None and back["message"]["reason"] == "WORSE" and 0 < rows <= limit
    said = f"{_told(back)}; {rows} rows by the topic, {limit} allowed"
    return Check("the canary took it back within its limit", passed, said)


def _lead_back(events: list[Event]) -> Check:
    """Each rollout's end leads, cause by cause, back to an alarm or to a person."""
    by_id = {event["id"]: event for event in events}
    found = []
    for event in events:
        if event["type"] in ("RolloutCompleted", "RolloutRolledBack"):
            chain = [event]
            while chain[-1]["cause"] in by_id and len(chain) <= len(events):
                chain.append(by_id[chain[-1]["cause"]])
            found.append((len(chain), _began(chain[-1])))
    wanted = ["an alarm", "a person's training", "a person's force"]
    said = ", ".join(f"{origin} after {steps} events" for steps, origin in found)
    return Check("each rollout leads back to its reason", [o for _, o in found] == wanted, said)


def _began(event: Event) -> str:
    if event["type"] in ("DriftDetected", "PerformanceDegraded"):
        return "an alarm"
    if event["type"] == "TrainingStarted" and event["message"]["trigger"] == "TRIGGER_MANUAL":
        return "a person's training"
    return "a person's force" if event["type"] == "RolloutStarted" else f"a {event['type']}"


def _weight(event: Event, version: int) -> float:
    shares = {w["version"]: w.get("weight", 0.0) for w in event["message"]["weights"]}
    return float(shares.get(version, 0.0))


def _rows_by_bad(f: dict[str, Any], event: Event | None) -> int:
    rollout = event["message"]["rollout_id"] if event else ""
    rows = [r["rows_by_bad"] for r in f["rollouts"] if r["rollout_id"] == rollout]
    return int(rows[0]) if rows else 0


def _first(
    events: list[Event], name: str, test: Callable[[Any], bool] = lambda _: True
) -> Event | None:
    return next((e for e in events if e["type"] == name and test(e["message"])), None)


def _told(event: Event | None) -> str:
    if event is None:
        return "it did not happen"
    return f"{(event['event_time'] or '')[:10]}: {event['told']}".removeprefix(": ")
