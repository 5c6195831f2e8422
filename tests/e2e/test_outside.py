"""Programs that know nothing of Ciclo but its protocols: tritonclient, plain aiokafka.

Runs after the loop of `test_own_loop` closed: its model serves, its drift is on the topic.
"""

import asyncio
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from deltalake import DeltaTable
from tests.e2e.conftest import System
from tests.e2e.story import MODEL, START
from tests.support.eventually import eventually
from tritonclient.utils import InferenceServerException

from ciclo.features.v1 import feature_service_pb2 as features
from ciclo.features.v1.feature_service_pb2_grpc import FeatureServiceStub

PROGRAM = Path(__file__).parents[2] / "examples" / "outside" / "labels_and_drift.py"
DRIFTED_DAYS = 8
"""Played after the story; a day is closed when its labels could be known, a day later."""

TYPES = {"BYTES": np.object_, "FP32": np.float32, "INT64": np.int64}


@pytest.fixture
def client(system: System):
    return triton.InferenceServerClient(system.connection.addresses["envoy"])


def tensors(client, rows=2):
    """Rows that all are the same: no world is like that."""
    found = []
    for tensor in client.get_model_metadata(MODEL).inputs:
        values = np.full(
            (rows, 1), "x" if tensor.datatype == "BYTES" else 1, TYPES[tensor.datatype]
        )
        asked = triton.InferInput(tensor.name, list(values.shape), tensor.datatype)
        found.append(asked.set_data_from_numpy(values))
    return found


def test_tritonclient_unchanged_gets_live_ready_metadata_and_answers(client, told):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert {tensor.datatype for tensor in client.get_model_metadata(MODEL).inputs} <= set(TYPES)
    headers = {"x-ciclo-event-time": _now(told).isoformat().replace("+00:00", "Z")}
    answer = client.infer(MODEL, tensors(client), request_id="mine", headers=headers)
    assert answer.get_response().id == "mine"
    assert answer.as_numpy(answer.get_response().outputs[0].name).shape == (2, 1)


@pytest.mark.parametrize("model", ["nothing", ""])
def test_an_unknown_model_is_not_found(client, told, model):
    with pytest.raises(InferenceServerException, match=r"NOT_FOUND|INVALID_ARGUMENT"):
        client.infer(model, tensors(client))


def test_control_of_the_server_does_not_pass(client, told):
    with pytest.raises(InferenceServerException):
        client.unload_model(MODEL)
    assert client.is_model_ready(MODEL)


async def test_an_outside_program_reports_labels_and_hears_of_degradation(system: System, told):
    known = _now(told).isoformat()
    said = await outside(
        system, "--row-key", "nobody-1", "--label", "1", "--known", known, "--listen", "4"
    )
    assert "reported: churn nobody-1 = 1.0" in said
    degraded = told.named("PerformanceDegraded")[0]
    assert f"PerformanceDegraded in cycle {degraded.envelope.correlation_id}" in said

    def label_is_at_rest() -> None:
        assert "nobody-1" in _labelled(system)

    await eventually(label_is_at_rest, timedelta(seconds=20))


async def test_an_outside_program_hears_of_drift_in_what_callers_ask(client, system: System, told):
    assert "DriftDetected" not in await outside(system, "--listen", "4")
    for hour in range(24 * DRIFTED_DAYS):
        now = _now(told) + timedelta(hours=hour)
        headers = {"x-ciclo-event-time": now.isoformat()}
        await asyncio.to_thread(client.infer, MODEL, tensors(client, rows=20), headers=headers)
    end = (_now(told) + timedelta(days=DRIFTED_DAYS)).isoformat()
    await outside(system, "--row-key", "nobody-2", "--label", "1", "--known", end)

    async def is_heard() -> None:
        said = await outside(system, "--listen", "4")
        assert re.search(r"\S+Z DriftDetected in cycle [0-9a-f-]{36}", said), said

    await eventually(is_heard, timedelta(seconds=60))


async def outside(system: System, *arguments: str) -> str:
    """Runs the example's program to its end and returns what it printed."""
    connection = system.connection
    kafka = ("--bootstrap", connection.addresses["kafka"], "--env", connection.env)
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(PROGRAM), *kafka, "--model", MODEL, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return ended.stdout


def _now(told):
    """Returns the time that the model lives in."""
    return START + timedelta(days=told.days)


def _labelled(system: System) -> set[str]:
    """Returns the keys of all rows that have a label, as an outsider reads the table."""
    with system.channel("feature-store") as channel:
        request = features.GetHistoryStatusRequest(model=MODEL)
        url = FeatureServiceStub(channel).GetHistoryStatus(request).table_urls["labels"]
    return set(DeltaTable(url).to_pyarrow_table(columns=["row_key"])["row_key"].to_pylist())
