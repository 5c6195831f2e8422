"""Recomputes a run's figures from outside: DuckDB, a plain Kafka consumer, ONNX Runtime.

    python recompute.py --state build/demo --json build/demo.json

Of Ciclo only the messages generated from `protos/` are used. Kafka must be up: `ciclo demo` runs
this before it ends; afterwards a system that was kept does. Exits 1, with a line for each figure
that differs.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import json
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb
import numpy as np
import onnxruntime
from aiokafka.errors import KafkaError
from consumer import MODEL, Topics, read_topics
from deltalake import DeltaTable

from ciclo.events.v1.rollout_judged_pb2 import RolloutJudged, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOSE: Final = 1e-6
"""Greatest difference of a loss or a gain: the order of sums."""

ANSWER_CLOSE: Final = 1e-5
ONE_IN: Final = 100

GAINS: Final = ("mean_gain", "limited_gain", "gain_low", "gain_high")

ENDED: Final = ("completed", "rolled_back")
ENDS: Final = ("RolloutCompleted", "RolloutRolledBack")

LOSS_BY_DAY: Final = """
    with newest as (
        select row_key, arg_max(value, (_offset, _index)) as label,
            arg_max(event_time, (_offset, _index)) as known
        from labels group by row_key
    ), answered as (
        select row_key, version, purpose = 'served' as served, any_value(event_time) as asked,
            any_value(greatest(least(late::double, 1 - 1e-7), 1e-7)) as p
        from predictions where status_code = 0 group by all
    )
    select strftime(asked at time zone 'UTC', '%Y-%m-%d') as day, version, served,
        avg(-(label * ln(p) + (1 - label) * ln(1 - p))) as loss, count(*) as rows
    from answered join newest using (row_key)
    where known <= asked + interval 3 day
    group by all order by all"""
"""A row that was asked again by two rollouts counts once."""

SAMPLE: Final = f"""
    select * from predictions
    where purpose = 'served' and status_code = 0 and hash(row_key) % {ONE_IN} = 0"""

ROWS_OF_IDS: Final = """
    select id, count(*) from (
        select unnest([prediction_id, client_id]) as id from predictions
        where purpose = 'served' and status_code = 0
    ) where id <> '' group by id"""

ANSWERED: Final = "(select distinct row_key from predictions where purpose = 'served')"
LABELLED: Final = "(select distinct row_key from labels)"
COUNTS: Final = f"""
    select (select count(*) from {LABELLED}),
        (select count(*) from {ANSWERED} semi join {LABELLED} using (row_key)),
        (select count(*) from {ANSWERED} anti join {LABELLED} using (row_key))"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, as the JSON says it and as it was found again. Numbers may differ by `close`."""

    name: str
    said: Any
    found: Any
    close: float = 0.0

    @property
    def agrees(self) -> bool:
        """It was found as it was said."""
        if self.close and isinstance(self.said, float | int):
            return bool(abs(self.said - self.found) <= self.close)
        return bool(self.said == self.found)

    def __str__(self) -> str:
        """Says the difference; of sets only what the other lacks."""
        said, found = self.said, self.found
        if isinstance(said, set):
            said, found = said - found, found - said
        return f"{self.name}: said {said}, found {found}"


def main() -> None:
    """Reads the command line; exits 0 only if all agrees."""
    parser = argparse.ArgumentParser(description="Recompute a run's figures from outside.")
    parser.add_argument("--state", type=Path, default=Path("build/demo"), help="state folder")
    parser.add_argument("--json", type=Path, default=Path("build/demo.json"), help="figures")
    given = parser.parse_args()
    try:
        said = json.loads(given.json.read_text())
        topics = asyncio.run(read_topics(json.loads((given.state / "stack.json").read_text())))
        with closing(duckdb.connect()) as tables:
            open_tables(tables, given.state / "feature-store" / "delta")
            callers = read_callers(given.state / said["ids"]["file"])
            figures = list(recompute(said, callers, topics, tables, given.state / "blobs"))
    except (OSError, KeyError, KafkaError, duckdb.Error) as error:
        sys.exit(
            f"recompute: {type(error).__name__}: {error}. It needs the figures and the kept state "
            "of one run, with its Kafka up: `ciclo demo --json FILE --keep DIR`"
        )
    different = [figure for figure in figures if not figure.agrees]
    for figure in different:
        print(f"DIFFERS {figure}")
    print(f"{len(figures)} figures recomputed, {len(different)} differ")
    sys.exit(1 if different else 0)


