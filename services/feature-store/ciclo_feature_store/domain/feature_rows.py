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


def feature_rows(
    view: str,
    event_times_us: NDArray[np.int64],
    entities: Mapping[str, NDArray[Any]],
    fields: Mapping[str, NDArray[Any]],
    watermark_us: int | None,
) -> FeatureRows:
    """Returns a batch whose columns are whole, with every number as float32.

    Raises:
        BadFeatureRows: Lengths differ, a name occurs twice or is reserved, there is no entity,
            an entity is a fraction, or a number is infinite.
    """
    rows = len(event_times_us)
    if not view.isidentifier():
        raise BadFeatureRows(f"{view!r} is no name of a view: an identifier", field="view")
    for name, values in (*entities.items(), *fields.items()):
        if len(values) != rows:
            raise BadFeatureRows(
                f"{view}.{name} has {len(values)} values, expected {rows}: one for each event time",
                field=name,
            )
        if not name.isidentifier() or name in RESERVED_COLUMNS or name.startswith("_"):
            raise BadFeatureRows(f"{view}: a column must not be called {name!r}", field=name)
    if rows and not entities:
        raise BadFeatureRows(f"{view}: a batch with rows needs an entity", field="entities")
    if entities.keys() & fields.keys():
        raise BadFeatureRows(f"{view}: a column is entity and field at once", field="fields")
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
