"""Says in one line what a control event tells, for people; `ciclo why` and the demo print it."""

import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from google.protobuf.message import Message

from ciclo.events.v1.rollout_judged_pb2 import Stage, Verdict
from ciclo.events.v1.training_started_pb2 import Trigger


def told(message: Message) -> str:
    """Returns what an event says, in one line; empty for an event without more to say."""
    return _TOLD.get(message.DESCRIPTOR.name, lambda _: "")(message)


def _drift(m: Any) -> str:
    moved = ", ".join(f"{c.stream} {c.direction.lower()} {c.size:.2f}" for c in m.changes[:3])
    promise = f"reported only: {m.limitation}" if m.limitation else f"budget {m.budget}"
    return f"since {m.start_time.ToDatetime():%Y-%m-%d}: {moved} ({promise})"


def _degraded(m: Any) -> str:
    return (
        f"{m.metric} {m.reference:.3f} → {m.observed:.3f} "
        f"since {m.start_time.ToDatetime():%Y-%m-%d}, "
        f"{m.increase:.3f} [{m.increase_low:.3f}, {m.increase_high:.3f}] of it unexpected, "
        f"evidence {m.evidence:.0f} over {m.threshold:.0f} (budget {m.budget})"
    )


def _judged(m: Any) -> str:
    interval = f"{m.limited_gain:+.4f} [{m.gain_low:+.4f}, {m.gain_high:+.4f}]"
    if math.isinf(m.gain_low):
        interval = "no interval yet"
    return (
        f"{_word(Stage.Name(m.stage))}: version {m.challenger.version} is "
        f"{_word(Verdict.Name(m.verdict))}, gain {m.mean_gain:+.4f} over {m.rows} rows, "
        f"by block {interval} over {m.blocks}; {m.exposed_rows} rows exposed"
    )


def _completed(m: Any) -> str:
    champion = m.metrics.get("champion:log_loss")
    against = f" against champion's {champion:.4f}" if champion is not None else ""
    loss = m.metrics.get("log_loss", float("nan"))
    until = f"{m.newest_event_time.ToDatetime():%Y-%m-%d}"
    return f"{m.rows} rows until {until}: log loss {loss:.4f}{against}"


def _gates(m: Any) -> str:
    said = "; ".join(
        f"{r.rule}: {'passed' if r.passed else 'refused'} ({r.detail})" for r in m.results
    )
    return f"version {m.version.version} {'passed' if m.passed else 'refused'}: {said}"


def _advanced(m: Any) -> str:
    weights = ", ".join(f"{w.version}: {w.weight:.0%}" for w in m.weights)
    forced = f", forced by {m.forced_by}: {m.forced_reason}" if m.forced_reason else ""
    return (
        f"{_word(Stage.Name(m.from_stage))} → {_word(Stage.Name(m.to_stage))} ({weights}){forced}"
    )


def _rolled_back(m: Any) -> str:
    by = f" by {m.requested_by}" if m.requested_by else ""
    return (
        f"version {m.challenger.version} from {_word(Stage.Name(m.from_stage))}{by}: "
        f"{m.reason}, {m.detail}; it answered {m.exposed_rows} rows"
    )


def _started(m: Any) -> str:
    return f"{_word(Trigger.Name(m.trigger))}{' by ' + m.requested_by if m.requested_by else ''}"


def _word(name: str) -> str:
    return name.split("_", 1)[1].lower().replace("_", " ")


_TOLD: MappingProxyType[str, Callable[[Any], str]] = MappingProxyType(
    {
        "DriftDetected": _drift,
        "PerformanceDegraded": _degraded,
        "EpisodeClosed": lambda m: m.reason,
        "RolloutJudged": _judged,
        "TrainingStarted": _started,
        "TrainingSkipped": lambda m: f"{m.reason}: {m.detail}",
        "TrainingCompleted": _completed,
        "TrainingFailed": lambda m: f"in {m.step}: {m.reason}, {m.detail}",
        "LoopApplied": lambda m: f"{m.loop_digest[7:19]} by {m.applied_by}",
        "VersionRegistered": lambda m: f"version {m.version.version}",
        "GatesEvaluated": _gates,
        "RolloutStarted": lambda m: (
            f"version {m.challenger.version} in {_word(Stage.Name(m.stage))}"
        ),
        "RolloutAdvanced": _advanced,
        "ModelPromoted": lambda m: f"version {m.version.version}",
        "RolloutCompleted": lambda m: f"version {m.version.version} stays",
        "RolloutRolledBack": _rolled_back,
        "LoopPaused": lambda m: f"by {m.requested_by}: {m.reason}",
        "LoopResumed": lambda m: f"by {m.requested_by}: {m.reason}",
        "VersionLoaded": lambda m: (
            f"version {m.version.version} in {m.placement.lower()}, {m.duration_seconds:.1f} s"
        ),
        "VersionQuarantined": lambda m: f"version {m.version.version}: {m.reason}, {m.detail}",
        "RoutesApplied": lambda m: ", ".join(
            f"version {w.version} {w.weight:.0%}" for w in m.weights
        ),
        "RoutesRefused": lambda m: m.detail,
        "LeaseExpired": lambda m: f"of rollout {m.rollout_id}",
    }
)
