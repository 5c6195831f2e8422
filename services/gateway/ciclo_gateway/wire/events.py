"""The gateway's events and the registry's state, to and from domain values."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.message import Message

from ciclo.common.v1.tensor_pb2 import PackedTensor
from ciclo.common.v1.version_pb2 import (
    VARIANT_CHALLENGER,
    VARIANT_CHAMPION,
    VARIANT_PINNED,
    VARIANT_UNSPECIFIED,
    VersionRef,
    Weight,
)
from ciclo.errors import Reject
from ciclo.events.v1.labels_reported_pb2 import Label, LabelsReported
from ciclo.events.v1.lease_expired_pb2 import LeaseExpired
from ciclo.events.v1.predictions_lost_pb2 import PredictionsLost
from ciclo.events.v1.predictions_served_pb2 import (
    PURPOSE_SERVED,
    PURPOSE_SHADOW,
    PredictionsServed,
)
from ciclo.events.v1.registry_state_pb2 import RegistryState
from ciclo.events.v1.rollout_judged_pb2 import STAGE_BAKING, STAGE_CANARY, STAGE_SHADOW
from ciclo.events.v1.routes_applied_pb2 import RoutesApplied
from ciclo.events.v1.routes_refused_pb2 import RoutesRefused
from ciclo.events.v1.version_loaded_pb2 import VersionLoaded
from ciclo.events.v1.version_quarantined_pb2 import VersionQuarantined
from ciclo_gateway.domain.desired import Cause, Desired, Placement, Rollout, Share, Stage
from ciclo_gateway.domain.labels import Truth
from ciclo_gateway.domain.packing import Answer, Batch, Version
from ciclo_gateway.domain.shadow import Record
from ciclo_gateway.domain.tensors import Tensor, TensorType

REGISTRY_STATE: Final = RegistryState
PREDICTIONS_SERVED: Final = PredictionsServed
"""Types that the gateway follows."""

_VARIANTS: Final = {
    "champion": VARIANT_CHAMPION,
    "challenger": VARIANT_CHALLENGER,
    "pinned": VARIANT_PINNED,
}
_PREVIOUS: Final = "previous"
"""Kept loaded with no weight: who names it is told that the version is pinned."""

_VARIANT_NAMES: Final = {number: name for name, number in _VARIANTS.items()}
_STAGES: Final = {
    STAGE_SHADOW: Stage.SHADOW,
    STAGE_CANARY: Stage.CANARY,
    STAGE_BAKING: Stage.BAKING,
}


def desired_of(state: RegistryState) -> Desired:
    """Returns what the registry wants of a model.

    Raises:
        Reject: A rollout without a challenger.
    """
    has_rollout = state.HasField("rollout") and state.rollout.stage in _STAGES
    if has_rollout and not state.rollout.HasField("challenger"):
        raise Reject("a rollout has no challenger", field="rollout.challenger")
    return Desired(
        model=state.model,
        generation=state.generation,
        loop_digest=state.loop_digest,
        champion=_version(state.champion) if state.HasField("champion") else None,
        previous=_version(state.previous) if state.HasField("previous") else None,
        rollout=_rollout(state) if has_rollout else None,
        shares=tuple(
            Share(w.version, _VARIANT_NAMES.get(w.variant, "champion"), w.weight)
            for w in state.weights
        ),
        salt=state.salt,
        lease_expires=_time(state.lease_expire_time)
        if state.HasField("lease_expire_time")
        else None,
        cause=Cause(state.cause_event_id, state.cycle_id),
    )


def encode_state(state: Message) -> bytes:
    """Returns a registry's state as it is kept for the next start."""
    return state.SerializeToString(deterministic=True)


def decode_state(content: bytes) -> Desired:
    """The inverse of `encode_state`, as a domain value."""
    return desired_of(RegistryState.FromString(content))


def predictions_served(
    batch_id: str, version: Version, variant: str, answers: Sequence[Answer], rollout_id: str = ""
) -> PredictionsServed:
    """Returns answers of one version as one message; those of a rollout are nobody's."""
    batch = Batch((version, variant, *_types(answers)), list(answers))
    return PredictionsServed(
        version=version_ref(version),
        variant=_VARIANTS.get(variant, VARIANT_UNSPECIFIED),
        purpose=PURPOSE_SHADOW if rollout_id else PURPOSE_SERVED,
        batch_id=batch_id,
        prediction_ids=[a.prediction_id for a in answers],
        row_counts=[a.rows for a in answers],
        event_time_us=[a.event_time_us for a in answers],
        receive_time_us=[a.receive_time_us for a in answers],
        duration_us=[a.duration_us for a in answers],
        status_codes=[a.status for a in answers],
        routing_keys=[a.key for a in answers],
        client_ids=[a.client_id for a in answers],
        inputs=[_packed(t) for t in batch.columns("inputs")],
        outputs=[_packed(t) for t in batch.columns("outputs")],
        omissions=[a.omission for a in answers],
        rollout_id=rollout_id,
    )


