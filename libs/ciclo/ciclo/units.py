"""Scalars of loop.yaml: spans of event time, sizes, shares, names, types of columns."""

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SIZES = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_duration(value: object) -> timedelta:
    """Returns the span that a text such as `90d` stands for; a span is returned as it is.

    Example:
        >>> parse_duration("36h")
        datetime.timedelta(days=1, seconds=43200)
    """
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", str(value))
    if not match:
        raise ValueError(
            f"{value!r} is no duration, expected a number and one of s m h d w, such as 90d"
        )
    return timedelta(**{_UNITS[match[2]]: float(match[1])})


def duration_text(value: timedelta) -> str:
    """Returns a span as loop.yaml writes it, in the largest unit that divides it.

    Example:
        >>> duration_text(parse_duration("48h"))
        '2d'
    """
    seconds = value.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def parse_size(value: object) -> int:
    """Returns the bytes that a text such as `2GiB` stands for; a number is returned as it is."""
    match = re.fullmatch(r"(\d+)\s*(KiB|MiB|GiB)", str(value))
    if isinstance(value, int):
        return value
    if not match:
        raise ValueError(
            f"{value!r} is no size, expected a number and KiB, MiB or GiB, such as 2GiB"
        )
    return int(match[1]) * _SIZES[match[2]]


Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(duration_text)]
"""A length of event time, written as `90d`, `12h`, `30m` or `5s`."""

Span = Annotated[Duration, Field(gt=timedelta(0))]
"""A duration that something is divided by or that must hold rows: it is not empty."""

SizeBytes = Annotated[int, BeforeValidator(parse_size)]
"""An amount of memory, written as `2GiB`."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A part of a whole."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
"""A name that is also a file's, a topic key and a Triton model's: lower case, digits, dashes."""

DataType = Literal["string", "float32", "int64", "timestamp"]
"""Of a request field or a feature. A timestamp is microseconds since 1970-01-01T00:00:00Z."""
