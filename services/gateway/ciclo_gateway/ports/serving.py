"""What answering callers needs: features, loops, models, a book of labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from ciclo_gateway.domain.labels import Truth
from ciclo_gateway.domain.questions import Columns, Contract, Features


@dataclass(frozen=True, slots=True)
class Answered:
    """What a model answered to a caller.

    Attributes:
        outputs: By name [rows].
        prediction_id: Minted by Envoy.
        version: That answered.
        variant: What it was to the caller.
    """

    outputs: Mapping[str, NDArray[Any]]
    prediction_id: str
    version: int
    variant: str


class FeatureSource(Protocol):
    """The feature-store, online."""

    async def features(self, service: str, entities: Columns, as_of_us: int) -> Features:
        """Returns what was known at a time. Raises `NotFound`, `Reject`, `Retry`."""
        ...


class Loops(Protocol):
    """Loop definitions."""

    async def contract(self, digest: str) -> Contract:
        """Returns what a loop declares about requests. Raises `Retry`, `Conflict`."""
        ...


class Inference(Protocol):
    """The way to a model that callers by tensor take, too: through Envoy, and captured."""

    async def infer(
        self,
        model: str,
        values: Mapping[str, NDArray[Any]],
        *,
        client_id: str,
        key: str,
        event_time_us: int,
    ) -> Answered:
        """Asks whichever version is due. Raises `NotFound`, `Reject`, `Retry`."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a report.

    Attributes:
        labels: How many it had.
        is_new: False for one that was stored before, under the same id.
    """

    labels: int
    is_new: bool


class LabelBook(Protocol):
    """Where labels are stored before the caller is told so."""

    async def store(self, model: str, request_id: str, labels: Sequence[Truth]) -> Stored:
        """Stores a report once. Its labels become `LabelsReported`."""
        ...
