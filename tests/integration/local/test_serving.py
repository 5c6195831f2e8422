"""Envoy and Triton together: what passes, what it is told, what is captured."""

import base64
import time
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tests.integration.local.conftest import (
    MODEL,
    WIDTH,
    Client,
    publish,
    records,
)
from tests.support.stack import LocalStack
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc


def test_a_call_is_answered_by_the_version_that_its_metadata_names(client: Client) -> None:
    seen: Counter[str] = Counter()
    for _ in range(200):
        answer, told, response = client.predict()
        assert told["x-ciclo-model"] == MODEL
        assert answer == WIDTH + int(told["x-ciclo-version"])
        assert response.model_version == told["x-ciclo-version"]
        assert response.id == "mine"
        seen[told["x-ciclo-variant"]] += 1

    assert set(seen) == {"champion", "challenger"}
    assert 15 <= seen["challenger"] <= 75  # 40 expected; five deviations either way


def test_a_key_sticks_to_its_variant(client: Client) -> None:
    variants = {
        key: {client.predict(key=key)[1]["x-ciclo-variant"] for _ in range(5)}
        for key in ("a", "b", "c", "d", "e")
    }

    assert all(len(found) == 1 for found in variants.values())


def test_an_unmodified_triton_client_works(running: LocalStack, client: Client) -> None:
    import numpy as np
    import tritonclient.grpc as triton

    plain = triton.InferenceServerClient(f"127.0.0.1:{running.settings.ports.envoy}")
    tensor = triton.InferInput("x", [3, WIDTH], "FP32")
    tensor.set_data_from_numpy(np.ones((3, WIDTH), np.float32))
    answer = plain.infer(MODEL, [tensor], model_version="2")

    assert answer.as_numpy("y").ravel().tolist() == [WIDTH + 2] * 3
    assert plain.is_server_ready()
    assert plain.is_model_ready(MODEL, "1")
    assert plain.get_model_metadata(MODEL).versions == ["1", "2"]


def test_every_call_is_captured_with_what_was_asked_and_answered(
    running: LocalStack, client: Client
) -> None:
    request = client.request(rows=2)
    before_us = time.time_ns() // 1000
    _, told, response = client.predict(
        request, key="user 1", event_time="2013-06-01T10:00:00.5+02:00"
    )

    record = record_of(running, told["x-ciclo-id"])
    assert abs(int(record[2]) - before_us) < 10_000_000
    assert 0 < int(record[3]) < 10_000_000
    assert record[4:8] == ["200", "0", "-", "1"]
    assert record[8:11] == [MODEL, told["x-ciclo-version"], told["x-ciclo-variant"]]
    assert record[11:13] == ["user%201", "1370073600500000"]
    assert base64.b64decode(record[15])[5:] == request.SerializeToString()
    assert pb.ModelInferResponse.FromString(base64.b64decode(record[16])[5:]) == response


def record_of(running: LocalStack, prediction_id: str) -> list[str]:
    deadline = time.monotonic() + 5
    while True:
        found = records(running.settings)
        if prediction_id in found:
            return found[prediction_id]
        assert time.monotonic() < deadline, f"no record of {prediction_id}"
        time.sleep(0.02)


def test_a_callers_own_request_id_is_not_taken_for_the_predictions(client: Client) -> None:
    infer = rpc.GRPCInferenceServiceStub(client.channel).ModelInfer
    _, call = infer.with_call(client.request(), metadata=[("x-request-id", "forged")], timeout=10)

    told = {pair.key: pair.value for pair in call.initial_metadata()}
    assert "forged" not in told["x-ciclo-id"]


def test_a_payload_over_the_limit_is_captured_by_its_size(
    running: LocalStack, client: Client
) -> None:
    request = client.request(rows=8000)  # 512,000 bytes in, 32,000 out
    _, told, _ = client.predict(request)

    record = record_of(running, told["x-ciclo-id"])
    assert record[15] == f"size:{request.ByteSize() + 5}"
    assert len(base64.b64decode(record[16])) > 32000