def open_tables(tables: duckdb.DuckDBPyConnection, delta: Path) -> None:
    """Makes the Delta tables known by name; without any label there is no table of labels."""
    tables.execute(
        "create table labels (row_key varchar, value double, event_time timestamptz, "
        "_offset bigint, _index bigint)"
    )
    for name in ("predictions", "labels"):
        if DeltaTable.is_deltatable(str(delta / name / MODEL)):
            tables.execute(f"drop table if exists {name}")
            tables.register(name, DeltaTable(str(delta / name / MODEL)).to_pyarrow_table())


def read_callers(path: Path) -> dict[str, int]:
    """Returns how many rows each caller got, by the id that it holds."""
    with path.open(newline="") as lines:
        return {row["id"]: int(row["rows"]) for row in csv.DictReader(lines)}


def recompute(
    said: dict[str, Any],
    callers: dict[str, int],
    topics: Topics,
    tables: duckdb.DuckDBPyConnection,
    blobs: Path,
) -> Iterator[Figure]:
    """Yields every figure twice: as it was said, and as it is found in Kafka and in Delta.

    Raises:
        KeyError: A figure is not in the JSON.
        OSError: A bundle is not in the blob store, or not what its digest says.
    """
    at_rest = dict(tables.sql(ROWS_OF_IDS).fetchall())
    whole = {name for name, rows in callers.items() if at_rest.get(name) == rows}
    answered = sum(at_rest.get(name, 0) for name in callers)
    yield Figure("rows_answered in Kafka", said["rows_answered"], topics.rows.total())
    yield Figure("rows_answered in Delta", said["rows_answered"], answered)
    yield Figure("ids.callers", said["ids"]["callers"], len(callers))
    yield Figure("ids.kafka", said["ids"]["kafka"], len(callers.keys() & topics.ids.keys()))
    yield Figure("ids.kafka, each once", 1, max(topics.ids.values(), default=0))
    yield Figure("ids.delta, with all their rows", said["ids"]["delta"], len(whole))
    yield Figure("ids_lost", said["ids_lost"], len(callers.keys() - (whole & topics.ids.keys())))
    due, joined, never = tables.sql(COUNTS).fetchall()[0]
    yield Figure("labels_due in Kafka", said["labels_due"], len(topics.labels))
    yield Figure("labels_due in Delta", said["labels_due"], due)
    yield Figure("labels_joined", said["labels_joined"], joined)
    yield Figure("never_labelled", said["never_labelled"], never)
    yield from _shares(said, topics, tables)
    yield from _losses(said, tables)
    yield from _decisions(said, topics)
    yield from _answers(said, tables, blobs)


def _shares(
    said: dict[str, Any], topics: Topics, tables: duckdb.DuckDBPyConnection
) -> Iterator[Figure]:
    where = "where purpose = 'served' and status_code = 0 group by version"
    rows = tables.sql(f"select version::varchar, count(*) from predictions {where}").fetchall()
    yield Figure("rows_by_version in Kafka", said["rows_by_version"], dict(topics.rows))
    yield Figure("rows_by_version in Delta", said["rows_by_version"], dict(rows))
    yield Figure("requests_by_version", said["requests_by_version"], dict(topics.requests))
    bad = {str(r["version"]) for r in said["rollouts"] if r["stage"] == "rolled_back"}
    yield Figure("rows_by_bad", said["rows_by_bad"], sum(topics.rows[version] for version in bad))


def _losses(said: dict[str, Any], tables: duckdb.DuckDBPyConnection) -> Iterator[Figure]:
    """What callers got must agree row by row.

    A shadow that answered after its day was closed is at rest, but was not judged: days of a shadow
    agree where all of its answers came in time, which must be most of them.
    """
    found = {tuple(row[:3]): row[3:] for row in tables.sql(LOSS_BY_DAY).fetchall()}
    days = {(x["day"], x["version"], x["served"]): x for x in said["loss_by_day"]}
    served, stored = ({key for key in keys if key[2]} for keys in (days, found))
    yield Figure("loss_by_day: days and versions that served", served, stored)
    too_late = {
        key for key, day in days.items() if not key[2] and day["rows"] < found.get(key, (0, 0))[1]
    }
    shadows = sum(not key[2] for key in days)
    yield Figure(
        "loss_by_day: shadows came in time on most days", True, 2 * len(too_late) <= shadows
    )
    for key in sorted(days.keys() - too_late):
        loss, rows = found.get(key, (float("nan"), 0))
        name = f"loss_by_day: {key[0]}, version {key[1]}, {'served' if key[2] else 'shadow'}"
        yield Figure(f"{name}, rows", days[key]["rows"], rows)
        yield Figure(f"{name}, loss", days[key]["loss"], loss, close=CLOSE)


