"""A small model in the stack's own Triton, and routes to it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from tests.support.stack import (  # noqa: F401 -- fixtures
    LocalStack,
    envoy_address,
    kafka_bootstrap,
    stack,
    triton_serving,
    triton_shadow,
)
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc

from ciclo_local import envoy
from ciclo_local.settings import Settings, replace

MODEL = "sums"
WIDTH = 16
INFRASTRUCTURE = ("kafka", "triton-serving", "triton-shadow", "envoy")

_CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: 0
input [{{name: "x" data_type: TYPE_FP32 dims: [-1, 16]}}]
output [{{name: "y" data_type: TYPE_FP32 dims: [-1, 1]}}]
instance_group [{{kind: KIND_CPU count: 1}}]
version_policy {{ specific {{ versions: {versions} }} }}
"""

_SCRIPT = '''\
"""Runs this version's model.onnx."""
from pathlib import Path

import onnxruntime as ort
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = ort.InferenceSession(str(path), options)

    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb.get_input_tensor_by_name(request, "x").as_numpy()
            y = self.session.run(["y"], {"x": x})[0]
            answers.append(pb.InferenceResponse([pb.Tensor("y", y)]))
        return answers
'''


def write_version(settings: Settings, number: int, name: str = MODEL) -> None:
    """Adds a version that answers the sum of a row plus its own number."""
    folder = settings.triton("serving") / "models" / name / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "ones"], ["sum"]),
            helper.make_node("Add", ["sum", "number"], ["y"]),
        ],
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
        [
            numpy_helper.from_array(np.ones((WIDTH, 1), np.float32), "ones"),
            numpy_helper.from_array(np.full(1, number, np.float32), "number"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), folder / "model.onnx")
    (folder / "model.py").write_text(_SCRIPT)


def load_versions(settings: Settings, versions: list[int], name: str = MODEL) -> None:
    """Has Triton serve exactly these versions."""
    folder = settings.triton("serving") / "models" / name
    replace(folder / "config.pbtxt", _CONFIG.format(name=name, versions=versions))
    with grpc.insecure_channel(f"127.0.0.1:{settings.ports.triton_serving}") as channel:
        stub = rpc.GRPCInferenceServiceStub(channel)
        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=name), timeout=60)


def publish(settings: Settings, generation: str, models: Any) -> None:
    """Fills the template as the gateway does; returns when Envoy routes by it."""
    document = yaml.safe_load((envoy.folder(settings) / envoy.TEMPLATE).read_text())
    document["version_info"] = generation
    envoy.filter_context(document).update(generation=generation, models=models)
    replace(envoy.routes(settings), json.dumps(document))
    deadline = time.monotonic() + 5
    while f'"{generation}"' not in admin(settings, "/stats?filter=rds.serve.version_text"):
        assert time.monotonic() < deadline, f"Envoy did not take routes {generation}"
        time.sleep(0.01)


def admin(settings: Settings, path: str) -> str:
    import httpx

    return httpx.get(f"http://127.0.0.1:{settings.ports.envoy_admin}{path}").text


def canary(weight: int = 20) -> Any:
    """Routes of `MODEL`: 1 is champion, 2 challenger."""
    champion = {"version": "1", "weight": 100 - weight, "variant": "champion"}
    challenger = {"version": "2", "weight": weight, "variant": "challenger"}
    return {MODEL: {"salt": "r1", "versions": [champion, challenger]}}


class Client:
    """What an application does: one call at a time through the one port."""

    def __init__(self, port: int) -> None:
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_reconnect_backoff_ms", 200),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
        ]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
        self._infer = rpc.GRPCInferenceServiceStub(self.channel).ModelInfer

    def request(self, rows: int = 1, name: str = MODEL, version: str = "") -> Any:
        message = pb.ModelInferRequest(model_name=name, model_version=version, id="mine")
        tensor = message.inputs.add(name="x", datatype="FP32")
        tensor.shape.extend([rows, WIDTH])
        message.raw_input_contents.append(np.ones((rows, WIDTH), np.float32).tobytes())
        return message

    def predict(
        self, request: Any | None = None, **metadata: str
    ) -> tuple[float, dict[str, str], Any]:
        """Returns the first answer, the response's metadata, and the whole response."""
        sent = [(f"x-ciclo-{name.replace('_', '-')}", value) for name, value in metadata.items()]
        response, call = self._infer.with_call(request or self.request(), metadata=sent, timeout=10)
        received = {pair.key: pair.value for pair in call.initial_metadata()}
        return float(np.frombuffer(response.raw_output_contents[0], "<f4")[0]), received, response


@contextmanager
def eventually_predicts(client: Client, within: float = 30.0) -> Iterator[None]:
    """After the block, waits until a call succeeds."""
    yield
    deadline = time.monotonic() + within
    while True:
        try:
            client.predict()
        except grpc.RpcError:
            assert time.monotonic() < deadline, "no call succeeded"
            time.sleep(0.05)
        else:
            return


def spool_files(settings: Settings) -> list[Path]:
    return sorted(settings.spool.iterdir())


def records(settings: Settings) -> dict[str, list[str]]:
    """Every whole line of the spool, by prediction id."""
    lines = [line for path in spool_files(settings) for line in path.read_text().splitlines()]
    split = [line.split(" ") for line in lines]
    return {columns[1]: columns for columns in split if len(columns) == 18 and columns[17] == "."}


@pytest.fixture(scope="session")
def running(stack: LocalStack) -> LocalStack:  # noqa: F811
    """The stack with Kafka, both Tritons and Envoy up, and versions 1 and 2 of `MODEL` served."""
    stack.start(*INFRASTRUCTURE)
    for number in (1, 2):
        write_version(stack.settings, number)
    load_versions(stack.settings, [1, 2])
    (stack.settings.triton("serving") / "models.list").write_text(f"{MODEL}\n")
    return stack


@pytest.fixture
def client(running: LocalStack) -> Iterator[Client]:
    """A client, with the champion at 80 and the challenger at 20 %."""
    publish(running.settings, "canary-20", canary(20))
    made = Client(running.settings.ports.envoy)
    yield made
    made.channel.close()
