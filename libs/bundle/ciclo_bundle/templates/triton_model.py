"""Runs this version's model.onnx in ONNX Runtime, one batch for all requests that Triton gives.

Lies beside model.onnx and signature.json in a version's folder; Triton's Python backend calls it.
Needs numpy and onnxruntime in that environment, nothing of Ciclo.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as backend  # type: ignore[import-not-found]

DTYPES = {"FP32": np.float32, "INT64": np.int64}


class TritonPythonModel:
    """What Triton's Python backend looks for, by this name."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph; called once when the version is loaded."""
        folder = Path(args["model_repository"]) / args["model_version"]
        signature = json.loads((folder / "signature.json").read_text(encoding="utf-8"))
        self.inputs = signature["inputs"]
        self.outputs = [tensor["name"] for tensor in signature["outputs"]]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer all requests with one run of the graph, or all of them with its error."""
        try:
            feeds, ends = self.feeds(requests)
            answers = self.session.run(self.outputs, feeds)
        except Exception as cause:  # noqa: BLE001 - the caller gets it: one that is raised here kills the batch unread
            error = backend.TritonError(f"the graph refused this batch: {cause}")
            return [backend.InferenceResponse(error=error) for _ in requests]
        parts = [np.split(answer, ends) for answer in answers]
        return [
            backend.InferenceResponse(
                [backend.Tensor(name, part[i]) for name, part in zip(self.outputs, parts)]  # noqa: B905
            )
            for i in range(len(requests))
        ]

    def feeds(self, requests: list[Any]) -> tuple[dict[str, Any], Any]:
        """Return the concatenated inputs [rows, 1] and where each request but the last ends."""
        feeds = {}
        lengths = []
        for tensor in self.inputs:
            arrays = [
                backend.get_input_tensor_by_name(request, tensor["name"]).as_numpy()
                for request in requests
            ]
            lengths = [len(array) for array in arrays]
            column = np.concatenate(arrays)
            feeds[tensor["name"]] = (
                decode(column)
                if tensor["datatype"] == "BYTES"
                else column.astype(DTYPES[tensor["datatype"]])
            )
        return feeds, np.cumsum(lengths)[:-1]


def decode(column: Any) -> Any:
    """Return texts: ONNX Runtime would take bytes, and read each as an unknown category."""
    texts = np.empty(column.shape, dtype=object)
    texts[:, 0] = [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        for value in column[:, 0]
    ]
    return texts
