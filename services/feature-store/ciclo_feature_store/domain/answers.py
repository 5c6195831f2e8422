"""A batch of answers, unfolded into rows of the table `predictions`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciclo.errors import Reject
from ciclo_bundle import Field, Signature
from ciclo_feature_store.domain.history import (
    HistoryColumn,
    Piece,
    constant,
    history_column,
    texts,
)


class BadAnswers(Reject):
    """A batch of answers contradicts itself or its signature."""

    reason = "BAD_ANSWERS"


@dataclass(frozen=True, slots=True)
class Answers:
    """Many answers of one version. What is "one a request" has as many values as `row_counts`.

    Attributes:
        model: The model.
        version: Number of the version.
        variant: `champion`, `challenger` or `pinned`.
        purpose: `served` or `shadow`.
        bundle_digest: Of the version.
        batch_id: Names the batch, together with version and purpose.
        row_counts: Rows of each request; 0: its payload is not recorded.
        status_codes: gRPC status of each answer; 0: answered.
        texts: One a request: prediction_id, client_id, routing_key, omission.
        integers: One a request: event_time and receive_time (µs since the epoch), duration_us.
        inputs: By name, [rows, …]: the rows of all requests that have rows.
        outputs: By name, [rows, …]: the rows of all requests that have rows and were answered.
    """

    model: str
    version: int
    variant: str
    purpose: str
    bundle_digest: str
    batch_id: str
    row_counts: NDArray[np.int64]
    status_codes: NDArray[np.int64]
    texts: Mapping[str, list[str]]
    integers: Mapping[str, NDArray[np.int64]]
    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]


def answer_piece(answers: Answers, signature: Signature, offset: int) -> Piece:
    """Returns a batch as rows: one for each row of each request.

    A request without payload has one row, without `row`, inputs and outputs; see its `omission`.

    Args:
        answers: The batch.
        signature: Of the version that answered.
        offset: Of the record.

    Raises:
        BadAnswers: Lengths differ, or a tensor is not the signature's.
    """
    counts = _row_counts(answers)
    request = np.repeat(np.arange(len(counts)), np.maximum(counts, 1))
    is_recorded = np.repeat(counts > 0, np.maximum(counts, 1))
    status = answers.status_codes[request]
    is_answered = is_recorded & (status == 0)
    index = np.arange(len(request)) - np.searchsorted(request, request)
    rows, integers = len(request), answers.integers
    columns = {
        **{name: texts([values[i] for i in request]) for name, values in answers.texts.items()},
        "row": HistoryColumn("int32", index.astype(np.int32), is_recorded),
        "model": constant("string", answers.model, rows),
        "version": constant("int32", answers.version, rows),
        "variant": constant("string", answers.variant, rows),
        "purpose": constant("string", answers.purpose, rows),
        "bundle_digest": constant("string", answers.bundle_digest, rows),
        "batch_id": constant("string", answers.batch_id, rows),
        "status_code": HistoryColumn("int32", status),
        "event_time": HistoryColumn("timestamp", integers["event_time"][request]),
        "receive_time": HistoryColumn("timestamp", integers["receive_time"][request]),
        "duration_us": HistoryColumn("int64", integers["duration_us"][request]),
        **_tensors(answers.inputs, signature.inputs, is_recorded),
        **_tensors(answers.outputs, signature.outputs, is_answered),
        "_offset": constant("int64", offset, rows),
        "_index": HistoryColumn("int64", np.arange(rows, dtype=np.int64)),
    }
    columns["row_key"] = _row_key(columns, signature, rows)
    return Piece(answers.model, "predictions", columns, _name(answers))


def _name(answers: Answers) -> str:
    return f"{answers.batch_id} {answers.version} {answers.purpose}" if answers.batch_id else ""


def _row_counts(answers: Answers) -> NDArray[np.int64]:
    """Rows of each request, once it is known that all columns have one value for each."""
    requests = len(answers.row_counts)
    lengths = {name: len(values) for name, values in answers.texts.items()}
    lengths |= {name: len(values) for name, values in answers.integers.items()}
    lengths["status_codes"] = len(answers.status_codes)
    for name, length in lengths.items():
        if length != requests:
            raise BadAnswers(
                f"{name} has {length} values, expected {requests}: one a request", field=name
            )
    rows, carried = int(answers.row_counts.sum()), {len(t) for t in answers.inputs.values()} or {0}
    if carried != {rows}:  # checked before anything is unfolded: counts alone may claim any size
        raise BadAnswers(
            f"the inputs have {sorted(carried)} rows, the requests {rows}: expected as many",
            field="row_counts",
        )
    return answers.row_counts


def _tensors(
    tensors: Mapping[str, NDArray[Any]], fields: Sequence[Field], is_known: NDArray[np.bool_]
) -> dict[str, HistoryColumn]:
    declared = {field.name: field for field in fields}
    rows = int(is_known.sum())
    columns = {}
    for name, values in tensors.items():
        field = declared.get(name)
        if field is None or _KINDS[field.triton] != values.dtype.kind or values.shape != (rows, 1):
            expected = f"{field.triton} ({rows}, 1)" if field else "no such tensor"
            raise BadAnswers(
                f"tensor {name!r} is {values.dtype} {values.shape}, expected {expected}",
                field=name,
            )
        spread = np.full(len(is_known), "" if field.triton == "BYTES" else 0, dtype=values.dtype)
        spread[is_known] = values[:, 0]
        columns[history_column(name)] = HistoryColumn(field.datatype, spread, is_known)
    return columns


def _row_key(
    columns: Mapping[str, HistoryColumn], signature: Signature, rows: int
) -> HistoryColumn:
    for field in signature.inputs:
        key = columns.get(history_column(field.name))
        if field.role == "id" and key is not None:
            named = texts([str(value) for value in key.values.tolist()])
            return HistoryColumn("string", named.values, key.known)
    return HistoryColumn("string", texts([""] * rows).values, np.zeros(rows, dtype=bool))


_KINDS = {"FP32": "f", "INT64": "i", "BYTES": "O"}
