"""From the columns that a caller sends, and the features known of its rows, to tensors."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ciclo.errors import Conflict, Reject
from ciclo_gateway.domain.tensors import Field, Signature

MAX_ROWS: Final = 10_000
"""In one request."""

MAX_KEY_BYTES: Final = 256
"""Of the key that sticks to a version; Envoy takes no more."""

Columns = Mapping[str, NDArray[Any]]
"""Values [rows] by name: float64, int64, or `str` objects."""

_KINDS: Final = {"string": "O", "float32": "fi", "int64": "i", "timestamp": "i"}
_EXPECTED: Final = {
    "string": "texts",
    "float32": "numbers",
    "int64": "whole numbers",
    "timestamp": "whole numbers (microseconds since 1970-01-01T00:00:00Z)",
}
_DTYPES: Final = {"float32": np.float32, "int64": np.int64, "timestamp": np.int64}


class BadColumns(Reject):
    """The columns are not those that the loop declares; `field` says which."""

    reason = "BAD_COLUMNS"


class FeaturesDiffer(Conflict):
    """The feature-store does not give what the model was trained on."""

    reason = "FEATURES_DIFFER"


@dataclass(frozen=True, slots=True)
class Contract:
    """What a loop declares about requests.

    Attributes:
        feature_service: Gives the features.
        entities: Columns by which features are looked up, with their types.
        request: Columns that only the caller knows, with their types.
        id: The column that is a row's business key; empty for none.
        knowledge_lag_us: At time t only what was known so much earlier is used.
        older_than_us: By view: values older than this count as missing.
    """

    feature_service: str
    entities: Mapping[str, str]
    request: Mapping[str, str]
    id: str
    knowledge_lag_us: int
    older_than_us: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Features:
    """What was known of some rows.

    Attributes:
        values: By feature.
        view_times_us: Event time of each row's values by view; 0: nothing was known.
    """

    values: Columns
    view_times_us: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked.

    Attributes:
        values: By input, in the order of the signature: float32, int64 or `str` objects [rows].
        fallback_rows: By feature: rows in which it was missing or too old. None of them is 0.
        fingerprint: Digest of the features' values.
    """

    values: Mapping[str, NDArray[Any]]
    fallback_rows: Mapping[str, int]
    fingerprint: str


def require_columns(columns: Columns, contract: Contract) -> int:
    """Returns how many rows a caller asks about.

    Raises:
        BadColumns: A column is missing, unknown, of another type or length, or there are too many
            rows or none.
    """
    declared = {**contract.entities, **contract.request}
    for name in declared:
        if name not in columns:
            raise BadColumns(
                f"column {name!r} is missing, expected {sorted(declared)}", field=f"columns[{name}]"
            )
    rows = len(columns[next(iter(declared))]) if declared else 0
    if not 0 < rows <= MAX_ROWS:
        raise BadColumns(f"{rows} rows, expected 1 to {MAX_ROWS}", field="columns")
    for name, values in columns.items():
        problem = (
            f"is not declared, expected {sorted(declared)}"
            if name not in declared
            else _problem(declared[name], values, rows)
        )
        if problem:
            raise BadColumns(f"column {name!r} {problem}", field=f"columns[{name}]")
    return rows


def ask(
    signature: Signature,
    columns: Columns,
    features: Features,
    contract: Contract,
    event_time_us: int,
) -> Question:
    """Returns the question for checked columns.

    Raises:
        FeaturesDiffer: A feature that the model takes is not given, or not of its type.
    """
    values: dict[str, NDArray[Any]] = {}
    fallback_rows: dict[str, int] = {}
    digest = hashlib.sha256()
    for field in signature.inputs:
        if field.role != "feature":
            values[field.name] = _given(field, columns)
            continue
        found, missing = _feature(field, features, contract, event_time_us)
        values[field.name] = found
        if missing:
            fallback_rows[field.name] = missing
        digest.update(f"{field.name}\0{field.datatype}\0{len(found)}\0".encode())
        digest.update(_bytes(found))
    return Question(values, fallback_rows, f"sha256:{digest.hexdigest()}")


def routing_key(columns: Columns, contract: Contract) -> str:
    """Returns what sticks to a version: the first row's business key, or else its entities."""
    names = [contract.id] if contract.id else list(contract.entities)
    key = "|".join(str(columns[name][0]) for name in names)
    return key.encode()[:MAX_KEY_BYTES].decode(errors="ignore")


def _problem(datatype: str, values: NDArray[Any], rows: int) -> str:
    if values.dtype.kind not in _KINDS[datatype]:
        return f"has {values.dtype.name} values, expected {_EXPECTED[datatype]}"
    if len(values) != rows:
        return f"has {len(values)} rows, others {rows}"
    if datatype == "float32" and np.isinf(_cast(values, np.float32)).any():
        return "has a value beyond float32"
    return ""


def _given(field: Field, columns: Columns) -> NDArray[Any]:
    if field.name not in columns:
        raise FeaturesDiffer(
            f"the model takes {field.name!r}, which the loop in force does not declare",
            field=f"columns[{field.name}]",
        )
    values = columns[field.name]
    return values if field.datatype == "string" else _cast(values, _DTYPES[field.datatype])


def _feature(
    field: Field, features: Features, contract: Contract, event_time_us: int
) -> tuple[NDArray[Any], int]:
    if field.name not in features.values:
        raise FeaturesDiffer(
            f"feature service {contract.feature_service!r} does not give {field.name!r}, which the "
            f"model takes; it gives {sorted(features.values)}",
            field=field.name,
        )
    values = features.values[field.name]
    if values.dtype.kind not in _KINDS[field.datatype]:
        raise FeaturesDiffer(
            f"feature {field.name!r} has {values.dtype.name} values, the model takes "
            f"{field.datatype}",
            field=field.name,
        )
    times = features.view_times_us.get(field.view, np.zeros(len(values), np.int64))
    missing = _missing(values, times)
    limit_us = contract.older_than_us.get(field.view)
    if limit_us is not None:
        missing |= event_time_us - times > limit_us
    cast = values if field.datatype == "string" else _cast(values, _DTYPES[field.datatype])
    if missing.any():
        # A whole number cannot be missing: it keeps the value that came, as it did in training.
        empty: Any = {"O": "", "f": np.nan}.get(cast.dtype.kind)
        cast = cast.copy() if empty is None else np.where(missing, empty, cast).astype(cast.dtype)
    return cast, int(missing.sum())


def _missing(values: NDArray[Any], times: NDArray[np.int64]) -> NDArray[np.bool_]:
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values), dtype=np.bool_)
    if values.dtype.kind == "O":
        return np.asarray(values == "", dtype=np.bool_)
    return np.asarray(times == 0, dtype=np.bool_)


def _cast(values: NDArray[Any], dtype: Any) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which is refused
        return values.astype(dtype)


def _bytes(values: NDArray[Any]) -> bytes:
    if values.dtype.kind == "O":
        return "\0".join(values.tolist()).encode()
    return values.tobytes()
