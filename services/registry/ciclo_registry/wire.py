"""Protobuf ↔ domain, both ways, for events: the only module that knows their messages.

Just over 300 lines: a function a message.
"""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import singledispatch

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from ciclo.common.v1 import version_pb2
from ciclo.errors import Reject
from ciclo.events.v1 import (
    gates_evaluated_pb2,
    lease_expired_pb2,
    loop_applied_pb2,
    loop_paused_pb2,
    loop_resumed_pb2,
    model_promoted_pb2,
    monitoring_state_pb2,
    registry_state_pb2,
    rollout_advanced_pb2,
    rollout_completed_pb2,
    rollout_judged_pb2,
    rollout_rolled_back_pb2,
    rollout_started_pb2,
    training_completed_pb2,
    training_failed_pb2,
    version_quarantined_pb2,
    version_registered_pb2,
)
from ciclo.topics import PACKAGE, event_class
from ciclo_registry.domain import facts
from ciclo_registry.domain.gates import GateResult
from ciclo_registry.domain.model import Heartbeat, Model, weights
from ciclo_registry.domain.policy import Judgement, Stage, Verdict
from ciclo_registry.domain.rollout import Rollout
from ciclo_registry.domain.versions import Candidate, VersionRef

TrainingCompleted = training_completed_pb2.TrainingCompleted
TrainingFailed = training_failed_pb2.TrainingFailed
RolloutJudged = rollout_judged_pb2.RolloutJudged
VersionQuarantined = version_quarantined_pb2.VersionQuarantined
LeaseExpired = lease_expired_pb2.LeaseExpired
MonitoringState = monitoring_state_pb2.MonitoringState

NOTED = tuple(
    event_class(f"{PACKAGE}.{name}")
    for name in (
        "DriftDetected",
        "PerformanceDegraded",
        "EpisodeClosed",
        "TrainingStarted",
        "TrainingSkipped",
        "VersionLoaded",
        "RoutesApplied",
        "RoutesRefused",
    )
)
"""Control events of other services that only the audit chain takes in."""


def candidate(message: TrainingCompleted) -> Candidate:
    """Returns the bundle that a training made; its cycle is its event's."""
    return Candidate(
        model=message.model,
        bundle_digest=message.bundle_digest,
        run_id=message.run_id,
        as_of_time=_time(message, "as_of_time"),
    )


def judgement(message: RolloutJudged) -> Judgement:
    """Returns the evidence of a rollout.

    Raises:
        Reject: It does not say what it judged, or as of when.
    """
    if (watermark := _time(message, "watermark_time")) is None:
        raise Reject("RolloutJudged says no watermark", field="watermark_time")
    return Judgement(
        rollout_id=message.rollout_id,
        stage=Stage(_name(message, "stage")),
        challenger=message.challenger.version,
        verdict=Verdict(_name(message, "verdict")),
        watermark=watermark,
        exposed_rows=message.exposed_rows,
        blocks=message.blocks,
        rows=message.rows,
        mean_gain=message.mean_gain,
        limited_gain=message.limited_gain,
        gain_low=message.gain_low if math.isfinite(message.gain_low) else None,
        gain_high=message.gain_high if math.isfinite(message.gain_high) else None,
    )


def heartbeat(message: MonitoringState) -> Heartbeat:
    """Returns what the monitor says of a model.

    Raises:
        Reject: It does not say when.
    """
    if (create_time := _time(message, "create_time")) is None:
        raise Reject("MonitoringState says no time", field="create_time")
    return Heartbeat(message.generation, create_time, _time(message, "watermark_time"))


def detail(message: Message) -> str:
    """Returns an event's substance in one line, for the audit chain."""
    parts = []
    for field, value in message.ListFields():
        if isinstance(value, version_pb2.VersionRef):
            parts.append(f"{field.name} {value.version}")
        elif isinstance(value, Timestamp):
            parts.append(f"{field.name} {value.ToDatetime(tzinfo=UTC).isoformat()}")
        elif field.enum_type is not None and not field.is_repeated:
            parts.append(f"{field.name} {_name(message, field.name)}")
        elif isinstance(value, str | int | float):
            parts.append(f"{field.name} {value}")
    return ", ".join(parts)


@singledispatch
def encode(fact: facts.Fact) -> Message:
    """Returns the event of a fact."""
    raise NotImplementedError(type(fact))


@encode.register
def _(fact: facts.LoopApplied) -> Message:
    return loop_applied_pb2.LoopApplied(
        model=fact.model, loop_digest=fact.loop_digest, applied_by=fact.applied_by
    )


@encode.register
def _(fact: facts.LoopPaused | facts.LoopResumed) -> Message:
    is_paused = isinstance(fact, facts.LoopPaused)
    kind = loop_paused_pb2.LoopPaused if is_paused else loop_resumed_pb2.LoopResumed
    return kind(model=fact.model, reason=fact.reason, requested_by=fact.requested_by)


@encode.register
def _(fact: facts.VersionRegistered) -> Message:
    return version_registered_pb2.VersionRegistered(
        version=ref(fact.version), run_id=fact.run_id, dataset_digest=fact.dataset_digest
    )


