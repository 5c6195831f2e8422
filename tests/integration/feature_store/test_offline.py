"""Feast in its process: definitions, datasets and audits over real tables."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from google.protobuf.message import Message
from tests.unit.feature_store.examples import (
    DEFINITIONS,
    FEATURES_PY,
    HOUR_US,
    MODEL,
    SERVICE,
    SIGNATURE,
    START_US,
    applied_loop,
    event,
    feature_rows_event,
    flights_loop,
    labels_event,
    predictions_event,
)

from ciclo.errors import Conflict, Reject
from ciclo_bundle import folder_digest
from ciclo_feature_store.adapters.delta import Tables, arrow_table
from ciclo_feature_store.adapters.events import Event
from ciclo_feature_store.adapters.feature_sink import FeatureSink
from ciclo_feature_store.adapters.history_sink import HistorySink
from ciclo_feature_store.adapters.offline_process import OfflineProcess
from ciclo_feature_store.domain.history import Observations, observation_columns
from ciclo_feature_store.domain.online import OnlineStore
from ciclo_feature_store.domain.tasks import AuditTask, DefineTask, SnapshotTask, join_of
from ciclo_feature_store.metrics import FeatureStoreMetrics
from ciclo_runtime.metrics import ServiceMetrics

NAN = float("nan")
NONE = {"humid": NAN, "sky": "", "delay_1h": NAN, "delay_3h": NAN}


class History:
    """Tables in a folder, filled by hand; times are hours after the start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = folder / "loop"
        self.loop.mkdir(parents=True)
        (self.loop / "features.py").write_text(FEATURES_PY)
        metrics = FeatureStoreMetrics(ServiceMetrics("feature-store"))
        self.tables = Tables(folder / "delta", compact_after=1000)
        self.online = OnlineStore(1000)
        self._features = FeatureSink(self.online, self.tables, lambda _: None, metrics)
        self._history = HistorySink(self.tables, lambda _: SIGNATURE, metrics)
        self._offset = 0
        self._cuts = 0

    def _event(self, message: Message) -> Event:
        self._offset += 1
        return event(self._offset, message)

    def observe(self, view: str, entity: str, key: str, hour: float, **fields: object) -> None:
        columns = {
            name: np.array([value], dtype=object if isinstance(value, str) else None)
            for name, value in fields.items()
        }
        sent = feature_rows_event(view, [at(hour)], {entity: [key]}, columns)
        self._features.take(self._event(sent))
        assert not self._features.drain().write()

    def serve(self, flight: str, hour: float, *, id: str = "", **features: object) -> None:  # noqa: A002
        values = {"origin": "EWR", "carrier": "UA", "distance": 1.0, "departure": at(hour)}
        values |= {"flight": flight} | NONE | features
        sent = predictions_event(
            [id or f"id-{flight}-{hour}"],
            [1],
            [at(hour)],
            {name: [value] for name, value in values.items()},
            [0.5],
        )
        self._history.take(self._event(sent))
        assert not self._history.drain().write()

    def label(self, flight: str, value: float, hour: float) -> None:
        self._history.take(self._event(labels_event((flight, value, at(hour)))))
        assert not self._history.drain().write()

    def import_observation(self, flight: str, hour: float, label: float, known: float) -> None:
        text = np.array(["EWR"], dtype=object)
        inputs = {
            "origin": text,
            "carrier": text,
            "flight": np.array([flight], dtype=object),
            "distance": np.array([1.0]),
            "departure": np.array([at(hour)]),
        }
        times = np.array([at(hour)])
        chunk = Observations(MODEL, flight, inputs, times, np.array([label]), np.array([at(known)]))
        rows = arrow_table(observation_columns(chunk, flights_loop()))
        self.tables.table("observations", MODEL).append(rows, {}, [flight])

    def task(self, until: float, since: float = 0) -> SnapshotTask:
        self._cuts += 1
        out = str(self.folder / f"cut-{self._cuts}")
        return SnapshotTask(self.join(), at(since), at(until), out)

    def join(self):
        return join_of(applied_loop(), str(self.loop), str(self.folder / "delta"))


def at(hour: float) -> int:
    return START_US + int(hour * HOUR_US)


