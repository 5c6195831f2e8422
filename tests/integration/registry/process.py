"""The registry as a process of its own, and the bundles and events that a test gives it."""

import json
import os
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from ciclo.common.v1.version_pb2 import VersionRef
from ciclo.events.v1.rollout_judged_pb2 import RolloutJudged, Stage, Verdict
from ciclo_bundle import Field, Manifest, Signature, write_bundle
from ciclo_bundle.digest import canonical_json
from ciclo_bundle.signature import encode_signature
from ciclo_bundle.store import BlobStore
from ciclo_registry.app import build
from ciclo_registry.settings import Settings
from ciclo_runtime.lifecycle import run

NAME = "flight-delay"
DAY_0 = datetime(2013, 6, 1, tzinfo=UTC)
SIGNATURE = Signature(
    (Field("distance", "float32", "request"),), (Field("late", "float32", "output"),)
)


def main(environment: dict[str, str], log: str) -> None:
    """The body of a process."""
    os.environ.update(environment)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), sys.stderr.fileno())
    run(build, Settings)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def day(n: float) -> Timestamp:
    written = Timestamp()
    written.FromDatetime(DAY_0 + timedelta(days=n))
    return written


def put_bundle(
    store: BlobStore, folder: Path, seed: int, *, compared: bool, **evidence: Any
) -> str:
    """Puts a bundle that is as small as one may be into the store; returns its digest there.

    Args:
        store: Gets it.
        folder: For its making.
        seed: Tells it from others.
        compared: Whether it was compared with a champion.
        evidence: Parts of metrics.json that shall say something else.
    """
    draft = folder / f"draft-{seed}"
    difference = {"log_loss": {"value": -0.01, "low": -0.02, "high": -0.001}}
    metrics: dict[str, Any] = {
        "schema": "ciclo.metrics/v1",
        "confidence": 0.95,
        "model": {
            "log_loss": {"value": 0.4, "low": 0.39, "high": 0.41},
            "calibration_error": {"value": 0.01, "low": None, "high": None},
        },
        "champion": {"log_loss": {"value": 0.41, "low": 0.4, "high": 0.42}} if compared else None,
        "difference": difference if compared else None,
        "slices": {"origin": {"EWR": {"rows": 900, "difference": None}}},
    }
    metrics |= evidence
    times = {"1": {"p50_us": 20.0, "p95_us": 30.0}}
    rows = {"model": times, **({"champion": times} if compared else {})}
    contents = {
        "signature.json": encode_signature(SIGNATURE),
        "evidence/metrics.json": json.dumps(metrics).encode(),
        "evidence/latency.json": canonical_json(
            {"schema": "ciclo.latency/v1", "threads": 1, "rows": rows}
        ),
        **dict.fromkeys(
            [
                "calibration.json",
                "evidence/parity.npz",
                "model.onnx",
                "reference/blocks.json",
                "reference/streams.bin",
                "weights.safetensors",
            ],
            b"nothing that the registry opens",
        ),
    }
    for name, content in contents.items():
        path = draft / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    microseconds = int(DAY_0.timestamp() * 1e6)
    manifest = Manifest(
        NAME, seed, microseconds, microseconds, "sha256:" + "d" * 64, SIGNATURE.digest
    )
    return store.put_folder(write_bundle(draft, folder / f"bundle-{seed}", manifest).path)


def judged(rollout_id: str, stage: str, verdict: str, at: float, exposed: int = 0) -> RolloutJudged:
    return RolloutJudged(
        rollout_id=rollout_id,
        stage=Stage.Value(f"STAGE_{stage}"),
        champion=VersionRef(model=NAME, version=1),
        challenger=VersionRef(model=NAME, version=2),
        verdict=Verdict.Value(f"VERDICT_{verdict}"),
        watermark_time=day(at),
        blocks=int(at),
        rows=int(at) * 100,
        exposed_rows=exposed,
    )
