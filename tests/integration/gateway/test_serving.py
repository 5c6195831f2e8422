"""Predictions by entity, labels, and shadows: through Envoy, Triton and Kafka."""

import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from tests.integration.gateway import bundles
from tests.integration.gateway.world import (
    EVENT_TIME_US,
    FIRST_BIAS,
    SOON,
    Caller,
    World,
    first_model,
    rows,
)
from tests.support.eventually import eventually

from ciclo.common.v1.tensor_pb2 import Column
from ciclo.events.v1.labels_reported_pb2 import Label, LabelsReported
from ciclo.events.v1.predictions_served_pb2 import PURPOSE_SHADOW, PredictionsServed
from ciclo.events.v1.registry_state_pb2 import Rollout
from ciclo.events.v1.rollout_judged_pb2 import STAGE_SHADOW
from ciclo.features.v1.feature_service_pb2 import GetOnlineFeaturesResponse, ViewTimes
from ciclo.features.v1.feature_service_pb2_grpc import (
    FeatureServiceServicer,
    add_FeatureServiceServicer_to_server,
)
from ciclo.serving.v1.prediction_service_pb2 import PredictRequest, ReportLabelsRequest
from ciclo.serving.v1.prediction_service_pb2_grpc import PredictionServiceStub
from ciclo.tensors import pack_column, unpack_column, unpack_tensor
from ciclo_runtime.grpc_errors import from_rpc_error

LOOP = """
schema: ciclo.loop/v1
model: {model}
owner: tests
recipe: recipe.py:Tiny
features: tiny
knowledge_lag: 1h
input:
  id: flight
  entities: [origin]
  request: {{flight: string, distance: float32}}
  fallback: {{weather: {{older_than: 6h}}}}
output: {{name: late}}
label: {{name: late, expected_within: 12h, never_after: 3d}}
quality: {{correlated_within: 1d}}
monitor: {{false_alarms: {{per: 365d}}, degraded_if: {{log_loss: {{above_reference_by: 0.03}}}}}}
retrain: {{data: {{last: 90d, holdout: 10d}}}}
rollout:
  shadow: {{at_most: 35d}}
  canary: {{weights: [0.05], each: 5d, exposure_at_most: 1500}}
  bake: {{for: 7d}}
"""
HOUR_US = 3_600_000_000


