"""What the use cases need from outside; adapters provide it, tests imitate it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ciclo_feature_store.domain.definitions import AppliedLoop, FeatureService
from ciclo_feature_store.domain.history import HistoryStatus, Observations
from ciclo_feature_store.domain.tasks import (
    AuditTask,
    SkewAudit,
    Snapshot,
    SnapshotCut,
    SnapshotTask,
)


class Loops(Protocol):
    """Knows the loops in force and their feature definitions."""

    def service(self, name: str) -> FeatureService:
        """Returns a feature service of a loop in force.

        Raises:
            UnknownFeatureService: No loop defines it.
            UnfitDefinitions: Two loops define it differently.
            Retry: A loop is just being read.
        """
        ...

    def applied(self, model: str) -> AppliedLoop:
        """Returns the loop in force.

        Raises:
            NotFound: No such model.
            UnfitDefinitions: Its definitions cannot be used.
            Retry: It is just being read.
        """
        ...

    async def applied_at(self, model: str, digest: str) -> AppliedLoop:
        """Returns the loop of a digest, in force or not; an empty digest means the one in force.

        Raises:
            NotFound: No such model or loop.
            UnfitDefinitions: Its definitions cannot be used.
        """
        ...

    async def check(self, files: Mapping[str, bytes]) -> AppliedLoop:
        """Returns the loop that some files define, in force or not.

        Args:
            files: By their path in the loop's folder.

        Raises:
            Reject: They cannot be used.
        """
        ...

    def folder(self, digest: str) -> Path:
        """Returns where a loop that was returned lies on this machine."""
        ...


class History(Protocol):
    """Keeps served answers, labels, observations and feature rows."""

    async def import_observations(self, chunk: Observations, applied: AppliedLoop) -> int:
        """Stores a chunk; it is on disk when this returns. Returns the rows stored now.

        Raises:
            BadObservations: The chunk does not fit the loop's inputs.
        """
        ...

    async def catch_up(self) -> None:
        """Returns once everything that was in the topics when called is stored.

        Raises:
            Retry: It takes too long.
        """
        ...

    async def status(self, model: str) -> HistoryStatus:
        """Returns how far a model's history is stored."""
        ...


class Offline(Protocol):
    """The process in which Feast works."""

    async def snapshot(self, task: SnapshotTask) -> SnapshotCut:
        """Makes the folder of a dataset.

        Raises:
            Conflict: No labelled row, or it takes too long.
            Retry: The process died; it is being started again.
        """
        ...

    async def audit(self, task: AuditTask) -> SkewAudit:
        """Compares captured features with the history.

        Raises:
            Conflict: It takes too long.
            Retry: The process died; it is being started again.
        """
        ...


class Datasets(Protocol):
    """Keeps datasets and where they came from."""

    async def put(self, folder: Path, cut: SnapshotCut, task: SnapshotTask) -> Snapshot:
        """Moves the folder of a dataset into the blob store and notes its origin."""
        ...

    async def discard(self, folder: Path) -> None:
        """Removes the folder of a dataset that nobody shall have."""
        ...

    def workplace(self) -> Path:
        """Returns the path of a folder that does not exist yet, for a dataset in the making."""
        ...