def rows(task: SnapshotTask) -> list[dict]:
    return pq.read_table(Path(task.out) / "rows.parquet").to_pylist()


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


async def test_features_py_is_read_as_feast_reads_it(
    history: History, offline: OfflineProcess
) -> None:
    assert await offline.define(DefineTask(str(history.loop), "")) == DEFINITIONS


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("dtype=String", "dtype=UnixTimestamp", "no missing value"),
        ("entities=[carrier], ", "", "joined by __dummy"),
        ('name="delay_3h"', 'name="delay_1h"', "more than one view"),
        ("flight_delay = ", "ValueError('x')\nraise _ = ", "does not run"),
        ("[weather, ", "[weather.with_name('w'), ", "renames weather"),
    ],
)
async def test_what_cannot_be_served_is_refused_with_its_name(
    history: History, offline: OfflineProcess, before: str, after: str, words: str
) -> None:
    text = FEATURES_PY.replace("import Float32, String", "import Float32, String, UnixTimestamp")
    assert before in text
    (history.loop / "features.py").write_text(text.replace(before, after))
    with pytest.raises(Reject, match=words):
        await offline.define(DefineTask(str(history.loop), ""))


async def test_a_dataset_knows_only_what_was_known_at_the_cut(
    history: History, offline: OfflineProcess
) -> None:
    history.import_observation("old", hour=0, label=1.0, known=4)
    history.import_observation("never", hour=0, label=NAN, known=0)
    history.import_observation("too late", hour=1, label=1.0, known=11)
    history.serve("f1", hour=5)
    history.serve("f2", hour=6)
    history.serve("f3", hour=11)
    history.label("f1", 0.0, hour=9)
    history.label("f1", 1.0, hour=10)
    history.label("f1", 0.0, hour=10.5)
    history.label("f2", 1.0, hour=10.5)
    cut = await offline.snapshot(task := history.task(until=10))
    assert [(row["flight"], row["label"], row["_source"]) for row in rows(task)] == [
        ("old", 1.0, "observed"),
        ("f1", 1.0, "served"),
    ]
    assert (cut.rows, cut.unlabelled_rows, cut.newest_event_time_us) == (2, 3, at(5))
    later = await offline.snapshot(task := history.task(until=12))
    assert {row["flight"]: row["label"] for row in rows(task)} == {
        "old": 1.0,
        "too late": 1.0,
        "f1": 0.0,
        "f2": 1.0,
    }
    assert later.unlabelled_rows == 2


async def test_features_are_joined_as_of_the_knowledge_lag(
    history: History, offline: OfflineProcess
) -> None:
    history.observe("weather", "origin", "EWR", 1, humid=1.0, sky="a")
    history.observe("weather", "origin", "EWR", 2, humid=2.0)
    history.observe("weather", "origin", "EWR", 1, humid=10.0, sky="b")  # restated: sent later
    history.observe("airport_delays", "origin", "EWR", 1, delay_1h=5.0)
    for hour in (1.5, 2, 2.5, 3, 7, 7.5):
        history.serve(f"f{hour}", hour)
        history.label(f"f{hour}", 1.0, hour)
    await offline.snapshot(task := history.task(until=10))
    found = {
        row["flight"]: (row["humid"], row["sky"], row["delay_1h"], row["_time_of_weather"])
        for row in rows(task)
    }
    missing = pytest.approx(NAN, nan_ok=True)
    assert found == {
        "f1.5": (missing, "", missing, 0),
        "f2": (10.0, "b", 5.0, at(1)),
        "f2.5": (10.0, "b", 5.0, at(1)),
        "f3": (2.0, "", 5.0, at(2)),
        "f7": (2.0, "", 5.0, at(2)),
        "f7.5": (2.0, "", missing, at(2)),  # input.fallback: older than 6 h
    }


async def test_a_key_that_was_asked_about_twice_is_one_row(
    history: History, offline: OfflineProcess
) -> None:
    history.import_observation("f1", hour=1, label=1.0, known=2)
    history.serve("f1", hour=3, id="p1")
    history.serve("f1", hour=4, id="p2")
    history.serve("f1", hour=4, id="p2")
    history.label("f1", 0.0, hour=5)
    await offline.snapshot(task := history.task(until=10))
    assert [(row["_prediction_id"], row["label"]) for row in rows(task)] == [("p2", 0.0)]


