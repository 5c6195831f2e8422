"""A run: one reason, one dataset, one bundle or one error."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class RunState(StrEnum):
    """Where a run stands."""

    CUTTING = "cutting"
    TRAINING = "training"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """True if nothing more happens to the run."""
        return self in (RunState.SUCCEEDED, RunState.FAILED)


class Trigger(StrEnum):
    """Why a run was started."""

    MANUAL = "manual"
    DRIFT = "drift"
    DEGRADED = "degraded"


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it stands.

    Args:
        run_id: Identifies it; also names its folder.
        model: The model.
        cycle_id: The cycle that it belongs to.
        cause_event_id: `ce_id` of the event that asked for it; empty for a person.
        trigger: Why it was started.
        episode_id: The episode that asked for it; empty for a person.
        request_id: The request that asked for it; empty for an episode.
        requested_by: Who asked; empty for an episode.
        as_of: Event time as of which the dataset is cut. UTC.
        loop_digest: The definition in force when it was started.
        recipe: In place of the definition's own; empty for that.
        seed: In place of the recipe's own; None for that.
        state: Where it stands.
        started_event_id: `ce_id` of its TrainingStarted.
        dataset_digest: Empty before the dataset is cut.
        bundle_digest: Empty before the bundle is stored.
        attempts: How often its process was started.
        error: Why it failed; empty.
        metrics: On held-out rows by name.
        create_time: Wall time of its start. UTC.
        end_time: Wall time of its end. UTC.
    """

    run_id: str
    model: str
    cycle_id: str
    trigger: Trigger
    as_of: datetime
    loop_digest: str
    started_event_id: str
    create_time: datetime
    cause_event_id: str = ""
    episode_id: str = ""
    request_id: str = ""
    requested_by: str = ""
    recipe: str = ""
    seed: int | None = None
    state: RunState = RunState.CUTTING
    dataset_digest: str = ""
    bundle_digest: str = ""
    attempts: int = 0
    error: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    end_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A dataset that was cut.

    Args:
        digest: In the blob store.
        rows: Labelled rows.
        newest_event_time: Greatest event time among them. UTC.
    """

    digest: str
    rows: int
    newest_event_time: datetime


@dataclass(frozen=True, slots=True)
class Trained:
    """What a process that ended well made.

    Args:
        bundle_digest: Of the bundle, in the blob store.
        metrics: On held-out rows by name; the champion's begin with `champion:`.
        rows: Rows that the weights were trained on.
        newest_event_time: Greatest event time among them. UTC.
    """

    bundle_digest: str
    metrics: dict[str, float]
    rows: int
    newest_event_time: datetime


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run has no bundle.

    Args:
        step: DATASET, RECIPE, EVALUATION, EXPORT, PARITY, BUNDLE, TIMEOUT or KILLED.
        reason: In an UPPER_SNAKE_CASE word.
        detail: For people: what, where, what was expected, what to do.
    """

    step: str
    reason: str
    detail: str
