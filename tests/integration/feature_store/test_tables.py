"""Tables hold each row once, tell where they end, and can be read by anybody."""

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from google.protobuf.message import Message
from tests.unit.feature_store.examples import (
    MODEL,
    SERVICE,
    SIGNATURE,
    event,
    feature_rows_event,
    labels_event,
    predictions_event,
)

from ciclo_feature_store.adapters.delta import SchemaConflict, Tables
from ciclo_feature_store.adapters.feature_sink import FeatureSink, restore
from ciclo_feature_store.adapters.history_sink import HistorySink
from ciclo_feature_store.domain.feature_rows import BadFeatureRows
from ciclo_feature_store.domain.online import OnlineStore
from ciclo_feature_store.metrics import FeatureStoreMetrics
from ciclo_runtime.metrics import ServiceMetrics


def weather(time_us: int, humid: float) -> Message:
    return feature_rows_event(
        "weather", [time_us] * 2, {"origin": ["EWR", "JFK"]}, {"humid": [humid, humid + 1]}
    )


def answers(ids: list[str], batch_id: str) -> Message:
    count = len(ids)
    return predictions_event(
        ids, [1] * count, [5] * count, {"flight": ids}, [0.5] * count, batch_id=batch_id
    )


class Process:
    """What one life of the service has in memory; its tables outlive it."""

    def __init__(self, folder: Path, rows_per_entity: int = 8, compact_after: int = 128) -> None:
        metrics = FeatureStoreMetrics(ServiceMetrics("feature-store"))
        self.tables = Tables(folder, compact_after=compact_after)
        self.online = OnlineStore(rows_per_entity)
        restore(self.online, self.tables, rows_per_entity)
        self.features = FeatureSink(self.online, self.tables, lambda _: None, metrics)
        self.history = HistorySink(self.tables, lambda _: SIGNATURE, metrics)

    def humid(self, as_of_us: int | None) -> list[float]:
        found = self.online.read(SERVICE, {"origin": ["EWR"], "carrier": ["UA"]}, as_of_us)
        return found[0].columns[0]

    def rows(self, kind: str, name: str) -> int:
        return self.tables.table(kind, name).dataset().count_rows()


def test_a_kill_between_commit_and_position_stores_rows_once(tmp_path: Path) -> None:
    first = Process(tmp_path)
    for offset in range(3):
        first.features.take(event(offset, weather(offset, offset)))
        first.history.take(event(offset, answers([f"p{offset}"], f"b{offset}")))
    assert not first.features.drain().write()
    assert not first.history.drain().write()
    second = Process(tmp_path)  # the position was not saved: everything comes again, and more
    for offset in range(5):
        second.features.take(event(offset, weather(offset, offset)))
        second.history.take(event(offset, answers([f"p{offset}"], f"b{offset}")))
    for flush in (second.features.drain(), second.history.drain()):
        assert not flush.write()
        assert not flush.write()  # and a commit that seemed to fail is tried again
    assert second.rows("features", "weather") == 10
    assert second.rows("predictions", MODEL) == 5
    assert second.tables.table("predictions", MODEL).next_offset("t/0") == 5


