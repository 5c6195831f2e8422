"""A batch of a view's rows, and the gate that every batch passes before it is believed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciclo.errors import Reject
from ciclo_feature_store.domain.definitions import View

RESERVED_COLUMNS = frozenset({"event_time"})
"""Names of the table's own columns; those that begin with an underscore are reserved, too."""

MOST_NAME_BYTES = 200
"""Of a view's name, which is also a folder's; file systems take 255."""


class BadFeatureRows(Reject):
    """A batch is not what its view takes; nothing of it is used."""

    reason = "BAD_FEATURE_ROWS"


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Rows of one view, as a source sent them. All columns have the same length.

    Attributes:
        view: Name of the view.
        event_times_us: When the values became true. int64 [rows].
        entities: Join keys by name, in alphabetical order: int64 or str objects [rows].
        fields: Values by name: float32 (missing: NaN) or str objects (missing: "") [rows].
        watermark_us: Every row up to and including this event time has been sent. None: unsaid.
    """

    view: str
    event_times_us: NDArray[np.int64]
    entities: Mapping[str, NDArray[Any]]
    fields: Mapping[str, NDArray[Any]]
    watermark_us: int | None = None

    def __len__(self) -> int:
        return len(self.event_times_us)


class ViewSchema:
    """What a view's columns are: what they were first, as long as there are rows.

    Tables refuse everything else, so nothing else may become readable online before.

    Args:
        view: Name of the view.
    """

    def __init__(self, view: str) -> None:
        self.entities: Mapping[str, type] = {}
        self._view = view
        self._fields: dict[str, type] = {}

    def take(self, entities: Mapping[str, type], fields: Mapping[str, type]) -> None:
        """Checks the columns of some rows, and takes new fields as they are.

        Args:
            entities: Join keys, each `str` or `int`.
            fields: Values, each `str` or `float`.

        Raises:
            BadFeatureRows: Other entities, another type of a field, or two names that differ only
                in case; nothing was taken.
        """
        if self.entities and self.entities != entities:
            raise BadFeatureRows(
                f"{self._view} is joined by {said(self.entities)}, the batch has {said(entities)}",
                field="entities",
            )
        spelled = {name.lower(): name for name in (*self._fields, *entities)}
        for name, kind in fields.items():
            before = spelled.setdefault(name.lower(), name)
            if before != name or self._fields.get(name, kind) is not kind:
                known = {before: self._fields.get(before, kind)}
                raise BadFeatureRows(
                    f"{self._view} has {said(known)}, the batch has {said({name: kind})}: "
                    "give the new column another name",
                    field=name,
                )
        self.entities = dict(entities)
        self._fields |= fields


def kinds_of(columns: Mapping[str, NDArray[Any]]) -> dict[str, type]:
    """Returns what the values of columns are: `str`, `int` or `float`."""
    kinds = {"O": str, "i": int, "f": float}
    return {name: kinds[values.dtype.kind] for name, values in columns.items()}


def said(columns: Mapping[str, type]) -> str:
    """Returns columns with their types, for people."""
    words = {str: "text", int: "whole number", float: "number"}
    return ", ".join(f"{name} ({words[kind]})" for name, kind in columns.items())


def feature_rows(
    view: str,
    event_times_us: NDArray[np.int64],
    entities: Mapping[str, NDArray[Any]],
    fields: Mapping[str, NDArray[Any]],
    watermark_us: int | None,
) -> FeatureRows:
    """Returns a batch whose columns are whole, with every number as float32.

    Raises:
        BadFeatureRows: Lengths differ, a name is too long, reserved or there twice, no entity is,
            an entity is a fraction, or a number is infinite.
    """
    rows = len(event_times_us)
    if not view.isidentifier() or len(view.encode()) > MOST_NAME_BYTES:
        raise BadFeatureRows(
            f"{view[:MOST_NAME_BYTES]!r} is no name of a view: an identifier of at most "
            f"{MOST_NAME_BYTES} bytes",
            field="view",
        )
    for name, values in (*entities.items(), *fields.items()):
        if len(values) != rows:
            raise BadFeatureRows(
                f"{view}.{name} has {len(values)} values, expected {rows}: one for each event time",
                field=name,
            )
        if not name.isidentifier() or name.lower() in RESERVED_COLUMNS or name.startswith("_"):
            raise BadFeatureRows(f"{view}: a column must not be called {name!r}", field=name)
    if rows and not entities:
        raise BadFeatureRows(f"{view}: a batch with rows needs an entity", field="entities")
    if len({name.lower() for name in (*entities, *fields)}) < len(entities) + len(fields):
        raise BadFeatureRows(
            f"{view}: two of {', '.join((*entities, *fields))} are the same but for case, which "
            "tables do not tell apart",
            field="fields",
        )
    for name, values in entities.items():
        if values.dtype.kind == "f":
            raise BadFeatureRows(f"{view}.{name}: an entity is text or whole number", field=name)
    return FeatureRows(
        view,
        event_times_us,
        {name: entities[name] for name in sorted(entities)},
        {name: _as_feature(view, name, values) for name, values in fields.items()},
        watermark_us,
    )


def require_fit(rows: FeatureRows, view: View, never_store: Collection[str]) -> None:
    """Checks a batch against the definition of its view. Fields beyond it are kept for later.

    Raises:
        BadFeatureRows: Other entities, a field of another type, or a field that must not be stored.
    """
    if len(rows) and set(rows.entities) != set(view.entities):
        raise BadFeatureRows(
            f"{view.name} is joined by {', '.join(view.entities)}, the batch has "
            f"{', '.join(rows.entities)}",
            field="entities",
        )
    for feature in view.features:
        values = rows.fields.get(feature.name)
        if values is not None and (values.dtype == object) != (feature.datatype == "string"):
            sent = "texts" if values.dtype == object else "numbers"
            raise BadFeatureRows(
                f"{view.name}.{feature.name} is {feature.datatype}, the batch has {sent}",
                field=feature.name,
            )
    forbidden = sorted(set(rows.fields) & set(never_store))
    if forbidden:
        raise BadFeatureRows(
            f"{view.name}: privacy.never_store forbids {', '.join(forbidden)}: do not send it",
            field=forbidden[0],
        )


def _as_feature(view: str, name: str, values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype == object:
        return values
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    if np.isinf(numbers).any():
        raise BadFeatureRows(
            f"{view}.{name} has a number that is infinite or beyond float32; missing is NaN",
            field=name,
        )
    return numbers