def _decisions(said: dict[str, Any], topics: Topics) -> Iterator[Figure]:
    """Digests and judgements are what the topics told; events lie where the JSON says."""
    digests = {v["version"]: v["bundle_digest"] for v in said["versions"]}
    registered = {number: topics.registered.get(number) for number in digests}
    yield Figure("versions: digests", digests, registered)
    ends = {e["message"]["rollout_id"]: e["cause"] for e in said["events"] if e["type"] in ENDS}
    for rollout in said["rollouts"]:
        name = rollout["rollout_id"]
        judged = {k: j for k, j in topics.judged.items() if j.rollout_id == name}
        if rollout["stage"] in ENDED:  # by a judgement, which its end names as its cause
            judged = {k: j for k, j in judged.items() if k == ends.get(name)}
        newest = list(judged.values())[-1] if judged else RolloutJudged()
        verdict = Verdict.Name(newest.verdict).removeprefix("VERDICT_").lower() if judged else ""
        found = {"days": newest.blocks, "rows": newest.rows, "verdict": verdict}
        found |= {n: getattr(newest, n) for n in GAINS}
        for part, value in found.items():
            yield Figure(f"rollout {name}: {part}", rollout[part], value)
    events = {(e["topic"], e["offset"]): (e["id"], e["type"], e["cause"]) for e in said["events"]}
    last = {topic: max(o for t, o in events if t == topic) for topic, _ in events}
    told = {k: v for k, v in topics.events.items() if k[1] <= last.get(k[0], -1)}
    yield Figure("events: how many", len(events), len(told))
    for place in events.keys() | told.keys():
        yield Figure(f"event at {place[0]}:{place[1]}", events.get(place), told.get(place))


def _answers(
    said: dict[str, Any], tables: duckdb.DuckDBPyConnection, blobs: Path
) -> Iterator[Figure]:
    """One answer in a hundred, asked again of the graph that the version's digest names."""
    sample = tables.sql(SAMPLE).to_arrow_table()
    asked_again = 0
    of = list(zip(*(sample[n].to_pylist() for n in ("version", "bundle_digest")), strict=True))
    for version in said["versions"]:
        number, digest = version["version"], version["bundle_digest"]
        chosen = sample.filter([found == (number, digest) for found in of])
        if not chosen.num_rows:
            continue
        session = onnxruntime.InferenceSession(_graph(blobs, digest))
        asked = {i.name: _tensor(chosen[i.name], i.type) for i in session.get_inputs()}
        answers = session.run(["late"], asked)[0].ravel()
        worst = float(np.abs(answers - chosen["late"].to_numpy()).max())
        yield Figure(f"answers of version {number}: difference", 0.0, worst, close=ANSWER_CLOSE)
        asked_again += chosen.num_rows
    yield Figure("answers asked again", sample.num_rows, asked_again)


def _graph(blobs: Path, bundle: str) -> bytes:
    listing = json.loads(_blob(blobs, bundle))
    return _blob(blobs, next(f["sha256"] for f in listing if f["path"] == "model.onnx"))


def _blob(blobs: Path, digest: str) -> bytes:
    """Returns stored bytes; their name is their sha256, so that they can be nothing else."""
    name = digest.removeprefix("sha256:")
    content = (blobs / name[:2] / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != name:
        raise OSError(f"blob {digest} is not what its name says")
    return content


def _tensor(column: Any, kind: str) -> Any:
    if kind == "tensor(string)":
        return np.array(column.to_pylist(), object).reshape(-1, 1)
    if kind == "tensor(int64)":
        return column.cast("int64").to_numpy().reshape(-1, 1)
    return column.to_numpy().astype(np.float32).reshape(-1, 1)


if __name__ == "__main__":
    main()
