"""Messages ↔ the monitor's own values, both ways; the only file that knows generated messages."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from ciclo.common.v1.version_pb2 import VARIANT_CHALLENGER, VersionRef
from ciclo.errors import Reject
from ciclo.events.v1.drift_detected_pb2 import DriftDetected, StreamChange
from ciclo.events.v1.episode_closed_pb2 import EpisodeClosed
from ciclo.events.v1.labels_reported_pb2 import LabelsReported
from ciclo.events.v1.monitoring_state_pb2 import Episode as PbEpisode
from ciclo.events.v1.monitoring_state_pb2 import MonitoringState
from ciclo.events.v1.performance_degraded_pb2 import PerformanceDegraded
from ciclo.events.v1.predictions_served_pb2 import PURPOSE_SHADOW, PredictionsServed
from ciclo.events.v1.registry_state_pb2 import RegistryState
from ciclo.events.v1.rollout_judged_pb2 import (
    STAGE_BAKING,
    STAGE_CANARY,
    STAGE_SHADOW,
    RolloutJudged,
    Verdict,
)
from ciclo.loop import Loop
from ciclo.monitoring.v1 import monitoring_service_pb2 as api
from ciclo.tensors import unpack_tensor
from ciclo_drift import Comparison
from ciclo_monitor.domain.backtest import Replayed
from ciclo_monitor.domain.batches import (
    UNKNOWN_US,
    Answers,
    Labels,
    key_of,
    prediction_key,
    prediction_keys,
    row_keys,
)
from ciclo_monitor.domain.drift import Moved
from ciclo_monitor.domain.findings import (
    Closed,
    Degraded,
    Drifted,
    Finding,
    Judged,
    RolloutView,
    Stage,
    Version,
)
from ciclo_monitor.domain.sums import BlockLoss
from ciclo_monitor.ports import Registered, Statement

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
METRIC = "log_loss"

EARLIEST_US, LATEST_US = -62_000_000_000_000_000, 253_000_000_000_000_000
"""Event times that are taken: years 5 to 9987. A block's ends beside them are timestamps, too; one
row beyond would stop the monitor, and again after every restart."""

MOST_VERSIONS = 2**31
"""Numbers from here on name no version."""

_STAGES = {STAGE_SHADOW: Stage.SHADOW, STAGE_CANARY: Stage.CANARY, STAGE_BAKING: Stage.BAKING}
_PB_STAGES = {stage: number for number, stage in _STAGES.items()}
_DIRECTIONS = {
    "up": "UP",
    "down": "DOWN",
    "tail_high": "UP",
    "tail_low": "DOWN",
    "wider": "SPREAD",
    "narrower": "SPREAD",
}


class BadRows(Reject):
    """A batch of rows contradicts itself or its model."""

    reason = "BAD_ROWS"


def to_stamp(time_us: int) -> Timestamp:
    """Returns a protobuf timestamp of microseconds since the epoch."""
    stamp = Timestamp()
    stamp.FromDatetime(EPOCH + timedelta(microseconds=time_us))
    return stamp


def to_us(stamp: Timestamp) -> int:
    """Returns microseconds since the epoch."""
    return (stamp.ToDatetime(UTC) - EPOCH) // timedelta(microseconds=1)


def to_answers(message: PredictionsServed, loop: Loop) -> Answers | None:
    """Returns the rows of a batch that were answered and recorded; None if there is none.

    Raises:
        BadRows: Lengths do not agree, a time or a version is out of range, or the model's output is
            missing or not a probability.
        MalformedTensor: A tensor is torn, or of another length than `row_counts` say.
    """
    counts = np.array(message.row_counts, np.int64)
    status = np.array(message.status_codes, np.int64)
    times = np.array(message.event_time_us, np.int64)
    if not len(counts) == len(status) == len(times) == len(message.prediction_ids):
        raise BadRows("prediction_ids, row_counts, status_codes and event_time_us differ in length")
    is_answered = (status == 0) & (counts > 0)
    rows = int(counts[is_answered].sum())
    is_shadow = message.purpose == PURPOSE_SHADOW
    omitted = 0 if is_shadow else int(((status == 0) & (counts == 0)).sum())
    if not rows:
        return None if not omitted else _nothing(message, omitted)
    _require_in_range(message, times)
    # The tensors first: nothing is made as large as the counts say before bytes confirm it.
    scores = _scores(message, loop, rows)
    asked = int(counts.sum())
    given = {t.name: _column(t, asked) for t in message.inputs}
    keep = np.repeat(is_answered, counts) if given and not is_answered.all() else None
    columns = given if keep is None else {name: c[keep] for name, c in given.items()}
    named = columns.get(loop.input.id or "")
    ids = [""] * rows if named is None else list(map(str, named.tolist()))
    answered = np.where(is_answered, counts, 0).tolist()
    return Answers(
        version=message.version.version,
        is_challenger=not is_shadow and message.variant == VARIANT_CHALLENGER,
        rollout=key_of(message.rollout_id) if is_shadow else 0,
        keys=prediction_keys(zip(message.prediction_ids, answered, strict=True)),
        row_keys=row_keys(ids),
        event_time_us=np.repeat(times[is_answered], counts[is_answered]),
        scores=scores,
        columns={} if is_shadow else columns,
        requests=int(is_answered.sum()),
        omitted=omitted,
    )


def _nothing(message: PredictionsServed, omitted: int) -> Answers:
    """Returns a batch of which no row was recorded."""
    none = np.empty(0, np.int64)
    return Answers(
        message.version.version, False, 0, none, none, none, np.empty(0), {}, omitted=omitted
    )


def to_labels(message: LabelsReported, refuse: Callable[[int, str], None]) -> Labels:
    """Returns the labels of a report that can be used.

    Args:
        message: The report.
        refuse: Is told the index of each label that cannot, and why in an UPPER_SNAKE_CASE word.
    """
    keys, values, times = [], [], []
    for index, label in enumerate(message.labels):
        if label.value not in (0.0, 1.0):
            refuse(index, "LABEL_NOT_BINARY")
        elif not label.row_key and not label.prediction_id:
            refuse(index, "LABEL_NAMES_NO_ROW")
        elif not EARLIEST_US <= label.event_time_us <= LATEST_US:
            refuse(index, "EVENT_TIME_OUT_OF_RANGE")
        else:
            named = prediction_key(label.prediction_id, label.row)
            keys.append(key_of(f"k{label.row_key}") if label.row_key else named)
            values.append(label.value)
            times.append(label.event_time_us)
    return Labels(np.array(keys, np.int64), np.array(values, np.float64), np.array(times, np.int64))


def to_version(ref: VersionRef) -> Version:
    """Returns a version."""
    return Version(ref.version, ref.bundle_digest, ref.signature_digest)


def from_version(model: str, version: Version) -> VersionRef:
    """Returns a reference to a version."""
    return VersionRef(
        model=model,
        version=version.number,
        bundle_digest=version.bundle_digest,
        signature_digest=version.signature_digest,
    )


def to_registered(message: RegistryState) -> tuple[int, Registered]:
    """Returns the generation of a state and what the monitor needs of it."""
    champion = to_version(message.champion) if message.HasField("champion") else None
    rollout = None
    if message.HasField("rollout") and message.rollout.stage in _STAGES and champion:
        found = message.rollout
        is_baking = found.stage == STAGE_BAKING
        rollout = RolloutView(
            rollout_id=found.rollout_id,
            cycle_id=found.cycle_id,
            cause_event_id=found.cause_event_id,
            champion=to_version(message.previous) if is_baking else champion,
            challenger=to_version(found.challenger),
            stage=_STAGES[found.stage],
            shadow_since_us=to_us(found.shadow_since_time),
        )
    return message.generation, Registered(message.loop_digest, champion, rollout)


def to_event(model: str, finding: Finding) -> Message:
    """Returns the event that tells a finding."""
    match finding:
        case Drifted():
            return _drifted(model, finding)
        case Degraded():
            return _degraded(model, finding)
        case Judged():
            return to_judged(model, finding)
        case Closed():
            return EpisodeClosed(
                episode_id=finding.episode.episode_id,
                model=model,
                reason=finding.reason,
                close_time=to_stamp(finding.close_us),
            )


def to_judged(model: str, judged: Judged) -> RolloutJudged:
    """Returns the event that tells a judgement."""
    c, rollout = judged.comparison, judged.rollout
    return RolloutJudged(
        rollout_id=rollout.rollout_id,
        stage=_PB_STAGES[rollout.stage],
        champion=from_version(model, rollout.champion),
        challenger=from_version(model, rollout.challenger),
        verdict=Verdict.Value(f"VERDICT_{c.verdict.upper()}"),
        **_gain(c),
        blocks=c.blocks,
        rows=c.rows,
        blocks_expected=c.blocks_expected,
        exposed_rows=judged.exposed_rows,
        watermark_time=to_stamp(judged.watermark_us),
        captured=judged.captured,
    )


def to_state(
    statement: Statement, generation: int = 0, now: datetime | None = None
) -> MonitoringState:
    """Returns the published form of a statement; generation and time only where it is published."""
    state = MonitoringState(model=statement.model, generation=generation)
    if now:
        state.create_time.FromDatetime(now)
    if statement.watermark_us > UNKNOWN_US:
        state.watermark_time.CopyFrom(to_stamp(statement.watermark_us))
    if statement.version:
        state.version.CopyFrom(from_version(statement.model, statement.version))
    if statement.episode:
        state.episode.CopyFrom(
            PbEpisode(
                episode_id=statement.episode.episode_id,
                cause_event_id=statement.episode.cause_event_id,
                drifted=statement.episode.is_drifted,
                degraded=statement.episode.is_degraded,
                open_time=to_stamp(statement.episode.open_us),
            )
        )
    return state


def to_changes(moved: Moved) -> list[StreamChange]:
    """Returns what moved, strongest first."""
    return [
        StreamChange(
            stream=culprit.stream,
            size=culprit.size,
            direction=_DIRECTIONS.get(culprit.change, "MIX"),
            start_time=to_stamp(since_us),
            evidence_share=culprit.share,
        )
        for culprit, since_us in moved.culprits
    ]


def to_block_loss(loss: BlockLoss, start_us: int, *, is_closed: bool) -> api.BlockLoss:
    """Returns the loss of one version in one block."""
    return api.BlockLoss(
        start_time=to_stamp(start_us),
        version=loss.version,
        loss=loss.loss_sum / loss.rows,
        expected_loss=loss.expected_sum / loss.rows,
        rows=loss.rows,
        served=loss.is_served,
        closed=is_closed,
    )


def to_backtest_block(found: Replayed, start_us: int) -> api.BacktestBlock:
    """Returns a block under another policy."""
    return api.BacktestBlock(
        start_time=to_stamp(start_us),
        rows=found.block.rows,
        loss=found.block.loss_sum / found.block.rows,
        evidence=found.rise.evidence,
        alarmed=found.rise.alarm,
    )


def _drifted(model: str, drifted: Drifted) -> DriftDetected:
    return DriftDetected(
        episode_id=drifted.episode_id,
        version=from_version(model, drifted.version),
        start_time=to_stamp(drifted.moved.since_us),
        detect_time=to_stamp(drifted.detect_us),
        changes=to_changes(drifted.moved),
        evidence=drifted.moved.alarm.evidence,
        threshold=drifted.moved.alarm.threshold,
        budget=drifted.budget,
        limitation=drifted.limitation,
    )


def _degraded(model: str, degraded: Degraded) -> PerformanceDegraded:
    rise = degraded.rise
    return PerformanceDegraded(
        episode_id=degraded.episode_id,
        version=from_version(model, degraded.version),
        metric=METRIC,
        reference=degraded.reference,
        observed=degraded.observed,
        increase=rise.rise,
        increase_low=rise.lower,
        increase_high=rise.upper,
        start_time=to_stamp(degraded.start_us),
        detect_time=to_stamp(degraded.detect_us),
        evidence=rise.evidence,
        threshold=rise.threshold,
        blocks=rise.blocks,
        rows=rise.rows,
        budget=degraded.budget,
    )


def _gain(comparison: Comparison) -> dict[str, Any]:
    if not comparison.blocks:
        return {"gain_low": -np.inf, "gain_high": np.inf}
    return {
        "mean_gain": comparison.mean,
        "limited_gain": comparison.gain,
        "gain_low": comparison.lower,
        "gain_high": comparison.upper,
        "gain_limit": comparison.limit,
    }


def _require_in_range(message: PredictionsServed, times: NDArray[np.int64]) -> None:
    outside = times[(times < EARLIEST_US) | (times > LATEST_US)]
    if len(outside):
        raise BadRows(
            f"event_time_us holds {outside[0]}, expected microseconds since 1970 between "
            f"{EARLIEST_US} and {LATEST_US}",
            field="event_time_us",
        )
    if message.version.version >= MOST_VERSIONS:
        raise BadRows(f"no version has the number {message.version.version}", field="version")


def _column(tensor: Any, rows: int) -> NDArray[Any]:
    contents = tensor.contents
    if tensor.datatype == "FP32" and len(contents) == 4 * rows and tensor.row_shape == [1]:
        return np.frombuffer(contents, "<f4")  # `unpack_tensor` costs six times as much, 64 a batch
    values = unpack_tensor(tensor, rows)
    return values.reshape(rows, -1)[:, 0]


def _scores(message: PredictionsServed, loop: Loop, rows: int) -> NDArray[np.float64]:
    for tensor in message.outputs:
        if tensor.name == loop.output.name:
            scores = _column(tensor, rows).astype(np.float64)
            if not bool(((scores >= 0) & (scores <= 1)).all()):
                raise BadRows(
                    f"output {tensor.name!r} has values outside [0, 1] or NaN", field=tensor.name
                )
            return scores
    raise BadRows(f"output {loop.output.name!r} is missing", field=loop.output.name)
