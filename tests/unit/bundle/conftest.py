"""A tiny bundle, made without torch: late is 0.25 for JFK, 0.75 for EWR, 0.5 for the unknown."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ciclo_bundle import Bundle, Field, Manifest, Signature, write_bundle
from ciclo_bundle.signature import encode_signature

SIGNATURE = Signature(
    (
        Field("flight", "string", "id", "carrier and number"),
        Field("origin", "string", "entity"),
        Field("temp", "float32", "feature", "°C", "weather", "sha256:1"),
        Field("departure", "timestamp", "request"),
    ),
    (Field("late", "float32", "output"),),
)


def tiny_graph() -> bytes:
    kinds = {"flight": "STRING", "origin": "STRING", "temp": "FLOAT", "departure": "INT64"}
    inputs = [
        helper.make_tensor_value_info(name, getattr(TensorProto, kind), ["rows", 1])
        for name, kind in kinds.items()
    ]
    late = helper.make_tensor_value_info("late", TensorProto.FLOAT, ["rows", 1])
    encode = helper.make_node(
        "LabelEncoder",
        ["origin"],
        ["base"],
        domain="ai.onnx.ml",
        keys_strings=["JFK", "EWR"],
        values_floats=[0.25, 0.75],
        default_float=0.5,
    )
    same = helper.make_node("Identity", ["base"], ["late"])
    graph = helper.make_graph([encode, same], "tiny", inputs, [late])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def fill_draft(draft: Path, signature: Signature = SIGNATURE) -> None:
    for folder in ("evidence", "reference"):
        (draft / folder).mkdir(parents=True)
    (draft / "model.onnx").write_bytes(tiny_graph())
    (draft / "signature.json").write_bytes(encode_signature(signature))
    (draft / "weights.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    for name in (
        "calibration.json",
        "evidence/metrics.json",
        "reference/blocks.json",
        "reference/streams.bin",
    ):
        (draft / name).write_text("{}")
    np.savez(draft / "evidence" / "parity.npz", **{"out.late": np.array([0.25], np.float32)})


def manifest_of(signature: Signature = SIGNATURE) -> Manifest:
    return Manifest("flight-delay", 7, 20, 10, "sha256:d", signature.digest)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    fill_draft(tmp_path / "draft")
    return write_bundle(tmp_path / "draft", tmp_path / "bundle", manifest_of())


@pytest.fixture
def columns() -> dict[str, np.ndarray]:
    return {
        "flight": np.array(["UA1", "UA2", "UA3", "UA4"], dtype=object),
        "origin": np.array(["JFK", "EWR", "", "Zürich"], dtype=object),
        "temp": np.array([1.0, np.nan, 3.0, 4.0]),
        "departure": np.array([0, 1, 2, 3]),
    }
