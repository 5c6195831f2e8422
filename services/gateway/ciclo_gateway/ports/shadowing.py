"""What asking again needs: captured requests, and a place in them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ciclo_gateway.domain.packing import Answer, Version
from ciclo_gateway.domain.shadow import Record

Offsets = Mapping[int, int]
"""Offset of the next record to read, by partition."""


@dataclass(frozen=True, slots=True)
class ShadowAnswers:
    """What a version answered to requests that were asked again.

    Attributes:
        batch_id: Names the rollout and the record that the requests came from.
        version: That was asked.
        variant: What it is in the rollout: champion or challenger.
        answers: At least one.
    """

    batch_id: str
    version: Version
    variant: str
    answers: Sequence[Answer]


class Replay(Protocol):
    """Captured requests, from any place on."""

    def batches(self, offsets: Offsets) -> AsyncIterator[tuple[Sequence[Record], Offsets]]:
        """Yields records with the offsets after them, for ever; empty ones when nothing comes."""
        ...


class ShadowBook(Protocol):
    """How far a rollout's requests have been asked again."""

    async def offsets(self, rollout_id: str, model: str, since_us: int) -> Offsets:
        """Returns where to go on; at first, a place before all requests of a model since a time.

        Args:
            rollout_id: Whose place.
            model: Whose requests.
            since_us: Event time of the first that matters. Microseconds.
        """
        ...

    async def store(
        self,
        rollout_id: str,
        offsets: Offsets,
        answers: Sequence[ShadowAnswers],
        cycle_id: str,
    ) -> None:
        """Keeps the place and publishes the answers, both or neither."""
        ...
