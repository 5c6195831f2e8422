"""One line of the spool, which Envoy writes for each ModelInfer call: what it says, or why not.

Columns are separated by one space, `-` stands for nothing: format, prediction id, start µs,
duration µs, HTTP status, gRPC status, Envoy's flags, attempts, model, version, variant, key, event
time µs, bytes received, bytes sent, request, response, and a dot by which a whole line is known.
"""

import binascii
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from ciclo.errors import Reject

FORMAT: Final = b"1"
"""First column of every line that this module understands."""

COLUMNS: Final = 18
"""Of a whole line."""

END: Final = b"."
"""Last column: a line without it is torn."""

UNKNOWN_MODEL: Final = "-"
"""Stands for the model of a line that names none that can be read."""

CANCELLED: Final = 1
"""gRPC status of a call that the caller gave up."""

UNKNOWN: Final = 2
"""gRPC status of a call that ended without one."""

_NONE = b"-"
_SIZE = b"size:"
_MODEL_COLUMN = 8
_CALLER_GONE = (b"DC", b"DR")


class UnreadableLine(Reject):
    """A line is torn or says nonsense; `model` is what it was about, as far as that can be read."""

    reason = "UNREADABLE_RECORD"

    def __init__(self, message: str, *, model: str) -> None:
        super().__init__(message)
        self.model = model


class TornLine(UnreadableLine):
    """A line ends too early: Envoy was killed, or the disk was full, while it was written."""

    reason = "TORN_RECORD"


@dataclass(frozen=True, slots=True)
class Oversize:
    """Stands for a payload that was too large to be captured.

    Attributes:
        size_bytes: Of the payload.
    """

    size_bytes: int


Payload = bytes | Oversize | None
"""gRPC frames as they were sent; or their size alone; or nothing."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was routed to a version.

    Attributes:
        prediction_id: Minted by Envoy.
        model: Name of the model.
        version: That was asked, >= 1.
        variant: champion, challenger or pinned.
        key: What the choice of the version stuck to; empty where that was the prediction id.
        start_us: Wall time of its beginning.
        event_time_us: What the caller said, else `start_us`.
        duration_us: To the end of the answer.
        status: gRPC status. 0: answered.
        request: As received from the caller.
        response: As sent to the caller.
    """

    prediction_id: str
    model: str
    version: int
    variant: str
    key: str
    start_us: int
    event_time_us: int
    duration_us: int
    status: int
    request: Payload
    response: Payload


def parse_line(line: bytes) -> Call | None:
    """Returns the call that a line tells of, without its newline.

    Returns:
        None for a call that was refused before a version was chosen: no model answered it.

    Raises:
        TornLine: The end is missing.
        UnreadableLine: A column says what it must not.
    """
    columns = line.split(b" ")
    model = model_of(columns)
    if len(columns) < COLUMNS or columns[-1] != END:
        raise TornLine(
            f"{len(columns)} columns, expected {COLUMNS} and a dot at the end", model=model
        )
    if len(columns) > COLUMNS or columns[0] != FORMAT:
        raise UnreadableLine(
            f"{len(columns)} columns of format {columns[0][:9]!r}, not {COLUMNS} of {FORMAT!r}",
            model=model,
        )
    if columns[_MODEL_COLUMN] == _NONE:
        return None
    try:
        return _call(columns)
    except ValueError as error:
        raise UnreadableLine(f"a column cannot be read: {error}", model=model) from error


def model_of(columns: list[bytes]) -> str:
    """Returns the model that a line is about, by its columns; cheap, never raises."""
    if len(columns) <= _MODEL_COLUMN + 1:  # the last column of a torn line may be torn itself
        return UNKNOWN_MODEL
    try:
        return unquote(columns[_MODEL_COLUMN].decode("ascii"), errors="strict") or UNKNOWN_MODEL
    except ValueError:
        return UNKNOWN_MODEL


def _call(columns: list[bytes]) -> Call:
    prediction_id, variant = columns[1].decode("ascii"), columns[10].decode("ascii")
    if prediction_id == "-" or variant == "-":
        raise ValueError("prediction id or variant is missing")
    version = int(columns[9])
    start_us = int(columns[2])
    event_time_us = _number(columns[12], start_us)
    duration_us = _number(columns[3], 0)
    status = _status(columns[5], columns[6])
    if not (0 < version < 2**32 and 0 <= duration_us < 2**63 and 0 <= status < 2**32):
        raise ValueError(f"version {version}, duration {duration_us} or status {status}: too large")
    if not -(2**63) <= min(start_us, event_time_us) <= max(start_us, event_time_us) < 2**63:
        raise ValueError(f"start {start_us} or event time {event_time_us}: beyond 64 bits")
    return Call(
        prediction_id=prediction_id,
        model=unquote(columns[8].decode("ascii"), errors="strict"),
        version=version,
        variant=variant,
        key="" if columns[11] == _NONE else unquote(columns[11].decode("ascii"), errors="strict"),
        start_us=start_us,
        event_time_us=event_time_us,
        duration_us=duration_us,
        status=status,
        request=_payload(columns[15]),
        response=_payload(columns[16]),
    )


def _number(column: bytes, absent: int) -> int:
    return absent if column == _NONE else int(column)


def _status(status: bytes, flags: bytes) -> int:
    if status != _NONE:
        return int(status)
    return CANCELLED if set(flags.split(b",")) & set(_CALLER_GONE) else UNKNOWN


def _payload(column: bytes) -> Payload:
    if column == _NONE:
        return None
    if column.startswith(_SIZE):
        return Oversize(int(column.removeprefix(_SIZE)))
    return binascii.a2b_base64(column, strict_mode=True)
