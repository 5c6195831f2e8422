"""The whole service on a real Kafka: kills cost no row, cuts hold what the topics held."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from tests.integration.feature_store.conftest import Blobs, FeatureStore, Publisher
from tests.support.eventually import eventually
from tests.unit.feature_store.examples import (
    HOUR_US,
    MODEL,
    START_US,
    feature_rows_event,
    labels_event,
    predictions_event,
)

from ciclo.errors import Reject
from ciclo.events.v1.feature_rows_observed_pb2 import FeatureRowsObserved
from ciclo.events.v1.predictions_served_pb2 import PredictionsServed
from ciclo.features.v1 import feature_service_pb2 as rpc
from ciclo.tensors import pack_column, unpack_column
from ciclo_bundle.digest import file_digest
from ciclo_bundle.store import BlobStore
from ciclo_feature_store import wire
from ciclo_feature_store.adapters.blobs import Signatures
from ciclo_feature_store.crash import FeatureStoreCrash

NAN = float("nan")


def weather(hour: int) -> FeatureRowsObserved:
    time_us = START_US + hour * HOUR_US
    humid = [hour + 0.1, NAN]
    return feature_rows_event(
        "weather", [time_us] * 2, {"origin": ["EWR", "JFK"]}, {"humid": humid}, time_us
    )


def answered(flight: str, hour: int, bundle_digest: str, **features: object) -> PredictionsServed:
    time_us = START_US + hour * HOUR_US
    values = {"flight": flight, "origin": "EWR", "carrier": "UA", "distance": 1.5}
    values |= {"departure": time_us, "humid": NAN, "sky": "", "delay_1h": NAN, "delay_3h": NAN}
    return predictions_event(
        [f"id-{flight}"],
        [1],
        [time_us],
        {name: [value] for name, value in (values | features).items()},
        [0.5],
        bundle_digest=bundle_digest,
        batch_id=f"batch-{flight}",
    )


def online_request(as_of_us: int | None, origins: list[str]) -> rpc.GetOnlineFeaturesRequest:
    return rpc.GetOnlineFeaturesRequest(
        feature_service="flight_delay",
        entities=[
            pack_column("origin", np.array(origins, dtype=object)),
            pack_column("carrier", np.array(["UA"] * len(origins), dtype=object)),
        ],
        as_of_time=None if as_of_us is None else wire.timestamp(as_of_us),
    )


async def watermark_us(stub: Any) -> int | None:
    answer = await stub.GetWatermarks(rpc.GetWatermarksRequest(feature_service="flight_delay"))
    return wire.optional_us(answer.watermarks[0], "watermark_time")


async def test_kills_while_rows_arrive_lose_none_and_double_none(
    feature_store: FeatureStore, stub: Any, publisher: Publisher
) -> None:
    feature_store.know_definitions()
    await feature_store.start()
    await publisher.apply_loop()
    sent = 300
    publishing = asyncio.ensure_future(publish_flights(publisher, 0, sent))
    await eventually(lambda: is_at_least(stub, START_US + 50 * HOUR_US))
    feature_store.kill()
    assert not publishing.done()
    await feature_store.start()
    await publishing
    newest_us = START_US + (sent - 1) * HOUR_US
    await eventually(lambda: is_known(stub, newest_us))
    assert feature_store.stop() == 0
    expected = [f"id-{flight}" for flight in range(sent)]
    assert sorted(stored(feature_store, "predictions", "prediction_id")) == sorted(expected)
    keys = stored(feature_store, "labels", "row_key")
    assert sorted(keys) == sorted(str(flight) for flight in range(sent))
    view = DeltaTable(str(feature_store.home / "delta" / "features" / "weather"))
    offsets: list[Any] = view.to_pyarrow_dataset().to_table()["_offset"].to_pylist()
    assert sorted(offsets) == sorted([*range(sent)] * 2)


async def publish_flights(publisher: Publisher, first: int, end: int) -> None:
    for flight in range(first, end):
        await publisher.publish(weather(flight), "weather")
        bundle = publisher.blobs.bundle_digest
        await publisher.publish(answered(str(flight), flight, bundle))
        await publisher.publish(labels_event((str(flight), 1.0, START_US)))


async def is_at_least(stub: Any, time_us: int) -> None:
    try:
        assert (await watermark_us(stub) or 0) >= time_us
    except grpc.aio.AioRpcError as error:
        raise AssertionError(error.details()) from error


async def is_known(stub: Any, newest_us: int) -> None:
    try:
        assert await watermark_us(stub) == newest_us
    except grpc.aio.AioRpcError as error:
        raise AssertionError(error.details()) from error


def stored(feature_store: FeatureStore, table: str, column: str) -> list[Any]:
    folder = feature_store.home / "delta" / table / MODEL
    return DeltaTable(str(folder)).to_pyarrow_dataset().to_table()[column].to_pylist()


async def test_kills_around_commits_leave_each_row_once(
    feature_store: FeatureStore, publisher: Publisher
) -> None:
    for life, moment in enumerate(FeatureStoreCrash):
        await feature_store.start(CICLO_CRASH_AT=moment.value)
        await publish_flights(publisher, life * 5, life * 5 + 5)
        await asyncio.to_thread(feature_store.process.wait, 20)
    await feature_store.start()
    assert feature_store.stop() == 0
    count = 5 * len(FeatureStoreCrash)
    assert sorted(stored(feature_store, "predictions", "prediction_id")) == sorted(
        f"id-{flight}" for flight in range(count)
    )
    view = DeltaTable(str(feature_store.home / "delta" / "features" / "weather"))
    assert view.to_pyarrow_dataset().count_rows() == 2 * count


async def test_from_loop_to_dataset(
    feature_store: FeatureStore, stub: Any, publisher: Publisher
) -> None:
    await feature_store.start(CICLO_OFFLINE_AT_START="true")
    await asks_before_a_loop_are_not_found(stub)
    await publisher.apply_loop()
    for hour in range(6):
        await publisher.publish(weather(hour), "weather")
    newest_us = START_US + 5 * HOUR_US
    await eventually(lambda: is_known(stub, newest_us), within=timedelta(seconds=60))
    await online_reads_are_as_of_a_time(stub)
    await observations_are_stored_once(stub)
    bundle = feature_store.blobs.bundle_digest
    await publisher.publish(answered("f4", 4, bundle, humid=3.1))
    await publisher.publish(answered("f5", 5, bundle, humid=9.9))
    await publisher.publish(answered("f6", 5, "sha256:" + "0" * 64))
    await publisher.publish(labels_event(("f4", 1.0, START_US + 5 * HOUR_US)))
    cut = rpc.CreateSnapshotRequest(model=MODEL, as_of_time=wire.timestamp(newest_us))
    first, second = await stub.CreateSnapshot(cut), await stub.CreateSnapshot(cut)
    assert first.dataset_digest == second.dataset_digest
    assert (first.rows, first.unlabelled_rows) == (2, 2)
    assert wire.time_us(first.newest_event_time) == START_US + 4 * HOUR_US
    folder = BlobStore(feature_store.blobs.url).fetch(
        first.dataset_digest, feature_store.state / "fetched"
    )
    rows = pq.read_table(folder / "rows.parquet").to_pylist()
    assert [(row["flight"], row["label"], row["_source"]) for row in rows] == [
        ("o0", 0.0, "observed"),
        ("f4", 1.0, "served"),
    ]
    assert rows[1]["humid"] == np.float32(3.1)
    audit = await stub.AuditSkew(rpc.AuditSkewRequest(model=MODEL))
    assert (audit.rows_audited, dict(audit.different_by_feature)) == (2, {"humid": 1})
    status = await stub.GetHistoryStatus(rpc.GetHistoryStatusRequest(model=MODEL))
    assert dict(status.rows) == {"predictions": 2, "labels": 1, "observations": 2}
    assert status.next_offsets[f"{feature_store.env}.ciclo.predictions.v1"] == 3
    assert DeltaTable(status.table_urls["labels"]).to_pyarrow_dataset().count_rows() == 1
    behind = rpc.CreateSnapshotRequest(model=MODEL, as_of_time=wire.timestamp(START_US - HOUR_US))
    assert await code_of(stub.CreateSnapshot(behind)) == grpc.StatusCode.FAILED_PRECONDITION


async def asks_before_a_loop_are_not_found(stub: Any) -> None:
    for call in (
        stub.GetOnlineFeatures(online_request(None, ["EWR"])),
        stub.GetHistoryStatus(rpc.GetHistoryStatusRequest(model=MODEL)),
    ):
        assert await code_of(call) == grpc.StatusCode.NOT_FOUND


async def online_reads_are_as_of_a_time(stub: Any) -> None:
    request = online_request(START_US + 3 * HOUR_US + 1, ["EWR", "JFK", "LGA"])
    answer = await stub.GetOnlineFeatures(request)
    assert [column.name for column in answer.features] == ["humid", "sky", "delay_1h", "delay_3h"]
    humid = unpack_column(answer.features[0]).tolist()
    assert humid == [pytest.approx(np.float32(3.1), abs=0), *[pytest.approx(NAN, nan_ok=True)] * 2]
    at = START_US + 3 * HOUR_US
    assert list(answer.view_times[0].event_time_us) == [at, at, 0]


async def observations_are_stored_once(stub: Any) -> None:
    texts = np.array(["EWR", "EWR"], dtype=object)
    request = rpc.ImportObservationsRequest(
        model=MODEL,
        chunk_id="c1",
        inputs=[
            pack_column("origin", texts),
            pack_column("carrier", texts),
            pack_column("flight", np.array(["o0", "o1"], dtype=object)),
            pack_column("distance", np.array([1.0, 2.0])),
            pack_column("departure", np.array([START_US] * 2)),
        ],
        event_time_us=[START_US, START_US + HOUR_US],
        labels=[0.0, 1.0],
        label_time_us=[START_US + 4 * HOUR_US, START_US + 9 * HOUR_US],
    )
    assert (await stub.ImportObservations(request)).rows_stored == 2
    assert (await stub.ImportObservations(request)).rows_stored == 0
    request.inputs.pop()
    assert await code_of(stub.ImportObservations(request)) == grpc.StatusCode.INVALID_ARGUMENT


async def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    code: grpc.StatusCode = failed.value.code()
    return code


def test_a_bundle_s_signature_is_found_by_its_folder_s_and_its_manifest_s_digest(
    blobs: Blobs, tmp_path: Path
) -> None:
    store = BlobStore(blobs.url)
    files = json.loads(store.read_bytes(blobs.bundle_digest))
    (tmp_path / "manifest.json").write_text(json.dumps({"files": files}))
    store.put_folder(tmp_path)
    signatures = Signatures(store)
    assert signatures.find(blobs.bundle_digest).outputs[0].name == "late"
    manifest_digest = file_digest(tmp_path / "manifest.json")
    assert signatures.find(manifest_digest).outputs[0].name == "late"
    with pytest.raises(Reject, match="no blob"):
        signatures.find("sha256:" + "0" * 64)
