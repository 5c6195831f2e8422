"""What the trainer's use cases need from outside."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ciclo.errors import Retry
from ciclo.loop import Loop
from ciclo_trainer.domain.policy import Skip
from ciclo_trainer.domain.runs import Failure, Run, Snapshot, Trained


@dataclass(frozen=True, slots=True)
class ModelState:
    """What the registry says of a model.

    Args:
        loop_digest: The definition in force; empty before one was applied.
        champion_digest: Bundle that serves; empty for none.
        is_paused: The loop does not act.
        has_rollout: A rollout is under way.
        last_run_id: Newest run whose bundle the registry took up.
    """

    loop_digest: str
    champion_digest: str
    is_paused: bool
    has_rollout: bool
    last_run_id: str = ""


@dataclass(frozen=True, slots=True)
class Watch:
    """What the monitor says of a model.

    Args:
        watermark: Event time of the model; None before the first request. UTC.
        episode_id: The open episode; empty for none.
        cause_event_id: `ce_id` of the event that opened it.
        is_drifted: Drift was detected in it.
        is_degraded: Degraded performance was detected in it.
    """

    watermark: datetime | None
    episode_id: str = ""
    cause_event_id: str = ""
    is_drifted: bool = False
    is_degraded: bool = False


class Faulty(Retry):
    """Who was asked has a fault of its own: worth some more tries, not worth waiting for."""

    reason = "INTERNAL"


class ProcessDied(Retry):
    """A run's process left no reason; the run goes on from its checkpoint."""

    reason = "PROCESS_DIED"


class Models(Protocol):
    """The newest published states."""

    def names(self) -> Sequence[str]:
        """Returns every model that the registry knows."""

    def state(self, model: str) -> ModelState | None:
        """Returns what the registry says; None for an unknown model."""

    def watch(self, model: str) -> Watch:
        """Returns what the monitor says; an empty statement before it said anything."""


class Loops(Protocol):
    """Loop definitions by digest."""

    async def get(self, loop_digest: str) -> Loop:
        """Returns a definition. Raises `Retry` while it cannot be fetched."""


class Runs(Protocol):
    """The trainer's memory. Every change and its event are one transaction."""

    async def begin(self, run: Run) -> Run:
        """Stores a run and its TrainingStarted; returns the run that its request began, if any.

        Raises:
            Conflict: Another run of the model is under way.
        """

    async def skip(self, model: str, episode_id: str, cause_event_id: str, skip: Skip) -> bool:
        """Stores a TrainingSkipped; returns False if the same was said of the episode before."""

    async def mark_cut(self, run: Run, snapshot: Snapshot) -> Run:
        """Notes the dataset of a run."""

    async def mark_attempt(self, run: Run) -> Run:
        """Counts one more start of a run's process."""

    async def succeed(self, run: Run, trained: Trained) -> None:
        """Ends a run with its TrainingCompleted."""

    async def fail(self, run: Run, failure: Failure) -> None:
        """Ends a run with its TrainingFailed."""

    async def get(self, run_id: str) -> Run | None:
        """Returns a run."""

    async def list(self, model: str, most: int) -> Sequence[Run]:
        """Returns a model's runs, newest first."""

    async def unfinished(self) -> Sequence[Run]:
        """Returns the runs that have not ended, oldest first."""


class Snapshots(Protocol):
    """Who cuts datasets."""

    async def cut(self, model: str, as_of: datetime, loop_digest: str) -> Snapshot:
        """Cuts a dataset as of an event time.

        Raises:
            Retry: The feature store does not answer, or does not know yet all that the cut needs.
            Faulty: It fails.
            Reject: There is nothing to learn from.
        """


class Training(Protocol):
    """Who turns a dataset into a bundle."""

    async def train(
        self,
        run: Run,
        champion_digest: str,
        begin: Callable[[], Awaitable[None]],
        report: Callable[[str], None],
    ) -> Trained | Failure:
        """Runs a run's process to its end, from its last checkpoint if there is one.

        Args:
            run: A run whose dataset is cut.
            champion_digest: Bundle to compare with; empty for none.
            begin: Called before a process is given the run, and only then: it is an attempt.
            report: Called with what the run does, for people.

        Raises:
            Retry: Blobs cannot be read or written now.
            ProcessDied: Call again.
        """