async def test_equal_requests_over_equal_rows_have_equal_bytes(
    history: History, offline: OfflineProcess
) -> None:
    history.observe("weather", "origin", "EWR", 0, humid=1.0)
    for hour in range(5):
        history.serve(f"f{hour}", hour)
        history.label(f"f{hour}", hour % 2, hour)
    await offline.snapshot(first := history.task(until=4))
    history.serve("later", 8)
    DeltaTable(history.tables.table("predictions", MODEL).url).optimize.compact()
    await offline.snapshot(second := history.task(until=4))
    assert folder_digest(Path(first.out)) == folder_digest(Path(second.out))
    schema = json.loads((Path(first.out) / "schema.json").read_text())
    assert [entry["name"] for entry in schema["inputs"]] == [
        *("origin", "carrier", "flight", "distance", "departure"),
        *("humid", "sky", "delay_1h", "delay_3h"),
    ]
    assert [entry["role"] for entry in schema["inputs"]] == [
        *("entity", "entity", "id", "request", "request"),
        *["feature"] * 4,
    ]
    assert schema["inputs"][5]["view_digest"] == DEFINITIONS.views["weather"].digest
    table = pq.read_table(Path(first.out) / "rows.parquet")
    assert not any(column.null_count for column in table.columns)
    assert table.column("event_time_us").to_pylist() == [at(hour) for hour in range(5)]


async def test_a_window_without_labels_is_refused(
    history: History, offline: OfflineProcess
) -> None:
    with pytest.raises(Conflict, match="0 rows"):
        await offline.snapshot(history.task(until=10))
    history.serve("f1", hour=5)
    with pytest.raises(Conflict, match="1 rows") as refused:
        await offline.snapshot(history.task(until=10))
    assert refused.value.reason == "NO_LABELLED_ROW"


async def test_what_was_read_online_is_what_the_audit_expects(
    history: History, offline: OfflineProcess
) -> None:
    rng = np.random.default_rng(7)
    serve_random_flights(history, rng, range(1, 12))
    audit = await offline.audit(AuditTask(history.join(), at(0), at(99)))
    assert (audit.rows_audited, audit.rows_different, audit.examples) == (11, 0, ())


async def test_a_restated_past_is_found_by_the_audit(
    history: History, offline: OfflineProcess
) -> None:
    serve_random_flights(history, np.random.default_rng(8), range(1, 12))
    history.observe("weather", "origin", "EWR", 4, humid=-1.0, sky="restated")
    audit = await offline.audit(AuditTask(history.join(), at(0), at(99)))
    assert audit.rows_audited == 11
    assert audit.different_by_feature == {"humid": 1, "sky": 1}
    (example,) = audit.examples
    assert "the history says -1.0" in example
    bounded = await offline.audit(AuditTask(history.join(), at(0), at(5)))
    assert (bounded.rows_audited, bounded.rows_different) == (4, 0)


def serve_random_flights(history: History, rng: np.random.Generator, hours: Sequence[int]) -> None:
    """Each hour some values are observed, then a flight is served with what is read online."""
    for hour in hours:
        observed = rng.random(3) < 0.6
        if observed[0] or hour == 4:
            humid = float(rng.random())
            history.observe("weather", "origin", "EWR", hour, humid=humid, sky=f"s{hour}")
        if observed[1]:
            history.observe("airport_delays", "origin", "EWR", hour, delay_1h=float(rng.random()))
        if observed[2]:
            history.observe("carrier_delays", "carrier", "UA", hour, delay_3h=float(rng.random()))
        read = history.online.read(
            SERVICE, {"origin": ["EWR"], "carrier": ["UA"]}, at(hour) - HOUR_US
        )
        captured = {
            feature.name: column[0]
            for view, found in zip(SERVICE.views, read, strict=True)
            for feature, column in zip(view.features, found.columns, strict=True)
        }
        if at(hour) - read[1].event_times_us[0] > 6 * HOUR_US:
            captured["delay_1h"] = NAN
        history.serve(f"f{hour}", hour, **captured)
