"""Event days as records: a champion that degrades, and later a challenger that knows the truth."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from tests.unit.monitor import worlds

from ciclo.common.v1.version_pb2 import VARIANT_CHALLENGER, VARIANT_CHAMPION, VersionRef
from ciclo.events.v1.labels_reported_pb2 import Label, LabelsReported
from ciclo.events.v1.predictions_served_pb2 import (
    PURPOSE_SERVED,
    PURPOSE_SHADOW,
    PredictionsServed,
)
from ciclo.events.v1.registry_state_pb2 import RegistryState, Rollout
from ciclo.events.v1.rollout_judged_pb2 import Stage
from ciclo.tensors import pack_tensor
from ciclo_bundle.store import BlobStore
from ciclo_drift import pack

NAME = "churn"
ROLLOUT = "r-1"
BATCHES = 4
"""Batches of a day; in the canary the challenger answers the first."""

REQUEST_ROWS = 5

LOOP = """
schema: ciclo.loop/v1
model: churn
owner: tests
recipe: recipe.py:Churn
features: churn
input: {id: row, entities: [customer], request: {row: string, x: float32}}
output: {name: leaves, type: binary}
label: {name: leaves, expected_within: 12h, never_after: 3d}
quality: {metric: log_loss, correlated_within: 1d}
monitor:
  false_alarms: {at_most: 1, per: 180d}
  degraded_if: {log_loss: {above_reference_by: 0.02}}
retrain: {data: {last: 60d, holdout: 12d}}
rollout:
  shadow: {until: better, margin: 0.005, at_most: 35d}
  canary: {weights: [0.25], each: 4d, exposure_at_most: 300}
  bake: {for: 4d}
"""


def put_definitions(store: BlobStore, folder: Path) -> tuple[str, str]:
    """Stores a loop and a bundle's references; returns the digests of both."""
    champion = worlds.champion()
    held_out = champion.held_out
    columns = zip(held_out.losses, held_out.expected, held_out.rows, strict=True)
    blocks = [
        {"loss_sum": float(loss), "entropy_sum": float(expected), "rows": int(rows)}
        for loss, expected, rows in columns
    ]
    loop, bundle = folder / "loop", folder / "bundle"
    (bundle / "reference").mkdir(parents=True)
    loop.mkdir()
    (loop / "loop.yaml").write_text(LOOP)
    (bundle / "reference" / "blocks.json").write_text(json.dumps({"blocks": blocks}))
    (bundle / "reference" / "streams.bin").write_bytes(pack(champion.streams.snapshot()))
    return store.put_folder(loop), store.put_folder(bundle)


def registry_state(
    generation: int, loop_digest: str, bundle_digest: str, stage: str = "", since_day: int = 0
) -> RegistryState:
    """What the registry says: a champion, and the stage of a rollout if there is one."""
    state = RegistryState(
        model=NAME, generation=generation, loop_digest=loop_digest, champion=version(1)
    )
    state.champion.bundle_digest = bundle_digest
    if stage:
        rollout = Rollout(
            rollout_id=ROLLOUT,
            cycle_id="cycle-1",
            cause_event_id="cause-1",
            challenger=version(2),
            stage=Stage.Value(f"STAGE_{stage}"),
        )
        start = timedelta(days=worlds.START + since_day)
        rollout.shadow_since_time.FromDatetime(datetime(1970, 1, 1, tzinfo=UTC) + start)
        state.rollout.CopyFrom(rollout)
    return state


def version(number: int) -> VersionRef:
    return VersionRef(model=NAME, version=number, bundle_digest="sha256:2", signature_digest="s")


def served(number: int, day: dict[str, Any], stage: str = "") -> Iterator[PredictionsServed]:
    """Yields a day's answers in order: each batch, and in a rollout what was asked again of it."""
    truth = np.clip(day["truth"], 0.001, 0.999)
    for batch in range(BATCHES):
        is_canary = stage == "CANARY" and batch == 0
        own, other = (truth, day["score"]) if is_canary else (day["score"], truth)
        answer = _batch(number, batch, day, 2 if is_canary else 1, own)
        answer.variant = VARIANT_CHALLENGER if is_canary else VARIANT_CHAMPION
        yield answer
        if stage:
            again = _batch(number, batch, day, 1 if is_canary else 2, other)
            again.purpose, again.rollout_id = PURPOSE_SHADOW, ROLLOUT
            yield again


def labels(number: int, day: dict[str, Any]) -> Iterator[LabelsReported]:
    """Yields a day's labels: the first half names rows by key, the other by request."""
    for is_by_key, part in enumerate(np.array_split(np.arange(worlds.ROWS_A_DAY), 2)):
        report = LabelsReported(model=NAME)
        for row in part.tolist():
            label = Label(
                value=day["label"][row], event_time_us=day["times"][row] + 2 * worlds.HOUR
            )
            if is_by_key:
                label.row_key = f"{number}/{row}"
            else:
                label.prediction_id, label.row = request_id(number, row), row % REQUEST_ROWS
            report.labels.append(label)
        yield report


def request_id(day: int, row: int) -> str:
    return f"p{day}-{row // REQUEST_ROWS}"


def _batch(
    number: int, batch: int, day: dict[str, Any], who: int, scores: Any
) -> PredictionsServed:
    size = worlds.ROWS_A_DAY // BATCHES
    rows = np.arange(batch * size, (batch + 1) * size)
    firsts = rows[::REQUEST_ROWS].tolist()
    return PredictionsServed(
        version=version(who),
        variant=VARIANT_CHAMPION,
        purpose=PURPOSE_SERVED,
        batch_id=f"{number}-{batch}",
        prediction_ids=[request_id(number, row) for row in firsts],
        row_counts=[REQUEST_ROWS] * len(firsts),
        event_time_us=[int(day["times"][row]) for row in firsts],
        status_codes=[0] * len(firsts),
        inputs=[
            pack_tensor("row", [f"{number}/{row}" for row in rows.tolist()]),
            pack_tensor("x", day["x"][rows]),
        ],
        outputs=[pack_tensor("leaves", scores[rows])],
    )
