"""What callers got is captured once, whatever dies: on real Envoy and Kafka."""

import asyncio
import base64
from collections import Counter

from tests.integration.gateway import bundles
from tests.integration.gateway.world import (
    SOON,
    Caller,
    World,
    first_model,
    rows,
)
from tests.support.eventually import eventually

from ciclo.events.v1.predictions_lost_pb2 import PredictionsLost
from ciclo.events.v1.predictions_served_pb2 import PURPOSE_SERVED, PredictionsServed
from ciclo_gateway.adapters.envoy_admin import EnvoyAdmin
from ciclo_gateway.adapters.spool_files import SpoolFiles
from ciclo_gateway.shipping import ShippingCrash
from ciclo_gateway.wire import inference
from ciclo_runtime.clock import SystemClock


async def test_every_answer_is_published_once_whatever_is_killed(
    world: World, caller: Caller
) -> None:
    await first_model(world)
    got: list[str] = []

    async def call(count: int) -> None:
        for _ in range(count):
            said, _ = await caller.ask("first", rows(3, first=len(got)))
            got.append(said["x-ciclo-id"])

    for crash in ShippingCrash:
        world.gateway.kill()
        await world.gateway.start(CICLO_CRASH_AT=crash.value)
        await call(15)
        assert world.gateway.process is not None
        await asyncio.wait_for(asyncio.to_thread(world.gateway.process.wait), 30)
        assert world.gateway.process.returncode == -9, crash
        await call(15)  # by tensor nothing depends on the gateway's process
    await world.gateway.start()
    world.stack.kill("kafka")
    await call(15)
    await asyncio.to_thread(world.stack.start, "kafka")
    await call(15)

    async def each_once() -> None:
        ids = Counter(i for i, _, _ in await world.answers("first"))
        assert {i: ids[i] for i in got} == dict.fromkeys(got, 1)

    await eventually(each_once, SOON)
    batches = [
        m for _, m in await world.heard(PredictionsServed, "first") if m.purpose == PURPOSE_SERVED
    ]
    ids = Counter(m.batch_id for m in batches)
    assert [batch_id for batch_id, times in ids.items() if times > 1] == []
    for batch in batches:
        assert batch.version.bundle_digest.startswith("sha256:")
        if set(batch.status_codes) == {0}:
            assert [t.name for t in batch.inputs] == ["flight", "origin", "distance", "temp"]
        assert batch.version.signature_digest == bundles.SIGNATURE.digest


async def test_a_torn_line_is_counted_and_the_whole_ones_are_kept(world: World) -> None:
    request = inference.infer_request("torn", None, rows(2)).SerializeToString()
    frame = base64.b64encode(b"\0" + len(request).to_bytes(4, "big") + request).decode()
    line = f"1 id-{{}} 1700000000000000 90 200 3 - 1 torn 1 champion - - 9 9 {frame} - .\n"
    spool = world.stack.settings.spool / "serve-0000000000000001.log"
    whole = line.format("a") + line.format("b")
    spool.write_text(whole + line.format("c")[: len(line) // 2])

    async def counted() -> None:
        lost = [m for _, m in await world.heard(PredictionsLost, "torn")]
        assert [(m.count, m.reason) for m in lost] == [(1, "TORN_RECORD")]

    await eventually(counted, SOON)
    served = [m for _, m in await world.heard(PredictionsServed, "torn")]
    assert [list(m.prediction_ids) for m in served] == [["id-a", "id-b"]]
    assert list(served[0].row_counts) == [2, 2]
    assert list(served[0].status_codes) == [3, 3]
    assert not served[0].outputs


async def test_a_count_of_what_could_not_be_written_names_the_envoy_that_counted(
    world: World,
) -> None:
    admin = EnvoyAdmin(f"http://127.0.0.1:{world.stack.settings.ports.envoy_admin}")
    await admin.start()
    spool = SpoolFiles(world.stack.settings.spool, admin, SystemClock())
    first = await spool.write_failures()
    assert first is not None
    world.stack.kill("envoy")

    async def counts_anew() -> None:
        second = await spool.write_failures()
        assert second is not None
        assert second.process > first.process
        assert second.since_start == 0

    await eventually(counts_anew, SOON)
    await admin.stop()