def record_of(message: PredictionsServed, offset: int) -> Record:
    """Returns a captured batch as the shadow worker sees it."""
    return Record(
        offset=offset,
        version=_version(message.version),
        variant=_VARIANT_NAMES.get(message.variant, ""),
        is_shadow=message.purpose == PURPOSE_SHADOW,
        prediction_ids=tuple(message.prediction_ids),
        row_counts=tuple(message.row_counts),
        event_time_us=tuple(message.event_time_us),
        statuses=tuple(message.status_codes),
        keys=tuple(message.routing_keys),
        client_ids=tuple(message.client_ids),
        inputs=tuple(
            Tensor(
                TensorType(t.name, t.datatype, tuple(t.row_shape)),
                sum(message.row_counts),
                t.contents,
            )
            for t in message.inputs
        ),
    )


def predictions_lost(model: str, count: int, reason: str, place: str) -> PredictionsLost:
    """Returns the fact that answers will never be captured."""
    return PredictionsLost(model=model, count=count, reason=reason, place=place)


def labels_reported(model: str, labels: Sequence[Truth]) -> LabelsReported:
    """Returns the fact that the truth about some rows became known."""
    return LabelsReported(
        model=model,
        labels=[
            Label(
                row_key=label.row_key,
                prediction_id=label.prediction_id,
                row=label.row,
                value=label.value,
                event_time_us=label.event_time_us,
            )
            for label in labels
        ],
    )


def version_loaded(
    version: Version, placement: Placement, parity_error: float, seconds: float
) -> VersionLoaded:
    """Returns the fact that a version answers rightly."""
    return VersionLoaded(
        version=version_ref(version),
        placement=placement.value,
        parity_error=parity_error,
        duration_seconds=seconds,
    )


def version_quarantined(
    version: Version, placement: Placement, reason: str, detail: str
) -> VersionQuarantined:
    """Returns the fact that a version will not be loaded again."""
    return VersionQuarantined(
        version=version_ref(version), placement=placement.value, reason=reason, detail=detail
    )


def routes_applied(
    model: str, generation: int, shares: Sequence[Share], table_digest: str
) -> RoutesApplied:
    """Returns the fact that Envoy routes a model as the registry asked."""
    return RoutesApplied(
        model=model,
        generation=generation,
        weights=[
            Weight(
                version=s.version,
                variant=VARIANT_PINNED if s.variant == _PREVIOUS else _VARIANTS[s.variant],
                weight=s.weight,
            )
            for s in shares
        ],
        table_digest=table_digest,
    )


def routes_refused(model: str, generation: int, detail: str) -> RoutesRefused:
    """Returns the fact that Envoy refused a routing table."""
    return RoutesRefused(model=model, generation=generation, detail=detail)


def lease_expired(model: str, rollout_id: str, generation: int) -> LeaseExpired:
    """Returns the fact that a canary was not renewed in time."""
    return LeaseExpired(model=model, rollout_id=rollout_id, generation=generation)


def version_ref(version: Version) -> VersionRef:
    """Returns a version as contracts name it."""
    return VersionRef(
        model=version.model,
        version=version.number,
        bundle_digest=version.bundle_digest,
        signature_digest=version.signature_digest,
    )


def _version(ref: VersionRef) -> Version:
    return Version(ref.model, ref.version, ref.bundle_digest, ref.signature_digest)


def _rollout(state: RegistryState) -> Rollout:
    since = state.rollout.shadow_since_time
    return Rollout(
        id=state.rollout.rollout_id,
        cycle_id=state.rollout.cycle_id,
        challenger=_version(state.rollout.challenger),
        stage=_STAGES[state.rollout.stage],
        shadow_since_us=since.ToMicroseconds(),
    )


def _types(answers: Sequence[Answer]) -> tuple[tuple[TensorType, ...], tuple[TensorType, ...]]:
    inputs: tuple[TensorType, ...] = ()
    outputs: tuple[TensorType, ...] = ()
    for answer in answers:
        inputs = inputs or tuple(t.type for t in answer.inputs)
        outputs = outputs or tuple(t.type for t in answer.outputs)
    return inputs, outputs


def _packed(tensor: Tensor) -> PackedTensor:
    return PackedTensor(
        name=tensor.type.name,
        datatype=tensor.type.datatype,
        row_shape=tensor.type.row_shape,
        contents=tensor.contents,
    )


def _time(stamp: Any) -> datetime:
    found: datetime = stamp.ToDatetime(UTC)
    return found
