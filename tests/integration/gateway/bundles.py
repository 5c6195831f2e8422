"""Tiny bundles for the gateway's tests: four inputs, which each version answers in its own way.

late = sigmoid(distance / 1000 + temp / 100 + weight of the origin + bias); a missing temp is 50.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ciclo_bundle import Field, Manifest, Signature, write_bundle
from ciclo_bundle.bundle import REQUIRED
from ciclo_bundle.signature import encode_signature

SIGNATURE = Signature(
    inputs=(
        Field("flight", "string", "id"),
        Field("origin", "string", "entity"),
        Field("distance", "float32", "request"),
        Field("temp", "float32", "feature", view="weather"),
    ),
    outputs=(Field("late", "float32", "output"),),
)

ORIGINS = {"EWR": 0.5, "JFK": -0.5}


def expected(
    distance: NDArray[Any], temp: NDArray[Any], origin: list[str], bias: float
) -> NDArray[np.float64]:
    known = np.array([ORIGINS.get(name, 0.0) for name in origin])
    logit = distance / 1000 + np.where(np.isnan(temp), 50.0, temp) / 100 + known + bias
    return np.asarray(1 / (1 + np.exp(-logit)))


def write(folder: Path, bias: float, *, parity_shift: float = 0.0) -> Path:
    """Writes a bundle and returns its folder."""
    draft = folder / f"draft-{bias}-{parity_shift}"
    for name in ("evidence", "reference"):
        (draft / name).mkdir(parents=True)
    onnx.save(_graph(bias), str(draft / "model.onnx"))

    (draft / "signature.json").write_bytes(encode_signature(SIGNATURE))
    for name in REQUIRED:
        if not (draft / name).exists():
            (draft / name).write_text("{}")
    origin = ["EWR", "JFK", "", "XXX"]
    distance = np.array([100.0, 2000.0, 0.0, -5.0], np.float32)
    temp = np.array([10.0, np.nan, 80.0, 33.3], np.float32)
    answers = expected(distance, temp, origin, bias).astype(np.float32) + np.float32(parity_shift)
    arrays: dict[str, Any] = {
        "in.flight": np.array(["a", "b", "c", "d"]),
        "in.origin": np.array(origin),
        "in.distance": distance,
        "in.temp": temp,
        "out.late": answers,
    }
    np.savez(draft / "evidence" / "parity.npz", **arrays)
    manifest = Manifest("any", 0, 0, 0, "sha256:" + "0" * 64, SIGNATURE.digest)
    return write_bundle(draft, folder / f"bundle-{bias}-{parity_shift}", manifest).path


def _graph(bias: float) -> onnx.ModelProto:
    def column(name: str, kind: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, ["rows", 1])

    def constant(name: str, value: float) -> onnx.TensorProto:
        return helper.make_tensor(name, TensorProto.FLOAT, [1], [value])

    nodes = [
        helper.make_node("IsNaN", ["temp"], ["is_missing"]),
        helper.make_node("Where", ["is_missing", "median", "temp"], ["known_temp"]),
        helper.make_node("Mul", ["known_temp", "percent"], ["warmth"]),
        helper.make_node("Mul", ["distance", "permille"], ["way"]),
        helper.make_node(
            "LabelEncoder",
            ["origin"],
            ["place"],
            domain="ai.onnx.ml",
            keys_strings=list(ORIGINS),
            values_floats=list(ORIGINS.values()),
            default_float=0.0,
        ),
        helper.make_node("Add", ["warmth", "way"], ["first"]),
        helper.make_node("Add", ["first", "place"], ["second"]),
        helper.make_node("Add", ["second", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["late"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            column("flight", TensorProto.STRING),
            column("origin", TensorProto.STRING),
            column("distance", TensorProto.FLOAT),
            column("temp", TensorProto.FLOAT),
        ],
        [column("late", TensorProto.FLOAT)],
        [
            constant("median", 50.0),
            constant("percent", 0.01),
            constant("permille", 0.001),
            constant("bias", bias),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)
