"""What a loop asks and is told: the part of loop.yaml that callers depend on."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from ciclo.units import DataType, Duration

RESERVED_INPUTS = frozenset({"label", "event_time_us", "block"})
"""Columns of a dataset that are no inputs."""


class Part(BaseModel):
    """A part of loop.yaml: holds what it declares and nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Fallback(Part):
    """Where a view's values are too old they count as missing; what that means the recipe says."""

    older_than: Duration


class Input(Part):
    """One row of a request; a caller may send many."""

    entities: dict[str, DataType] | tuple[str, ...]
    request: dict[str, DataType] = {}
    id: str | None = None
    fallback: dict[str, Fallback] = {}

    @field_validator("entities", "request")
    @classmethod
    def _are_columns(cls, declared: Iterable[str]) -> Iterable[str]:
        if taken := [name for name in declared if not is_column(name)]:
            raise ValueError(
                f"{', '.join(taken)}: an input is called by an identifier that does not begin with "
                f"an underscore and is none of {', '.join(sorted(RESERVED_INPUTS))}"
            )
        return declared

    @field_validator("request")
    @classmethod
    def _are_no_entities(cls, request: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if twice := request.keys() & set(info.data.get("entities", ())):
            raise ValueError(f"declares {', '.join(sorted(twice))}, which input.entities does too")
        return request

    @field_validator("id")
    @classmethod
    def _is_declared(cls, name: str | None, info: ValidationInfo) -> str | None:
        request = info.data.get("request", {name})
        if name is not None and name not in request:
            raise ValueError(
                f"input.id names {name!r}, which input.request does not declare; it declares "
                f"{', '.join(request) or 'nothing'}"
            )
        return name


class Output(Part):
    """What the model answers for a row."""

    name: str
    type: Literal["binary"] = "binary"


class Label(Part):
    """The truth about a row, and when to expect it, counted from the row's event time.

    It must not depend on what is done with the answer: a challenger that is asked again later could
    then not be judged by it.
    """

    name: str
    expected_within: Duration
    never_after: Duration

    @field_validator("never_after")
    @classmethod
    def _is_later(cls, never_after: timedelta, info: ValidationInfo) -> timedelta:
        if never_after < info.data.get("expected_within", never_after):
            raise ValueError("label.never_after lies before label.expected_within")
        return never_after


class Privacy(Part):
    """Which fields are about people: kept with every version, so that erasure can follow them.

    A field that is never stored cannot be an input.
    """

    subject: str = "none"
    personal: tuple[str, ...] = ()
    never_store: tuple[str, ...] = ()


def is_column(name: str) -> bool:
    """Tells whether an input can have this name: a dataset's columns have it, too."""
    return name.isidentifier() and not name.startswith("_") and name not in RESERVED_INPUTS
