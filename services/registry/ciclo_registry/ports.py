"""What use cases need from outside."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from sqlalchemy import Connection

from ciclo.cloudevents import Envelope
from ciclo.loop import Loop
from ciclo_registry.domain.audit import AuditEntry, Head
from ciclo_registry.domain.model import Model
from ciclo_registry.domain.rollout import Rollout
from ciclo_registry.domain.versions import Candidate, Examined, Status, Version


class Books(Protocol):
    """All that the registry remembers, within one transaction or snapshot."""

    def model(self, name: str) -> Model | None:
        """Returns a model with its rollout, None if no loop declares it."""
        ...

    def models(self) -> Sequence[Model]:
        """Returns all models by name."""
        ...

    def save_model(self, model: Model) -> None:
        """Writes a model; its rollout is written by `save_rollout`."""
        ...

    def loop(self, digest: str) -> Loop:
        """Returns a definition that was applied once."""
        ...

    def save_loop(self, digest: str, text: str) -> None:
        """Keeps a definition's loop.yaml."""
        ...

    def rollouts(self, model: str) -> Sequence[Rollout]:
        """Returns a model's rollouts, newest first."""
        ...

    def save_rollout(self, rollout: Rollout) -> None:
        """Writes a rollout, new or known."""
        ...

    def version(self, model: str, number: int) -> Version | None:
        """Returns a version."""
        ...

    def version_of(self, model: str, bundle_digest: str) -> Version | None:
        """Returns the version that a bundle became."""
        ...

    def versions(self, model: str) -> Sequence[Version]:
        """Returns a model's versions, newest first."""
        ...

    def save_version(self, version: Version) -> None:
        """Writes a version, new or known."""
        ...

    def set_status(self, model: str, number: int, status: Status) -> None:
        """Says what has become of a version."""
        ...

    def append_audit(self, entry: AuditEntry) -> None:
        """Adds to the audit chain; sequence and hash are filled in."""
        ...

    def audit(self) -> tuple[Sequence[AuditEntry], Head]:
        """Returns the whole chain and where it should end."""
        ...

    def candidates(self) -> Sequence[tuple[Envelope, Candidate]]:
        """Returns bundles that wait to be examined, oldest first, each with its event."""
        ...

    def add_candidate(self, cause: Envelope, candidate: Candidate) -> None:
        """Puts a bundle into the queue."""
        ...

    def remove_candidate(self, cause: Envelope) -> bool:
        """Takes it out. Returns False if it was not there any more."""
        ...


OpenBooks = Callable[[Connection], Books]
"""Opens the books of a transaction or a snapshot."""


class Examiner(Protocol):
    """The blob store. Slow; not for a transaction."""

    async def examine(self, bundle_digest: str) -> Examined:
        """Returns what a bundle says of itself, every digest verified.

        Raises:
            NotFound: It is not in the store.
            Reject: It is broken.
            Retry: The store does not answer.
        """
        ...

    async def store_loop(self, files: Mapping[str, bytes]) -> str:
        """Stores a definition and returns its digest; nothing happens if it is there already.

        Args:
            files: By their path in the loop's folder.

        Raises:
            Reject: A path would leave the folder.
            Retry: The store does not answer.
        """
        ...
