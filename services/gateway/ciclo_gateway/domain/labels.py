"""Labels that callers report: which are taken, and why the others are not."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ciclo.errors import Reject
from ciclo_gateway.domain import event_times

MAX_LABELS: Final = 10_000
"""In one report."""

MAX_KEY_CHARACTERS: Final = 256
"""Of a row's key or a prediction's id."""

MAX_ROW: Final = 2**31 - 1
"""Greatest index of a row: tables hold it in 32 bits with a sign."""

EVENT_LABELS: Final = 2_000
"""In one event."""

EVENT_BYTES: Final = 900_000
"""Of the labels in one event: 2,000 keys of 256 characters may be twice as much as Kafka takes."""

_LABEL_BYTES: Final = 48
"""Greatest size of a label on the wire beside its key."""


class BadLabel(Reject):
    """A label cannot be taken; `field` says which and what of it."""

    reason = "BAD_LABEL"


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth about one row, named by its key, or by prediction id and row.

    Attributes:
        row_key: Business key; empty where the prediction id names the row.
        prediction_id: The gateway's; empty where the key names the row.
        row: Index within the request, from 0.
        value: The label.
        event_time_us: When it became known.
    """

    row_key: str
    prediction_id: str
    row: int
    value: float
    event_time_us: int


def require_labels(labels: Sequence[Truth], now_us: int) -> None:
    """Checks a report as a whole: all of it is taken or none.

    Args:
        labels: The report.
        now_us: Wall time. Microseconds since 1970.

    Raises:
        BadLabel: With the first that is wrong.
    """
    if not 0 < len(labels) <= MAX_LABELS:
        raise BadLabel(
            f"a report of {len(labels)} labels, expected 1 to {MAX_LABELS}: split it",
            field="labels",
        )
    for index, label in enumerate(labels):
        problem = _problem(label, now_us)
        if problem:
            name, what = problem
            raise BadLabel(f"label {index}: {what}", field=f"labels[{index}].{name}")


def split(labels: Sequence[Truth]) -> Iterator[Sequence[Truth]]:
    """Yields the labels in order, in parts that fit into one event each."""
    start, size_bytes = 0, 0
    for index, label in enumerate(labels):
        label_bytes = len((label.row_key or label.prediction_id).encode()) + _LABEL_BYTES
        if index - start == EVENT_LABELS or size_bytes + label_bytes > EVENT_BYTES:
            yield labels[start:index]
            start, size_bytes = index, 0
        size_bytes += label_bytes
    if start < len(labels):
        yield labels[start:]


def _problem(label: Truth, now_us: int) -> tuple[str, str] | None:
    if not label.row_key and not label.prediction_id:
        return "row_key", "names no row: give row_key, or prediction_id and row"
    if label.row_key and label.prediction_id:
        return "row_key", "names a row twice: give either row_key or prediction_id and row"
    if max(len(label.row_key), len(label.prediction_id)) > MAX_KEY_CHARACTERS:
        return "row_key", f"has a name of more than {MAX_KEY_CHARACTERS} characters"
    if label.row > MAX_ROW:
        return "row", f"has row {label.row}, expected its index within the request, from 0"
    if not math.isfinite(label.value) or label.value not in (0.0, 1.0):
        return "value", f"is {label.value}, expected 0 or 1 for a binary output"
    if label.event_time_us == 0:
        return "event_time_us", "has no event time: say when the label became known"
    problem = event_times.problem_of(label.event_time_us, now_us)
    return ("event_time_us", f"event time {problem}") if problem else None
