"""Which captured requests are asked again, and of whom."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ciclo_gateway.domain.desired import Desired
from ciclo_gateway.domain.packing import Version
from ciclo_gateway.domain.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Record:
    """A captured batch.

    Attributes:
        offset: Of its record in the topic.
        version: That answered.
        variant: champion, challenger or pinned.
        is_shadow: True if nobody got these answers.
        prediction_ids: One a request; likewise the following.
        row_counts: 0 where the payload is not recorded.
        event_time_us: Of each request.
        statuses: gRPC status; 0: answered.
        keys: What the choice of the version stuck to.
        client_ids: The callers' own.
        inputs: Rows of all requests, one after the other.
    """

    offset: int
    version: Version
    variant: str
    is_shadow: bool
    prediction_ids: tuple[str, ...]
    row_counts: tuple[int, ...]
    event_time_us: tuple[int, ...]
    statuses: tuple[int, ...]
    keys: tuple[str, ...]
    client_ids: tuple[str, ...]
    inputs: tuple[Tensor, ...]


def version_to_ask(record: Record, desired: Desired) -> Version | None:
    """Returns whom to ask what was asked in a batch: whichever of the two did not answer.

    None for what no caller asked, what a caller asked a version by its number, and where no
    rollout is under way or the signatures differ.
    """
    rollout = desired.rollout
    if rollout is None or record.is_shadow or record.variant not in ("champion", "challenger"):
        return None
    challenger, incumbent = rollout.challenger, desired.incumbent
    asked = incumbent if record.version.number == challenger.number else challenger
    if asked is None or asked.signature_digest != record.version.signature_digest:
        return None
    return asked


def requests_to_ask(record: Record, since_us: int) -> list[int]:
    """Returns the indices of the requests that were answered and recorded, from a time on."""
    return [
        index
        for index, rows in enumerate(record.row_counts)
        if rows and record.statuses[index] == 0 and record.event_time_us[index] >= since_us
    ]


def chunks(row_counts: Sequence[int], chosen: Sequence[int], most_rows: int) -> Iterator[list[int]]:
    """Yields `chosen` in order, in groups of at most `most_rows` rows, or of one request."""
    group: list[int] = []
    rows = 0
    for index in chosen:
        if group and rows + row_counts[index] > most_rows:
            yield group
            group, rows = [], 0
        group.append(index)
        rows += row_counts[index]
    if group:
        yield group
