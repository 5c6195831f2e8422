"""The figures of a run, taken from outside: topics, Delta tables and RPCs, not from the player."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import duckdb
from deltalake import DeltaTable

from ciclo.cli.rollouts import stage_name
from ciclo.cli.telling import told
from ciclo.cli.why import as_row
from ciclo.events.v1.predictions_served_pb2 import PURPOSE_SERVED, PredictionsServed
from ciclo.events.v1.rollout_judged_pb2 import Verdict
from ciclo.history import RecordedEvent, read_events
from ciclo.topics import CONTROL_TOPICS, PREDICTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from player import Played
    from story import Told
    from system import Services, System

MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Served:
    """What callers got, as the topic says.

    Args:
        ids: Prediction ids, and ids that callers gave.
        rows: Rows by version.
        requests: Answered requests by version.
    """

    ids: frozenset[str]
    rows: Counter[int]
    requests: Counter[int]


async def read_served(system: System) -> Served:
    """Reads the topic of predictions from its beginning."""
    events = await read_events(system.addresses["kafka"], system.env, [PREDICTIONS])
    ids: set[str] = set()
    rows: Counter[int] = Counter()
    requests: Counter[int] = Counter()
    for event in events:
        m = event.message
        if isinstance(m, PredictionsServed) and m.purpose == PURPOSE_SERVED:
            ids.update(m.prediction_ids, filter(None, m.client_ids))
            answered = [n for n, code in zip(m.row_counts, m.status_codes, strict=True) if not code]
            rows[m.version.version] += sum(answered)
            requests[m.version.version] += len(answered)
    return Served(frozenset(ids), rows, requests)


def open_tables(urls: dict[str, str]) -> duckdb.DuckDBPyConnection:
    """Returns DuckDB with the Delta tables as views by name."""
    tables = duckdb.connect()
    for name in ("predictions", "labels"):
        if name in urls:
            tables.register(name, DeltaTable(urls[name]).to_pyarrow_dataset())
        else:  # nothing was ever stored
            tables.execute(f"create table {name} (row_key varchar)")
    return tables


def ids_at_rest(tables: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """Returns prediction ids, and ids that callers gave, of answers that callers got."""
    query = """select prediction_id, client_id from predictions where purpose = 'served'"""
    return frozenset(name for row in tables.sql(query).fetchall() for name in row if name)


def label_counts(tables: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """Returns how many answered rows have a label, and how many have none."""
    query = """
        select count(l.row_key), count(*) - count(l.row_key)
        from (select distinct row_key from predictions where purpose = 'served' and status_code = 0)
        left join (select distinct row_key from labels) l using (row_key)"""
    joined, without = tables.sql(query).fetchall()[0]
    return int(joined), int(without)


async def collect(system: System, services: Services, played: Played, said: Told) -> dict[str, Any]:
    """Returns all figures but the checks; see `ciclo demo --json` in the README."""
    served = await read_served(system)
    history = await services.history()
    with closing(open_tables(dict(history.table_urls))) as tables:
        at_rest = ids_at_rest(tables)
        joined, never = label_counts(tables)
    events = await read_events(system.addresses["kafka"], system.env, CONTROL_TOPICS)
    callers = {call.caller_id for call in played.calls}
    return {
        "speedup": played.days_per_second * 86_400,
        "event_start": _time(played.event_start_us),
        "event_end": _time(played.event_end_us),
        "waited_s": played.waited_s,
        "seconds": said.seconds,
        "rows_due": played.rows_due,
        "rows_answered": played.rows_answered,
        "failed": len(played.failed),
        "failures": played.failed[:20],
        "ids": {
            "callers": len(callers),
            "kafka": len(callers & served.ids),
            "delta": len(callers & at_rest),
        },
        "ids_lost": len(callers - (served.ids & at_rest)),
        "labels_due": played.labels_due,
        "labels_joined": joined,
        "never_labelled": never,
        "skew": {"rows_audited": said.skew[0], "rows_different": said.skew[1]},
        "versions": [_version(v) for v in await services.versions()],
        "rollouts": [_rollout(r) for r in await services.rollouts()],
        "rows_by_version": {str(number): rows for number, rows in sorted(served.rows.items())},
        "requests_by_version": {str(v): n for v, n in sorted(served.requests.items())},
        "triton_requests": {str(v): n for v, n in sorted(said.triton_requests.items())},
        "rows_by_bad": served.rows.get(3, 0),
        "loss_by_day": [_loss(loss) for loss in said.health.losses],
        "weights": _weights(events),
        "evidence": said.evidence,
        "drift_by_feature": [
            {
                "stream": c.stream,
                "size": c.size,
                "direction": c.direction,
                "share": c.evidence_share,
                "since": c.start_time.ToJsonString(),
            }
            for c in said.health.streams
        ],
        "judgements": [_judgement(e) for e in events if e.name == "RolloutJudged"],
        "events": [{**_plain(as_row(e)), "told": told(e.message)} for e in events],
        "tables": dict(history.table_urls),
    }


def _time(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / MICROSECONDS, UTC).isoformat()


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