REFUSALS: dict[str, tuple[dict[str, Any], dict[str, str], grpc.StatusCode, str]] = {
    "unknown model": ({"name": "none"}, {}, grpc.StatusCode.NOT_FOUND, "no route for model none"),
    "unknown version": ({"version": "9"}, {}, grpc.StatusCode.NOT_FOUND, "version 9 of model"),
    "no model": ({"name": ""}, {}, grpc.StatusCode.INVALID_ARGUMENT, "model_name is missing"),
    "bad time": ({}, {"event_time": "now"}, grpc.StatusCode.INVALID_ARGUMENT, "RFC 3339"),
    "long key": ({}, {"key": "k" * 257}, grpc.StatusCode.INVALID_ARGUMENT, "256 bytes"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refused_call_says_why_and_is_recorded(
    case: str, running: LocalStack, client: Client
) -> None:
    shape, metadata, code, words = REFUSALS[case]
    known = set(records(running.settings))

    with pytest.raises(grpc.RpcError) as caught:
        client.predict(client.request(**shape), **metadata)

    assert caught.value.code() is code
    assert words in str(caught.value.details())
    time.sleep(0.1)
    [fresh] = [r for id_, r in records(running.settings).items() if id_ not in known]
    assert fresh[5] == str(code.value[0])
    assert fresh[7:13] == ["0", "-", "-", "-", "-", "-"]


def test_a_compressed_call_is_unimplemented(client: Client) -> None:
    infer = rpc.GRPCInferenceServiceStub(client.channel).ModelInfer

    with pytest.raises(grpc.RpcError) as caught:
        infer(client.request(rows=100), timeout=10, compression=grpc.Compression.Gzip)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_call_over_16_mebibytes_is_resource_exhausted(client: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.predict(client.request(rows=300_000))

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_table_that_the_script_cannot_read_refuses_calls_and_lets_none_through(
    running: LocalStack, client: Client
) -> None:
    publish(running.settings, "broken", {MODEL: 3})

    with pytest.raises(grpc.RpcError) as caught:
        client.predict(client.request(version="1"))

    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "gateway error"


BLOCKED = [
    method.name
    for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    if method.name.startswith(("Repository", "SystemShared", "CudaShared", "Trace", "Log"))
    or method.name in ("ModelStatistics", "ModelStreamInfer")
]


@pytest.mark.parametrize("name", [*BLOCKED, "NoSuchMethod"])
def test_what_is_not_inference_health_or_metadata_never_passes(name: str, client: Client) -> None:
    call: Any = client.channel.unary_unary(f"/inference.GRPCInferenceService/{name}")

    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=5)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@contextmanager
def gateway(port: int) -> Iterator[None]:
    """A servicer where the gateway's would be."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    echo: Any = grpc.unary_unary_rpc_method_handler(lambda request, _: b"echo " + request)
    name = "ciclo.serving.v1.PredictionService"
    server.add_registered_method_handlers(name, {"Predict": echo})
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, {"Predict": echo})])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    yield
    server.stop(0).wait()


def test_predictions_by_entity_and_health_reach_the_gateway(
    running: LocalStack, client: Client
) -> None:
    predict: Any = client.channel.unary_unary("/ciclo.serving.v1.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as caught:
        predict(b"x", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    with gateway(running.settings.ports.gateway):
        stub: Any = health_pb2_grpc.HealthStub(client.channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=5, wait_for_ready=True)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert predict(b"x", timeout=5) == b"echo x"


def test_a_call_to_a_dead_triton_is_tried_twice_and_recorded(
    running: LocalStack, client: Client
) -> None:
    running.stop("triton-serving")
    known = set(records(running.settings))

    with pytest.raises(grpc.RpcError) as caught:
        client.predict()

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    time.sleep(0.1)
    [fresh] = [r for id_, r in records(running.settings).items() if id_ not in known]
    assert (fresh[5], fresh[7], fresh[8]) == ("14", "2", MODEL)
    running.start("triton-serving")
    assert client.predict()[0] > WIDTH
