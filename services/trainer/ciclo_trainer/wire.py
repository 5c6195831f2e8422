"""Messages ↔ the trainer's own values, both ways; the only file that knows generated messages."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from ciclo.events.v1.monitoring_state_pb2 import MonitoringState
from ciclo.events.v1.registry_state_pb2 import RegistryState
from ciclo.events.v1.training_completed_pb2 import TrainingCompleted
from ciclo.events.v1.training_failed_pb2 import TrainingFailed
from ciclo.events.v1.training_skipped_pb2 import TrainingSkipped
from ciclo.events.v1.training_started_pb2 import TrainingStarted
from ciclo.events.v1.training_started_pb2 import Trigger as PbTrigger
from ciclo.features.v1.feature_service_pb2 import CreateSnapshotRequest, CreateSnapshotResponse
from ciclo.training.v1.training_service_pb2 import Run as PbRun
from ciclo.training.v1.training_service_pb2 import RunState as PbRunState
from ciclo_trainer.domain.policy import Skip
from ciclo_trainer.domain.runs import Failure, Run, Snapshot, Trained
from ciclo_trainer.ports import ModelState, Watch


def to_time(stamp: Timestamp) -> datetime:
    """Returns an aware time, UTC."""
    return stamp.ToDatetime(UTC)


def to_stamp(time: datetime) -> Timestamp:
    """Returns a protobuf timestamp."""
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def to_model_state(message: RegistryState) -> tuple[int, ModelState]:
    """Returns the generation of a state and what the trainer needs of it."""
    return message.generation, ModelState(
        loop_digest=message.loop_digest,
        champion_digest=message.champion.bundle_digest,
        is_paused=message.paused,
        has_rollout=message.HasField("rollout"),
        last_run_id=message.last_run_id,
    )


def to_watch(message: MonitoringState) -> tuple[int, Watch]:
    """Returns the generation of a state and what the trainer needs of it."""
    episode = message.episode
    return message.generation, Watch(
        watermark=to_time(message.watermark_time) if message.HasField("watermark_time") else None,
        episode_id=episode.episode_id,
        cause_event_id=episode.cause_event_id,
        is_drifted=episode.drifted,
        is_degraded=episode.degraded,
    )


def started(run: Run) -> TrainingStarted:
    """Returns the event that a run began."""
    return TrainingStarted(
        run_id=run.run_id,
        model=run.model,
        trigger=PbTrigger.Value(f"TRIGGER_{run.trigger.upper()}"),
        episode_id=run.episode_id,
        requested_by=run.requested_by,
        loop_digest=run.loop_digest,
        as_of_time=to_stamp(run.as_of),
    )


def skipped(model: str, episode_id: str, skip: Skip) -> TrainingSkipped:
    """Returns the event that an episode did not start a run."""
    return TrainingSkipped(
        model=model, episode_id=episode_id, reason=skip.reason, detail=skip.detail
    )


def completed(run: Run, trained: Trained) -> TrainingCompleted:
    """Returns the event that a run ended with a bundle."""
    return TrainingCompleted(
        run_id=run.run_id,
        model=run.model,
        bundle_digest=trained.bundle_digest,
        dataset_digest=run.dataset_digest,
        loop_digest=run.loop_digest,
        newest_event_time=to_stamp(trained.newest_event_time),
        as_of_time=to_stamp(run.as_of),
        rows=trained.rows,
        metrics=trained.metrics,
    )


def failed(run: Run, failure: Failure) -> TrainingFailed:
    """Returns the event that a run ended without a bundle."""
    return TrainingFailed(
        run_id=run.run_id,
        model=run.model,
        step=failure.step,
        reason=failure.reason,
        detail=failure.detail,
    )


def snapshot_request(model: str, as_of: datetime, loop_digest: str) -> CreateSnapshotRequest:
    """Returns the request for a dataset."""
    return CreateSnapshotRequest(model=model, as_of_time=to_stamp(as_of), loop_digest=loop_digest)


def to_snapshot(message: CreateSnapshotResponse) -> Snapshot:
    """Returns the dataset that was cut."""
    return Snapshot(message.dataset_digest, message.rows, to_time(message.newest_event_time))


def from_run(run: Run, progress: str) -> PbRun:
    """Returns a run as clients see it."""
    return PbRun(
        run_id=run.run_id,
        model=run.model,
        cycle_id=run.cycle_id,
        trigger=PbTrigger.Value(f"TRIGGER_{run.trigger.upper()}"),
        state=PbRunState.Value(f"RUN_STATE_{run.state.upper()}"),
        progress=progress,
        bundle_digest=run.bundle_digest,
        dataset_digest=run.dataset_digest,
        error=run.error,
        attempts=run.attempts,
        create_time=to_stamp(run.create_time),
        end_time=to_stamp(run.end_time) if run.end_time else None,
        metrics=run.metrics,
    )