def test_topics_and_offsets_do_not_hide_each_other(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.history.take(event(100, answers(["p1"], "b1"), topic="one"))
    process.history.take(event(0, answers(["p2"], "b2"), topic="other"))
    process.history.drain().write()
    assert process.rows("predictions", MODEL) == 2


def test_a_batch_that_was_sent_twice_is_stored_once(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.history.take(event(0, answers(["p1"], "spool:0-9")))
    process.history.take(event(1, answers(["p1"], "spool:0-9")))
    process.history.drain().write()
    after = Process(tmp_path)
    after.history.take(event(2, answers(["p1"], "spool:0-9")))
    after.history.take(event(3, answers(["p2"], "spool:9-18")))
    after.history.drain().write()
    assert after.rows("predictions", MODEL) == 2


def test_what_was_readable_online_is_readable_after_a_restart(tmp_path: Path) -> None:
    first = Process(tmp_path, rows_per_entity=3)
    for offset, time_us in enumerate([10, 20, 5, 20, 30, 40]):
        first.features.take(event(offset, weather(time_us, 100.0 + offset)))
    first.features.drain().write()
    second = Process(tmp_path, rows_per_entity=3)
    for as_of_us in (20, 25, 30, 45, None):
        assert second.humid(as_of_us) == first.humid(as_of_us)
    assert second.humid(25) == [103.0]  # of two rows at 20, the one sent last
    with pytest.raises(Exception, match="ONLINE_ROWS"):
        second.humid(15)


def test_small_files_are_rewritten_and_nothing_changes(tmp_path: Path) -> None:
    process = Process(tmp_path, compact_after=5)
    for offset in range(5):
        process.history.take(event(offset, answers([f"p{offset}"], f"b{offset}")))
        process.history.drain().write()
    dataset: Any = process.tables.table("predictions", MODEL).dataset()
    assert len(dataset.files) == 1
    again = Process(tmp_path)
    again.history.take(event(4, answers(["p4"], "b4")))
    again.history.drain().write()
    assert again.rows("predictions", MODEL) == 5


def test_new_columns_are_welcome_and_other_types_are_refused_before_they_are_read(
    tmp_path: Path,
) -> None:
    first = Process(tmp_path)
    first.features.take(event(0, weather(1, 1.0)))
    origin = {"origin": ["EWR"]}
    sky = {"sky": np.array(["clear"], dtype=object)}
    first.features.take(event(1, feature_rows_event("weather", [2], origin, sky)))
    text = {"humid": np.array(["wet"], dtype=object)}
    first.features.drain().write()
    for process in (first, Process(tmp_path)):
        with pytest.raises(BadFeatureRows, match="has humid"):
            process.features.take(event(2, feature_rows_event("weather", [3], origin, text)))
        assert not process.features.drain().write()
        assert process.rows("features", "weather") == 3


def test_a_table_refuses_another_type_and_another_spelling(tmp_path: Path) -> None:
    table = Tables(tmp_path, compact_after=128).table("features", "weather")
    table.require_types({"humid": pa.float32()})
    for name, kind in (("humid", pa.string()), ("Humid", pa.float32())):
        with pytest.raises(SchemaConflict, match="another name"):
            table.require_types({name: kind})


def poisoned(**changes: Any) -> Message:
    """Answers that decode, and that no table can hold."""
    message: Any = answers(["bad"], "bad")
    for field, value in changes.items():
        if field == "version":
            message.version.version = value
        elif isinstance(value, list):
            message.ClearField(field)
            getattr(message, field).extend(value)
        else:
            setattr(message, field, value)
    return message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variant": 99}, "99"),
        ({"purpose": 99}, "99"),
        ({"version": 2**32 - 1}, "4294967295"),
        ({"duration_us": [2**64 - 1]}, "too large"),
        ({"status_codes": [2**32 - 1]}, "expected FP32 (0, 1)"),
        ({"row_counts": [2**32 - 1]}, "4294967295"),
        ({"prediction_ids": []}, "one a request"),
    ],
)
def test_what_no_table_can_hold_is_refused_and_its_neighbours_are_stored(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    process = Process(tmp_path)
    process.history.take(event(0, answers(["p1"], "b1")))
    process.history.take(event(1, poisoned(**changes)))
    process.history.take(event(2, answers(["p2"], "b2")))
    (refused,) = process.history.drain().write()
    assert refused.event.offset == 1
    assert words in str(refused.error)
    assert process.rows("predictions", MODEL) == 2


def test_a_label_that_no_table_can_hold_is_left_out_alone(tmp_path: Path) -> None:
    process = Process(tmp_path)
    message: Any = labels_event(("f1", 1.0, 9), ("f2", 0.0, 9))
    message.labels.add(prediction_id="p", row=3_000_000_000, value=1.0, event_time_us=9)
    process.history.take(event(0, message))
    assert not process.history.drain().write()
    assert process.rows("labels", MODEL) == 2


def test_an_outsider_reads_the_tables_with_plain_duckdb(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.history.take(event(0, answers(["p1", "p2"], "b1")))
    process.history.take(event(1, labels_event(("p1", 1.0, 9))))
    process.history.drain().write()
    predictions, labels = listed(tmp_path / "predictions"), listed(tmp_path / "labels")
    rows = (
        duckdb.connect()
        .sql(
            f"SELECT p.prediction_id, late, value FROM read_parquet({predictions}) p "
            f"LEFT JOIN read_parquet({labels}) l USING (row_key) ORDER BY ALL"
        )
        .fetchall()
    )
    assert rows == [("p1", 0.5, 1.0), ("p2", 0.5, None)]


def listed(kind: Path) -> list[str]:
    """The files that the table's log names, as any program can read it."""
    folder = kind / MODEL
    added: dict[str, None] = {}
    for entry in sorted((folder / "_delta_log").glob("*.json")):
        for line in entry.read_text().splitlines():
            action = json.loads(line)
            if "add" in action:
                added[str(folder / action["add"]["path"])] = None
            if "remove" in action:
                added.pop(str(folder / action["remove"]["path"]), None)
    return list(added)
