"""A model's state as bytes, from which it goes on as if nothing had happened."""

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciclo_drift import StreamSet, pack, unpack
from ciclo_monitor.domain.drift import DriftTest
from ciclo_monitor.domain.findings import Episode, RolloutView, Stage, Version
from ciclo_monitor.domain.model import ModelMonitor
from ciclo_monitor.domain.performance import HeldOut
from ciclo_monitor.domain.watch import Champion, Tally, WatchPolicy

Arrays = dict[str, NDArray[np.generic]]


def freeze(monitor: ModelMonitor) -> bytes:
    """Returns a model's whole state."""
    parts: dict[str, Arrays] = {
        "rows": monitor.rows.snapshot(),
        "losses": monitor.losses.snapshot(),
    }
    if monitor.champion and monitor.performance and monitor.drift:
        held_out = monitor.champion.held_out
        parts["held_out"] = {
            "losses": held_out.losses,
            "expected": held_out.expected,
            "rows": held_out.rows,
        }
        parts["performance"] = monitor.performance.snapshot()
        parts["drift"] = monitor.drift.snapshot()
    if monitor.judgement:
        parts["judgement"] = monitor.judgement.snapshot()
    said = {
        "champion": asdict(monitor.champion.version) if monitor.champion else None,
        "episode": asdict(monitor.episode) if monitor.episode else None,
        "rollout": asdict(monitor.rollout) if monitor.rollout else None,
        "tally": asdict(monitor.tally),
    }
    arrays = {f"{part}|{name}": a for part, found in parts.items() for name, a in found.items()}
    arrays["said"] = np.frombuffer(json.dumps(said).encode(), np.uint8)
    return pack(arrays)


def thaw(model: str, policy: WatchPolicy, content: bytes) -> ModelMonitor:
    """Returns a model as it was when `freeze` was called."""
    arrays = unpack(content)
    said: dict[str, Any] = json.loads(arrays.pop("said").tobytes())
    monitor = ModelMonitor(model, policy)
    monitor.rows.restore(_part(arrays, "rows"))
    monitor.losses.restore(_part(arrays, "losses"))
    monitor.tally = _tally(said["tally"])
    if said["champion"]:
        _restore_champion(monitor, Version(**said["champion"]), arrays)
    if said["episode"]:
        monitor.episode = Episode(**said["episode"])
    if said["rollout"]:
        monitor.rollout = _rollout(said["rollout"])
        monitor.begin_judging(monitor.rollout)
        assert monitor.judgement is not None
        monitor.judgement.restore(_part(arrays, "judgement"))
    return monitor


def _restore_champion(monitor: ModelMonitor, version: Version, arrays: Arrays) -> None:
    drift = _part(arrays, "drift")
    streams = StreamSet.restore({n[8:]: a for n, a in drift.items() if n.startswith("streams/")})
    tally = replace(monitor.tally)
    monitor.champion = Champion(version, HeldOut(**_part(arrays, "held_out")), streams)
    monitor.begin_watch()
    monitor.tally = tally
    assert monitor.performance is not None
    monitor.performance.restore(_part(arrays, "performance"))
    monitor.drift = DriftTest(streams, monitor.policy.calendar)
    monitor.drift.restore(drift)


def _part(arrays: Arrays, part: str) -> Any:
    return {n.split("|", 1)[1]: a for n, a in arrays.items() if n.startswith(f"{part}|")}


def _tally(said: dict[str, Any]) -> Tally:
    by_number = {
        name: {int(number): count for number, count in found.items()}
        for name, found in said.items()
        if isinstance(found, dict)
    }
    return Tally(**{**said, **by_number})


def _rollout(said: dict[str, Any]) -> RolloutView:
    versions = {name: Version(**said[name]) for name in ("champion", "challenger")}
    return RolloutView(**{**said, **versions, "stage": Stage(said["stage"])})
