"""Triton gets a readable configuration, whole versions, and code that answers as the scorer."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from ciclo_bundle import Bundle, SignatureMismatch, UnsafePath, write_bundle
from ciclo_bundle.runtime import Scorer
from ciclo_bundle.triton import Batching, config_text, model_text, prune_model, write_model

from .conftest import SIGNATURE, fill_draft, manifest_of


def parsed(folder: Path) -> model_config_pb2.ModelConfig:
    text = (folder / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_the_configuration_says_what_the_signature_says(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models", "flight-delay", {3: bundle.path, 1: bundle.path})

    config = parsed(folder)

    assert (config.name, config.backend, config.max_batch_size) == ("flight-delay", "python", 1024)
    assert list(config.version_policy.specific.versions) == [1, 3]
    assert {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in config.input} == {
        "flight": (model_config_pb2.TYPE_STRING, [1]),
        "origin": (model_config_pb2.TYPE_STRING, [1]),
        "temp": (model_config_pb2.TYPE_FP32, [1]),
        "departure": (model_config_pb2.TYPE_INT64, [1]),
    }
    assert [tensor.name for tensor in config.output] == ["late"]


def test_batching_reaches_the_configuration() -> None:
    text = config_text("m", SIGNATURE, [1], Batching(max_rows=8, max_delay_us=9, instances=2))

    config = text_format.Parse(text, model_config_pb2.ModelConfig())

    assert config.max_batch_size == 8
    assert config.dynamic_batching.max_queue_delay_microseconds == 9
    assert config.instance_group[0].count == 2


def test_a_version_that_is_no_longer_named_stays_until_it_is_pruned(
    bundle: Bundle, tmp_path: Path
) -> None:
    folder = write_model(tmp_path, "m", {1: bundle.path, 2: bundle.path})

    write_model(tmp_path, "m", {2: bundle.path})
    assert list(parsed(folder).version_policy.specific.versions) == [2]
    assert (folder / "1" / "model.onnx").is_file()

    prune_model(folder, keep=[2])
    assert sorted(path.name for path in folder.iterdir()) == ["2", "config.pbtxt"]


def test_versions_of_another_signature_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    other = replace(SIGNATURE, inputs=SIGNATURE.inputs[1:])
    fill_draft(tmp_path / "draft2", other)
    second = write_bundle(tmp_path / "draft2", tmp_path / "second", manifest_of(other))

    with pytest.raises(SignatureMismatch):
        write_model(tmp_path / "models", "m", {1: bundle.path, 2: second.path})

    assert not (tmp_path / "models").exists()


def test_names_and_numbers_that_triton_would_misread_are_refused(
    bundle: Bundle, tmp_path: Path
) -> None:
    for name in ("../m", 'm"', ""):
        with pytest.raises(UnsafePath):
            write_model(tmp_path, name, {1: bundle.path})
    for versions in ({}, {0: bundle.path}):
        with pytest.raises(ValueError, match="at least one"):
            write_model(tmp_path, "m", versions)


class Tensor:
    """Stands for Triton's tensor."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> np.ndarray:
        return self.array


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch, bundle: Bundle, tmp_path: Path) -> SimpleNamespace:
    """model.py as Triton's Python backend runs it, on a stand-in for what that brings."""
    brought = ModuleType("triton_python_backend_utils")
    brought.Tensor = Tensor
    brought.TritonError = lambda message: message
    brought.InferenceResponse = lambda outputs=(), error=None: SimpleNamespace(
        outputs={tensor.name: tensor.array for tensor in outputs}, error=error
    )
    brought.get_input_tensor_by_name = lambda request, name: request.get(name)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", brought)
    folder = write_model(tmp_path / "models", "m", {1: bundle.path})
    names: dict[str, object] = {"__name__": "model"}
    exec(compile((folder / "1" / "model.py").read_text(), "model.py", "exec"), names)
    model = names["TritonPythonModel"]()
    model.initialize({"model_repository": str(folder), "model_version": "1"})
    return model


def as_request(columns: dict[str, np.ndarray], rows: slice) -> dict[str, Tensor]:
    """Columns as Triton hands them over: [rows, 1], strings as bytes."""
    tensors = {}
    for name, column in columns.items():
        part = column[rows].reshape(-1, 1)
        if part.dtype == object:
            part = np.array([[v.encode()] for v in part[:, 0]], dtype=object).reshape(-1, 1)
        tensors[name] = Tensor(name, part)
    return tensors


def test_requests_that_share_a_run_get_each_its_own_answers(
    backend: SimpleNamespace, bundle: Bundle, columns: dict
) -> None:
    requests = [as_request(columns, rows) for rows in (slice(0, 1), slice(1, 4))]

    responses = backend.execute(requests)

    expected = Scorer(bundle.path).score(columns)["late"]
    assert [r.error for r in responses] == [None, None]
    assert [r.outputs["late"].shape for r in responses] == [(1, 1), (3, 1)]
    joined = np.concatenate([r.outputs["late"][:, 0] for r in responses])
    assert joined.tolist() == expected.tolist() == [0.25, 0.75, 0.5, 0.5]


def test_a_run_that_fails_answers_every_request_with_the_reason(
    backend: SimpleNamespace, columns: dict
) -> None:
    broken = as_request(columns, slice(0, 2))
    del broken["temp"]

    responses = backend.execute([broken, as_request(columns, slice(2, 4))])

    assert len(responses) == 2
    assert all("refused" in response.error for response in responses)


def test_the_code_needs_nothing_of_ciclo() -> None:
    assert "ciclo_" not in model_text()
