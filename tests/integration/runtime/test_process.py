"""A whole service as a process: signals and exit codes."""

import asyncio
import signal
import socket
from datetime import timedelta
from pathlib import Path

from tests.integration.runtime.conftest import LedgerProcess, start_process
from tests.support.eventually import eventually

from ciclo_runtime.lifecycle import EXIT_DIED, EXIT_SETTINGS

SETTINGS = {
    "CICLO_GRPC_PORT": "0",
    "CICLO_METRICS_PORT": "0",
    "CICLO_BLOB_URL": "file:///unused",
    "CICLO_KAFKA_BOOTSTRAP": "127.0.0.1:1",
}


def log_holds(path: Path, words: str) -> None:
    log = path / "log"
    assert log.exists()
    assert words in log.read_text()


async def test_sigterm_stops_it_cleanly_and_at_once(ledger: LedgerProcess) -> None:
    process = ledger.start()
    await eventually(lambda: log_holds(ledger.state_dir, "service_serving"), timedelta(seconds=30))

    process.terminate()
    await asyncio.to_thread(process.join, 10)

    assert process.exitcode == 0
    log_holds(ledger.state_dir, "service_stopped")


async def test_it_can_be_stopped_while_it_waits_for_kafka(tmp_path: Path) -> None:
    process = start_process(SETTINGS | {"CICLO_STATE_DIR": str(tmp_path)}, tmp_path / "log")
    await eventually(lambda: log_holds(tmp_path, "topics_not_created"), timedelta(seconds=30))

    process.terminate()
    await asyncio.to_thread(process.join, 10)

    assert process.exitcode == 0


async def test_a_missing_setting_ends_it_with_a_sentence(tmp_path: Path) -> None:
    process = start_process(SETTINGS, tmp_path / "log")
    await asyncio.to_thread(process.join, 30)

    assert process.exitcode == EXIT_SETTINGS
    log_holds(tmp_path, "CICLO_STATE_DIR is not set")


async def test_a_part_that_cannot_start_ends_it_with_its_reason(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        environment = SETTINGS | {"CICLO_STATE_DIR": str(tmp_path), "CICLO_METRICS_PORT": port}
        process = start_process(environment, tmp_path / "log")
        await asyncio.to_thread(process.join, 30)

    assert process.exitcode == EXIT_DIED
    log_holds(tmp_path, "Address already in use")


async def test_a_second_signal_ends_it_whatever_it_is_doing(tmp_path: Path) -> None:
    environment = SETTINGS | {"CICLO_STATE_DIR": str(tmp_path), "LEDGER_HANGS": "1"}
    process = start_process(environment, tmp_path / "log")
    await eventually(lambda: log_holds(tmp_path, "service_serving"), timedelta(seconds=30))

    process.terminate()
    await eventually(lambda: log_holds(tmp_path, "service_stopping"))
    process.terminate()
    await asyncio.to_thread(process.join, 10)

    assert process.exitcode == 128 + signal.SIGTERM
