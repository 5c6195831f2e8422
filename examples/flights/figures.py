"""The figures of a run, taken from outside: topics, Delta tables and RPCs, not from the player."""

from __future__ import annotations

import csv
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tables import LabelCounts, ids_at_rest, label_counts, open_tables

from ciclo.cli.rollouts import stage_name
from ciclo.cli.telling import told
from ciclo.cli.why import as_row
from ciclo.events.v1.predictions_served_pb2 import PURPOSE_SERVED, PredictionsServed
from ciclo.events.v1.rollout_judged_pb2 import Verdict
from ciclo.history import RecordedEvent, read_events
from ciclo.topics import CONTROL_TOPICS, PREDICTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from player import Played
    from story import Told
    from system import Services, System

MICROSECONDS: Final = 1_000_000

CALLERS: Final = "callers.csv"
"""What each caller holds; lies in the state folder."""


@dataclass(frozen=True, slots=True)
class Served:
    """What callers got, as the topic says.

    Args:
        ids: Prediction ids, and ids that callers gave.
        rows: Rows by version.
        requests: Answered requests by version.
        answers: Time of receipt, version and rows of each answered request.
    """

    ids: frozenset[str]
    rows: Counter[int]
    requests: Counter[int]
    answers: tuple[tuple[datetime, int, int], ...]


async def read_served(system: System) -> Served:
    """Reads the topic of predictions from its beginning."""
    events = await read_events(system.addresses["kafka"], system.env, [PREDICTIONS])
    ids: set[str] = set()
    answers = []
    for event in events:
        m = event.message
        if isinstance(m, PredictionsServed) and m.purpose == PURPOSE_SERVED:
            ids.update(m.prediction_ids, filter(None, m.client_ids))
            each = zip(m.receive_time_us, m.row_counts, m.status_codes, strict=True)
            answers += [(_utc(us), m.version.version, n) for us, n, code in each if not code]
    rows: Counter[int] = Counter()
    for _, version, count in answers:
        rows[version] += count
    requests = Counter(version for _, version, _ in answers)
    return Served(frozenset(ids), rows, requests, tuple(answers))


def write_callers(played: Played, to: Path) -> None:
    """Writes what each caller holds, so that anybody can look for it in Kafka and in Delta."""
    with to.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(("id", "by_tensor", "event_time_us", "rows"))
        writer.writerows((c.caller_id, c.by_tensor, c.event_time_us, c.rows) for c in played.calls)


async def collect(system: System, services: Services, played: Played, said: Told) -> dict[str, Any]:
    """Returns all figures but the checks; see `ciclo demo --json` in the README."""
    served = await read_served(system)
    history = await services.history()
    with closing(open_tables(dict(history.table_urls))) as tables:
        at_rest = ids_at_rest(tables)
        labels = label_counts(tables)
    events = await read_events(system.addresses["kafka"], system.env, CONTROL_TOPICS)
    write_callers(played, system.state / CALLERS)
    rollouts = [_rollout(r) for r in await services.rollouts()]
    _count_rows_by_bad(rollouts, events, served)
    return {
        **_played(played),
        **_captured(played, served, at_rest),
        **_labels(played, labels),
        "seconds": said.seconds,
        "skew": {"rows_audited": said.skew[0], "rows_different": said.skew[1]},
        "versions": [_version(v) for v in await services.versions()],
        "rollouts": rollouts,
        "rows_by_bad": sum(rollout["rows_by_bad"] for rollout in rollouts),
        "triton_requests": {str(v): n for v, n in sorted(said.triton_requests.items())},
        "triton_ready": said.triton_ready,
        "loss_by_day": [_loss(loss) for loss in said.health.losses],
        "weights": _weights(events),
        "evidence": said.evidence,
        "drift_by_feature": [_change(change) for change in said.health.streams],
        "judgements": [_judgement(e) for e in events if e.name == "RolloutJudged"],
        "events": [{**_plain(as_row(e)), "told": told(e.message)} for e in events],
        "tables": dict(history.table_urls),
    }


def _played(played: Played) -> dict[str, Any]:
    return {
        "speedup": played.days_per_second * 86_400,
        "event_start": _time(played.event_start_us),
        "event_end": _time(played.event_end_us),
        "waited_s": played.waited_s,
        "rows_due": played.rows_due,
        "rows_answered": played.rows_answered,
        "failed": len(played.failed),
        "failures": played.failed[:20],
    }