class Features(FeatureServiceServicer):
    """Stands for the feature-store: a temperature for each origin, one of them too old."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def GetOnlineFeatures(self, request: Any, context: Any) -> GetOnlineFeaturesResponse:  # noqa: N802
        self.asked.append(request)
        origins = unpack_column(request.entities[0]).tolist()
        temps = {"EWR": 20.0, "JFK": 30.0}
        ages_us = {"EWR": 2 * HOUR_US, "JFK": 7 * HOUR_US}
        return GetOnlineFeaturesResponse(
            features=[pack_column("temp", np.array([temps.get(o, np.nan) for o in origins]))],
            view_times=[
                ViewTimes(
                    view="weather",
                    event_time_us=[EVENT_TIME_US - ages_us.get(o, EVENT_TIME_US) for o in origins],
                )
            ],
        )


@pytest_asyncio.fixture
async def features(world: World) -> AsyncIterator[Features]:
    found: Any = Features()  # type: ignore[abstract]
    server = grpc.aio.server()
    add_FeatureServiceServicer_to_server(found, server)
    server.add_insecure_port(world.stack.environment("gateway")["CICLO_FEATURE_STORE_ADDRESS"])
    await server.start()
    yield found
    await server.stop(0)


@pytest_asyncio.fixture
async def predictions(world: World) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(world.envoy) as channel:
        yield PredictionServiceStub(channel)


async def applied(world: World, model: str) -> None:
    """Brings a loop definition into force."""
    champion = await first_model(world, model)
    folder = world.folder / f"loop-{model}"
    folder.mkdir(exist_ok=True)
    (folder / "loop.yaml").write_text(LOOP.format(model=model))
    digest = world.store().put_folder(folder)
    await world.want(model, champion, {1: 1.0}, loop_digest=digest)


def question(**columns: Any) -> PredictRequest:
    given = {
        "flight": ["F1", "F2", "F3"],
        "origin": ["EWR", "JFK", "LGA"],
        "distance": [100.0, 200.0, 300.0],
        **columns,
    }
    request = PredictRequest(
        model="first",
        columns=[
            v if isinstance(v, Column) else pack_column(n, v)
            for n, v in given.items()
            if v is not None
        ],
        client_id="mine",
    )
    request.event_time.FromMicroseconds(EVENT_TIME_US)
    return request


async def answered(predictions: Any, request: PredictRequest) -> Any:
    """Asks until the loop is in force."""
    found: list[Any] = []

    async def assertion() -> None:
        try:
            found.append(await predictions.Predict(request, timeout=10))
        except grpc.aio.AioRpcError as error:
            raise AssertionError(error.details()) from error

    await eventually(assertion, SOON)
    return found[-1]


async def test_a_prediction_by_entity_is_looked_up_answered_and_captured(
    world: World, features: Features, predictions: Any
) -> None:
    await applied(world, "first")
    response = await answered(predictions, question())
    assert features.asked[-1].as_of_time.ToMicroseconds() == EVENT_TIME_US - HOUR_US
    late = unpack_column(response.outputs[0])
    temps = np.array([20.0, np.nan, np.nan])  # JFK's is too old, LGA's unknown
    wanted = bundles.expected(
        np.array([100.0, 200.0, 300.0]), temps, ["EWR", "JFK", "LGA"], FIRST_BIAS
    )
    np.testing.assert_allclose(late, wanted, rtol=1e-6)
    assert dict(response.fallback_rows) == {"temp": 2}
    assert (response.version, response.variant, response.client_id) == (1, "champion", "mine")
    again = await predictions.Predict(question(), timeout=10)
    assert again.feature_fingerprint == response.feature_fingerprint
    assert again.prediction_id != response.prediction_id

    async def captured() -> None:
        for _, batch in await world.heard(PredictionsServed, "first"):
            if response.prediction_id in batch.prediction_ids:
                at = list(batch.prediction_ids).index(response.prediction_id)
                assert batch.routing_keys[at] == "F1"
                assert batch.row_counts[at] == 3
                return
        raise AssertionError("not captured yet")

    await eventually(captured, SOON)


@pytest.mark.parametrize(
    ("columns", "field", "about"),
    [
        ({"origin": None}, "columns[origin]", "missing"),
        ({"distance": ["far"] * 3}, "columns[distance]", "expected numbers"),
        ({"distance": [1.0]}, "columns[distance]", "1 rows, others 3"),
        ({"color": ["red"] * 3}, "columns[color]", "not declared"),
        ({"distance": Column(name="distance")}, "columns[distance]", "no values"),
    ],
)
async def test_a_bad_question_by_entity_is_told_which_column(
    world: World,
    features: Features,
    predictions: Any,
    columns: dict[str, Any],
    field: str,
    about: str,
) -> None:
    await applied(world, "first")
    await answered(predictions, question())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await predictions.Predict(question(**columns), timeout=10)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    error = from_rpc_error(refused.value)
    assert error.field == field
    assert about in error.message


async def test_an_unknown_model_is_not_found(world: World, predictions: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await predictions.Predict(PredictRequest(model="nobody"), timeout=10)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert from_rpc_error(refused.value).reason == "UNKNOWN_MODEL"


async def test_without_the_feature_store_a_prediction_is_unavailable(
    world: World, predictions: Any
) -> None:
    await applied(world, "first")

    async def unavailable() -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await predictions.Predict(question(), timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE

    await eventually(unavailable, SOON)


async def test_labels_are_published_once_and_bad_ones_refused(
    world: World, predictions: Any
) -> None:
    await first_model(world)
    labels = [Label(row_key=f"F{n}", value=n % 2, event_time_us=1) for n in range(3)]
    report = ReportLabelsRequest(model="first", labels=labels, request_id="monday")
    for _ in range(2):
        assert (await predictions.ReportLabels(report, timeout=10)).accepted == 3
    report.request_id = "tuesday"
    report.labels[1].value = 0.5
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await predictions.ReportLabels(report, timeout=10)
    assert from_rpc_error(refused.value).field == "labels[1].value"
    report.labels[1].value = 1
    report.labels[2].event_time_us = time.time_ns()  # nanoseconds
    with pytest.raises(grpc.aio.AioRpcError, match="days ahead") as refused:
        await predictions.ReportLabels(report, timeout=10)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert from_rpc_error(refused.value).field == "labels[2].event_time_us"

    async def published() -> None:
        found = [m for _, m in await world.heard(LabelsReported, "first")]
        assert [list(m.labels) for m in found] == [labels]

    await eventually(published, SOON)


async def test_a_challenger_is_asked_what_callers_asked_before(
    world: World, caller: Caller
) -> None:
    champion = await first_model(world)
    early, _ = await caller.ask("first", rows(2), event_time_us=EVENT_TIME_US - 1)
    asked = [(await caller.ask("first", rows(2, first=n)))[0]["x-ciclo-id"] for n in range(20)]
    challenger = world.bundle("first", 2, 1.5)
    rollout = Rollout(rollout_id="shadows", challenger=challenger, stage=STAGE_SHADOW)
    rollout.shadow_since_time.FromMicroseconds(EVENT_TIME_US)
    await world.want("first", champion, {1: 1.0}, rollout=rollout)

    async def paired() -> None:
        batches = [m for _, m in await world.heard(PredictionsServed, "first")]
        shadows = [m for m in batches if m.purpose == PURPOSE_SHADOW]
        ids = [i for m in shadows for i in m.prediction_ids]
        assert set(asked) <= set(ids)
        assert len(set(ids)) == len(ids)
        assert early["x-ciclo-id"] not in ids

    await eventually(paired, SOON)
    for _, batch in await world.heard(PredictionsServed, "first"):
        if batch.purpose == PURPOSE_SHADOW:
            assert batch.version == challenger
            assert batch.batch_id.startswith("shadow:shadows:")
            values = {t.name: unpack_tensor(t).ravel() for t in (*batch.inputs, *batch.outputs)}
            wanted = bundles.expected(
                values["distance"], values["temp"], values["origin"].tolist(), 1.5
            )
            np.testing.assert_allclose(values["late"], wanted, rtol=1e-5)
