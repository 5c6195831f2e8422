"""Scores columns with a graph in ONNX Runtime: for parity, for judging a champion, for tests.

Serving does the same inside Triton (`ciclo_bundle.triton`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnxruntime

from ciclo_bundle.bundle import read_bundle
from ciclo_bundle.errors import BundleCorrupt, InputsUnfit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from ciclo_bundle.signature import Field, Signature

ONNX_TYPES: Final = {"BYTES": "tensor(string)", "FP32": "tensor(float)", "INT64": "tensor(int64)"}
"""What ONNX Runtime calls the datatypes of the Open Inference Protocol."""


class GraphScorer:
    """A graph, ready to be asked. One thread; not for concurrent use.

    Args:
        model: The ONNX file.
        signature: What it takes and gives.

    Raises:
        BundleCorrupt: The graph does not take or give what the signature says.
    """

    def __init__(self, model: Path, signature: Signature) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.signature = signature
        self._session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        graph = (self._session.get_inputs(), self._session.get_outputs())
        for side, fields in zip(graph, (signature.inputs, signature.outputs), strict=True):
            found = {node.name: node.type for node in side}
            expected = {field.name: ONNX_TYPES[field.triton] for field in fields}
            if found != expected:
                raise BundleCorrupt("model.onnx", f"has {found}, the signature says {expected}")

    def score(
        self, columns: Mapping[str, NDArray[Any]], batch: int = 4096
    ) -> dict[str, NDArray[np.float32]]:
        """Return the outputs for some rows.

        Args:
            columns: Inputs by name, each [n] or [n, 1]; others are not looked at. Strings as `str`
                or UTF-8 `bytes`, None as missing. An input of role `id` may be left out.
            batch: Rows asked at once, > 0. Bounds memory; no answer depends on it.

        Returns:
            Outputs by name, each [n].

        Raises:
            InputsUnfit: A column is missing, of another length, or of another datatype.
        """
        feeds = self._feeds(columns)
        rows = len(next(iter(feeds.values())))
        names = [field.name for field in self.signature.outputs]
        parts: list[list[NDArray[np.float32]]] = [
            self._session.run(names, {k: v[start : start + batch] for k, v in feeds.items()})
            for start in range(0, rows, batch)
        ]
        if not parts:
            return {name: np.empty(0, np.float32) for name in names}
        return {
            name: np.concatenate([part[i][:, 0] for part in parts]) for i, name in enumerate(names)
        }

    def _feeds(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        known = [field for field in self.signature.inputs if field.name in columns]
        if not known:
            raise InputsUnfit(self.signature.inputs[0].name, "is missing, as are all others")
        rows = len(columns[known[0].name])
        feeds = {}
        for field in self.signature.inputs:
            if field.name in columns:
                column = as_tensor(field, columns[field.name])
            elif field.role == "id" and field.triton == "BYTES":
                column = np.full((rows, 1), "", dtype=object)
            else:
                raise InputsUnfit(field.name, f"is missing; got {sorted(columns)}")
            if len(column) != rows:
                raise InputsUnfit(field.name, f"has {len(column)} rows, others {rows}")
            feeds[field.name] = column
        return feeds


class Scorer(GraphScorer):
    """A bundle's model, ready to be asked.

    Args:
        path: Folder of the bundle. Only `signature.json` and the manifest are checked; call
            `verify_bundle` first on a bundle that was not made here.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path / "model.onnx", read_bundle(path).signature)


def as_tensor(field: Field, column: NDArray[Any]) -> NDArray[Any]:
    """Return a column as the tensor [n, 1] that ONNX Runtime takes for this field.

    Strings become `str` objects: ONNX Runtime takes `bytes` too, and silently reads every one of
    them as an unknown category.

    Raises:
        InputsUnfit: Not a column, or of values that the datatype cannot hold.
    """
    array = np.asarray(column)
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] != 1):
        raise InputsUnfit(field.name, f"has shape {array.shape}, expected [n] or [n, 1]")
    array = array.reshape(-1, 1)
    if field.triton == "BYTES":
        if array.dtype.kind not in "OUS":
            raise InputsUnfit(field.name, f"is {array.dtype}, expected strings")
        texts = [_text(value) for value in array[:, 0]]
        return np.array(texts, dtype=object).reshape(-1, 1)
    if field.triton == "INT64":
        if array.dtype.kind not in "iu":
            raise InputsUnfit(field.name, f"is {array.dtype}, expected int64")
        return array.astype(np.int64)
    if array.dtype.kind not in "fiub":
        raise InputsUnfit(field.name, f"is {array.dtype}, expected float32")
    return array.astype(np.float32)


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
