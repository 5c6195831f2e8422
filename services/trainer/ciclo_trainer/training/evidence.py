"""What goes into a bundle beside the model: quality, calibration, losses, latency, a card."""

from __future__ import annotations

from dataclasses import asdict
from time import thread_time_ns
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ciclo_drift import expected_log_loss, log_loss
from ciclo_trainer.training.quality import (
    CONFIDENCE,
    bin_of,
    compare,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ciclo_bundle.runtime import GraphScorer
    from ciclo_trainer.training.request import Request
    from ciclo_trainer.training.snapshot import Rows, Split

MOST_SLICES: Final = 50
"""Values of a slice column that are reported, the most frequent first."""

LATENCY_ROWS: Final = (1, 64)
"""Rows in a call, for each of which latency is measured."""

LATENCY_CALLS: Final = 50
"""Calls that are measured in a round, after a tenth as many that are not."""

LATENCY_ROUNDS: Final = 8
"""Rounds, of which the one with the smallest quantile counts: what else the machine does in the
meantime makes calls slower, never faster."""


def metrics_document(
    holdout: Rows,
    score: NDArray[np.float32],
    champion: NDArray[np.float32] | None,
    limitation: str = "",
) -> dict[str, Any]:
    """Return evidence/metrics.json.

    Args:
        holdout: The held-out rows.
        score: What the model's graph gave for them [n].
        champion: What the champion's gave [n]; None if they are not compared.
        limitation: Why not, where there is a champion.
    """
    overall = asdict(compare(holdout.label, holdout.block, score, champion))
    return {
        "schema": "ciclo.metrics/v1",
        "confidence": CONFIDENCE,
        "limitation": limitation,
        "holdout": {
            "rows": overall.pop("rows"),
            "blocks": overall.pop("blocks"),
            "label_mean": float(holdout.label.mean()),
            "from_us": int(holdout.event_time_us[0]),
            "to_us": int(holdout.event_time_us[-1]),
        },
        **overall,
        "slices": {
            name: _slices(holdout, column, score, champion)
            for name, column in holdout.slices.items()
        },
    }


def calibration_document(holdout: Rows, score: NDArray[np.float32]) -> dict[str, Any]:
    """Return calibration.json: how often the label was 1 where the model said so."""
    bins = bin_of(score)
    return {
        "schema": "ciclo.calibration/v1",
        "method": "identity",
        "bins": [
            {
                "rows": int(inside.sum()),
                "lowest_score": float(score[inside].min()),
                "mean_score": float(score[inside].mean()),
                "label_mean": float(holdout.label[inside].mean()),
            }
            for inside in (bins == b for b in np.unique(bins))
        ],
    }


def blocks_document(output: str, holdout: Rows, score: NDArray[np.float32]) -> dict[str, Any]:
    """Return reference/blocks.json: the held-out loss by time block, in order of time.

    `loss_sum` is the log loss, `entropy_sum` what the model itself expected of it; both in nats.
    """
    present, first, index = np.unique(holdout.block, return_index=True, return_inverse=True)
    rows = np.bincount(index)
    loss = np.bincount(index, log_loss(score, holdout.label))
    entropy = np.bincount(index, expected_log_loss(score))
    return {
        "schema": "ciclo.blocks/v1",
        "output": output,
        "blocks": [
            {
                "block": holdout.block_names[present[i]],
                "start_us": int(holdout.event_time_us[first[i]]),
                "rows": int(rows[i]),
                "loss_sum": float(loss[i]),
                "entropy_sum": float(entropy[i]),
            }
            for i in np.argsort(first)
        ],
    }


def latency_document(
    columns: Mapping[str, NDArray[Any]], model: GraphScorer, champion: GraphScorer | None
) -> dict[str, Any]:
    """Return evidence/latency.json: microseconds of processor time a call of ONNX Runtime.

    On one thread, the caller's, so that waiting for a busy machine does not count; model and
    champion take turns, so that they find it equally warm.
    """
    scorers = {"model": model, **({"champion": champion} if champion else {})}
    times: dict[str, dict[str, dict[str, float]]] = {name: {} for name in scorers}
    for size in LATENCY_ROWS:
        few = {name: column[:size] for name, column in columns.items()}
        rounds = [_latencies_us(scorers, few) for _ in range(LATENCY_ROUNDS)]
        for name in scorers:
            quantiles = np.quantile([found[name] for found in rounds], (0.5, 0.95), axis=1)
            p50, p95 = quantiles.min(axis=1)
            times[name][str(size)] = {"p50_us": float(p50), "p95_us": float(p95)}
    return {"schema": "ciclo.latency/v1", "threads": 1, "rows": times}


def _latencies_us(
    scorers: Mapping[str, GraphScorer], columns: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.float64]]:
    """Return the time of each call of one round. Shape (LATENCY_CALLS,) each."""
    spent = {name: np.empty(LATENCY_CALLS) for name in scorers}
    for call in range(-LATENCY_CALLS // 10, LATENCY_CALLS):
        for name, scorer in scorers.items():
            start = thread_time_ns()
            scorer.score(columns)
            if call >= 0:
                spent[name][call] = (thread_time_ns() - start) / 1000
    return spent


def card_text(request: Request, split: Split, metrics: Mapping[str, Any]) -> str:
    """Return evidence/card.md: the model on one page, for people."""
    learned_from = ", ".join(f"`{f.name}`" for f in request.inputs if f.role != "id")
    held_out, until = metrics["holdout"], _utc(split.holdout)
    lines = [
        f"# {request.model}\n",
        f"Predicts `{request.output.name}` ({request.output.type}) from {learned_from}.\n",
        f"Trained on {len(split.train)} rows up to {_utc(split.train)}.\n",
        f"Judged on {held_out['rows']} rows in {held_out['blocks']} blocks up to {until}.\n",
        f"| held out | model ({metrics['confidence']:.0%} interval) | less champion |",
        "|---|---|---|",
    ]
    for name, interval in metrics["model"].items():
        difference = metrics["difference"]
        against = _show(difference[name]) if difference else metrics["limitation"] or "no champion"
        lines.append(f"| {name} | {_show(interval)} | {against} |")
    return "\n".join([*lines, ""])


def _slices(
    holdout: Rows,
    column: NDArray[np.object_],
    score: NDArray[np.float32],
    champion: NDArray[np.float32] | None,
) -> dict[str, Any]:
    values, counts = np.unique(column.astype(str), return_counts=True)
    reported = values[np.argsort(-counts, kind="stable")[:MOST_SLICES]]
    return {
        str(value): asdict(
            compare(
                holdout.label[inside],
                holdout.block[inside],
                score[inside],
                None if champion is None else champion[inside],
            )
        )
        for value, inside in ((v, column == v) for v in reported)
    }


def _utc(rows: Rows) -> str:
    return f"{np.datetime64(int(rows.event_time_us[-1]), 'us').astype('datetime64[s]')} UTC"


def _show(interval: Mapping[str, float | None]) -> str:
    value, low, high = interval["value"], interval["low"], interval["high"]
    if value is None:
        return "undefined"
    if low is None or high is None:
        return f"{value:.4f}"
    return f"{value:.4f} ({low:.4f} … {high:.4f})"
