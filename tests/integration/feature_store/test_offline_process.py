"""The offline process dies, hangs and exits: a task fails, and the next one is answered."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.feature_store.examples import applied_loop

from ciclo.errors import Reject, Retry
from ciclo_feature_store.adapters import offline_process as adapter
from ciclo_feature_store.adapters.offline_process import OfflineProcess, OfflineTimeLimit
from ciclo_feature_store.domain.tasks import AuditTask, DefineTask, join_of
from ciclo_feature_store.metrics import FeatureStoreMetrics
from ciclo_runtime.clock import SystemClock
from ciclo_runtime.metrics import ServiceMetrics

JOIN = join_of(applied_loop(), "no such folder", "nor this")


def offline_process(**settings: Any) -> OfflineProcess:
    metrics = FeatureStoreMetrics(ServiceMetrics("feature-store"))
    return OfflineProcess(metrics, SystemClock(), **settings)


async def test_a_process_that_dies_fails_its_task_and_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = offline_process(at_start=False)
    task = AuditTask(JOIN, 0, 1)
    monkeypatch.setattr(adapter, "MODULE", "keyword")  # ends without an answer
    for _ in range(2):
        with pytest.raises(Retry, match="died"):
            await process.audit(task)
    await process.stop()


async def test_a_task_that_does_not_end_is_ended_and_the_next_one_has_a_new_process(
    tmp_path: Path,
) -> None:
    limit = timedelta(seconds=1)
    process = offline_process(limit=limit, define_limit=limit)
    await process.start()
    before = process.pid  # importing Feast alone takes longer than the limit
    with pytest.raises(OfflineTimeLimit, match=r"features.py.*within 0:00:01.*replaced"):
        async with asyncio.timeout(30):
            await process.define(DefineTask(str(tmp_path), ""))
    assert process.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)
    with pytest.raises(OfflineTimeLimit, match=r"audit of flight-delay.*_TIME_LIMIT"):
        await process.audit(AuditTask(JOIN, 0, 1))
    await process.stop()


@pytest.mark.parametrize("end", ["raise SystemExit(3)", "import sys; sys.exit()"])
async def test_a_features_py_that_exits_is_refused_like_one_that_raises(
    tmp_path: Path, offline: OfflineProcess, end: str
) -> None:
    (tmp_path / "features.py").write_text(end)
    before = offline.pid
    with pytest.raises(Reject, match="does not run: SystemExit"):
        await offline.define(DefineTask(str(tmp_path), ""))
    assert offline.pid == before