def _captured(played: Played, served: Served, at_rest: frozenset[str]) -> dict[str, Any]:
    callers = {call.caller_id for call in played.calls}
    return {
        "ids": {
            "callers": len(callers),
            "kafka": len(callers & served.ids),
            "delta": len(callers & at_rest),
            "file": CALLERS,
        },
        "ids_lost": len(callers - (served.ids & at_rest)),
        "rows_by_version": {str(number): rows for number, rows in sorted(served.rows.items())},
        "requests_by_version": {str(v): n for v, n in sorted(served.requests.items())},
    }


def _labels(played: Played, labels: LabelCounts) -> dict[str, Any]:
    return {
        "labels_due": played.labels_due,
        "labels_stored": labels.rows,
        "labels_joined": labels.joined,
        "labels_of_history": labels.of_history,
        "never_labelled": labels.never,
    }


def _change(found: Any) -> dict[str, Any]:
    return {
        "stream": found.stream,
        "size": found.size,
        "direction": found.direction,
        "share": found.evidence_share,
        "since": found.start_time.ToJsonString(),
    }


def _count_rows_by_bad(
    rollouts: list[dict[str, Any]], events: Iterable[RecordedEvent], served: Served
) -> None:
    """Says for each rollout how many rows a challenger that was taken back had answered in it."""
    begun: dict[str, datetime] = {}
    for event in events:
        if event.name == "RolloutStarted":
            m: Any = event.message
            begun[m.rollout_id] = event.envelope.time
    for number, rollout in enumerate(rollouts):
        rollout["rows_by_bad"] = 0
        if rollout["stage"] == "rolled_back":
            first = begun[rollout["rollout_id"]]
            later = [begun[r["rollout_id"]] for r in rollouts[number + 1 :]]
            rollout["rows_by_bad"] = sum(
                rows
                for when, version, rows in served.answers
                if version == rollout["version"]
                and first <= when
                and all(when < other for other in later)
            )


def _utc(time_us: int) -> datetime:
    return datetime.fromtimestamp(time_us / MICROSECONDS, UTC)


def _time(time_us: int) -> str:
    return _utc(time_us).isoformat()


def _version(found: Any) -> dict[str, Any]:
    return {
        "version": found.version.version,
        "bundle_digest": found.version.bundle_digest,
        "dataset_digest": found.dataset_digest,
        "newest_event_time": found.newest_event_time.ToJsonString(),
        "status": found.status,
        "metrics": dict(found.metrics),
    }


def _rollout(found: Any) -> dict[str, Any]:
    return {
        "rollout_id": found.rollout.rollout_id,
        "version": found.rollout.challenger.version,
        "stage": stage_name(found.rollout.stage),
        "days": found.blocks,
        "rows": int(found.rows),
        "mean_gain": found.mean_gain,
        "limited_gain": found.limited_gain,
        "gain_low": found.gain_low,
        "gain_high": found.gain_high,
        "verdict": found.verdict,
        "end_reason": found.end_reason,
        "exposed_rows": int(found.rollout.exposed_rows),
    }


def _loss(found: Any) -> dict[str, Any]:
    return {
        "day": found.start_time.ToJsonString()[:10],
        "version": found.version,
        "served": found.served,
        "loss": found.loss,
        "expected_loss": found.expected_loss,
        "rows": int(found.rows),
    }


def _judgement(event: RecordedEvent) -> dict[str, Any]:
    m: Any = event.message
    return {
        "event_time": m.watermark_time.ToJsonString(),
        "rollout_id": m.rollout_id,
        "stage": stage_name(m.stage),
        "version": m.challenger.version,
        "verdict": Verdict.Name(m.verdict).removeprefix("VERDICT_").lower(),
        "mean_gain": m.mean_gain,
        "limited_gain": m.limited_gain,
        "gain_low": m.gain_low,
        "gain_high": m.gain_high,
        "days": m.blocks,
    }


def _weights(events: Iterable[RecordedEvent]) -> list[dict[str, Any]]:
    """Returns each change of the weights, with the event time that the registry knew by then."""
    changes = []
    for event in events:
        m: Any = event.message
        if event.name == "RolloutAdvanced":
            shares = {str(w.version): w.weight for w in m.weights}
        elif event.name == "ModelPromoted":
            shares = {str(m.version.version): 1.0}
        elif event.name == "RolloutRolledBack":
            shares = {str(m.champion.version): 1.0}
        else:
            continue
        if event.event_time:
            changes.append({"event_time": event.event_time.isoformat(), "weights": shares})
    return changes


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    times = ("event_time", "wall_time")
    return {**row, **{name: row[name].isoformat() if row[name] else None for name in times}}