@encode.register
def _(fact: facts.GatesEvaluated) -> Message:
    return gates_evaluated_pb2.GatesEvaluated(
        version=ref(fact.version), passed=fact.passed, results=gates(fact.results)
    )


@encode.register
def _(fact: facts.RolloutStarted) -> Message:
    return rollout_started_pb2.RolloutStarted(
        rollout_id=fact.rollout_id,
        champion=ref(fact.champion),
        challenger=ref(fact.challenger),
        stage=_stage(fact.stage),
        shadow_since_time=timestamp(fact.shadow_since),
    )


@encode.register
def _(fact: facts.RolloutAdvanced) -> Message:
    return rollout_advanced_pb2.RolloutAdvanced(
        rollout_id=fact.rollout_id,
        model=fact.model,
        from_stage=_stage(fact.from_stage),
        to_stage=_stage(fact.to_stage),
        weights=_weights(fact.weights),
        forced_reason=fact.forced_reason,
        forced_by=fact.forced_by,
        event_time=timestamp(fact.event_time),
    )


@encode.register
def _(fact: facts.ModelPromoted) -> Message:
    return model_promoted_pb2.ModelPromoted(
        version=ref(fact.version),
        previous=ref(fact.previous) if fact.previous else None,
        rollout_id=fact.rollout_id,
        event_time=timestamp(fact.event_time),
    )


@encode.register
def _(fact: facts.RolloutCompleted) -> Message:
    version, event_time = ref(fact.version), timestamp(fact.event_time)
    return rollout_completed_pb2.RolloutCompleted(
        rollout_id=fact.rollout_id, version=version, event_time=event_time
    )


@encode.register
def _(fact: facts.RolloutRolledBack) -> Message:
    return rollout_rolled_back_pb2.RolloutRolledBack(
        rollout_id=fact.rollout_id,
        champion=ref(fact.champion),
        challenger=ref(fact.challenger),
        from_stage=_stage(fact.end.from_stage),
        reason=fact.end.reason.value,
        detail=fact.end.detail,
        requested_by=fact.end.requested_by,
        exposed_rows=fact.exposed_rows,
        event_time=timestamp(fact.event_time),
    )


def state(model: Model, now: datetime) -> registry_state_pb2.RegistryState:
    """Returns what is true of a model, said at a wall time."""
    return registry_state_pb2.RegistryState(
        model=model.name,
        generation=model.generation,
        loop_digest=model.loop_digest,
        paused=model.is_paused,
        champion=ref(model.champion) if model.champion else None,
        previous=ref(model.previous) if model.previous else None,
        rollout=rollout(model.rollout) if model.rollout else None,
        weights=_weights(weights(model)),
        salt=model.salt,
        lease_expire_time=timestamp(model.lease_expire_time),
        create_time=timestamp(now),
        last_run_id=model.last_run_id,
    )


def rollout(value: Rollout) -> registry_state_pb2.Rollout:
    """Returns a rollout as it stands."""
    return registry_state_pb2.Rollout(
        rollout_id=value.rollout_id,
        cycle_id=value.cycle_id,
        cause_event_id=value.rollout_id,
        challenger=ref(value.challenger),
        stage=_stage(value.stage),
        shadow_since_time=timestamp(value.shadow_since),
        exposed_rows=value.exposed_rows,
    )


def ref(value: VersionRef) -> version_pb2.VersionRef:
    """Returns a version's name."""
    return version_pb2.VersionRef(
        model=value.model,
        version=value.number,
        bundle_digest=value.bundle_digest,
        signature_digest=value.signature_digest,
    )


def gates(results: Iterable[GateResult]) -> list[gates_evaluated_pb2.GateResult]:
    """Returns what gates said."""
    return [
        gates_evaluated_pb2.GateResult(
            rule=gate.rule, passed=gate.passed, detail=gate.detail, inputs=gate.inputs
        )
        for gate in results
    ]


def timestamp(time: datetime | None) -> Timestamp | None:
    """Returns a time for a message; None stays absent."""
    if time is None:
        return None
    written = Timestamp()
    written.FromDatetime(time)
    return written


def _time(message: Message, field: str) -> datetime | None:
    value: Timestamp = getattr(message, field)
    return value.ToDatetime(tzinfo=UTC) if message.HasField(field) else None


def _name(message: Message, field: str) -> str:
    """Returns an enum's value without its type's name, such as `BETTER`."""
    kind = message.DESCRIPTOR.fields_by_name[field].enum_type
    assert kind is not None, f"{field} is no enum"
    found = kind.values_by_number.get(getattr(message, field))
    if found is None or found.number == 0:
        raise Reject(f"{message.DESCRIPTOR.name}.{field} is not set", field=field)
    return found.name.removeprefix(f"{kind.name.upper()}_")


def _stage(stage: Stage) -> rollout_judged_pb2.Stage.ValueType:
    return rollout_judged_pb2.Stage.Value(f"STAGE_{stage.value}")


def _weights(shares: Iterable[facts.Weight]) -> list[version_pb2.Weight]:
    return [
        version_pb2.Weight(
            version=share.version,
            variant=version_pb2.Variant.Value(f"VARIANT_{share.variant.value}"),
            weight=share.share,
        )
        for share in shares
    ]
