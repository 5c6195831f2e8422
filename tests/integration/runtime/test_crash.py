"""A process that dies at any moment loses nothing and does nothing twice."""

import asyncio
import signal
from collections import defaultdict
from datetime import timedelta
from pathlib import Path

import pytest
from tests.integration.runtime.conftest import Broker, LedgerProcess
from tests.support.eventually import eventually

from ciclo.cloudevents import decode
from ciclo.events.v1.drift_detected_pb2 import DriftDetected
from ciclo.topics import TRAINING
from ciclo_runtime.crash import RuntimeCrash

EPISODES = ["a", "b", "c", "d"]


@pytest.mark.parametrize("point", RuntimeCrash)
async def test_a_crash_at_any_point_loses_no_event_and_repeats_no_effect(
    point: RuntimeCrash, broker: Broker, ledger: LedgerProcess
) -> None:
    for episode in EPISODES:
        await broker.publish(DriftDetected(episode_id=episode), event_id=f"event-{episode}")

    crashing = ledger.start(crash_at=point.value)
    await asyncio.to_thread(crashing.join, 30)
    restarted = ledger.start()

    def all_is_done() -> None:
        assert ledger.effects() == EPISODES
        assert ledger.outbox_size() == 0

    await eventually(all_is_done, timedelta(seconds=30))
    assert crashing.exitcode == -signal.SIGKILL
    answers: defaultdict[str, list[tuple[str, bytes]]] = defaultdict(list)
    for record in await broker.records(TRAINING):
        envelope, _ = decode(record.value, record.headers)
        answers[envelope.causation_id].append((envelope.id, bytes(record.value)))
        assert envelope.correlation_id == "cycle-1"
    assert set(answers) == {f"event-{episode}" for episode in EPISODES}
    assert all(len(set(same)) == 1 for same in answers.values()), (
        "a repeat has its id and its bytes"
    )
    if point is RuntimeCrash.OUTBOX_AFTER_SEND:
        assert any(len(same) > 1 for same in answers.values()), "what was not marked is sent again"

    def handles_sigterm() -> None:
        # Where the crash came after everything was done, it may still be importing.
        status = Path(f"/proc/{restarted.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
        assert int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1)

    await eventually(handles_sigterm, timedelta(seconds=20))
    restarted.terminate()
    await asyncio.to_thread(restarted.join, 20)
    assert restarted.exitcode == 0
