"""The join of the history finds what brute force finds, and what is read online."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ciclo_feature_store.adapters.offline.point_in_time import JoinedView, point_in_time
from ciclo_feature_store.domain.definitions import Feature, View
from ciclo_feature_store.domain.feature_rows import feature_rows
from ciclo_feature_store.domain.online import OnlineView

NUMBERS = st.one_of(st.just(float("nan")), st.floats(-1e6, 1e6, width=32), st.just(0.1))
ROWS = st.lists(
    st.tuples(st.sampled_from("AB"), st.integers(0, 3), st.integers(0, 9), NUMBERS), max_size=25
)
"""Entity in two parts, event time, value; a row's place is its offset."""
QUESTIONS = st.lists(
    st.tuples(st.sampled_from("ABC"), st.integers(0, 3), st.integers(-2, 12)), max_size=12
)
SETTINGS = settings(max_examples=60, deadline=None)


def known_table(rows: Sequence[tuple[str, int, int, float]], per_batch: int) -> pa.Table:
    return pa.table(
        {
            "event_time": pa.array([row[2] for row in rows], pa.timestamp("us", "UTC")),
            "name": pa.array([row[0] for row in rows], pa.string()),
            "number": pa.array([row[1] for row in rows], pa.int64()),
            "value": pa.array(np.array([row[3] for row in rows], dtype=np.float32)),
            "_offset": pa.array([place // per_batch for place in range(len(rows))], pa.int64()),
            "_index": pa.array([place % per_batch for place in range(len(rows))], pa.int64()),
        }
    )


def joined(rows: Any, questions: Any, ttl_us: int, per_batch: int) -> list[tuple[int, float]]:
    asked = pa.table(
        {
            "name": pa.array([question[0] for question in questions], pa.string()),
            "number": pa.array([question[1] for question in questions], pa.int64()),
            "at": pa.array([question[2] for question in questions], pa.int64()),
        }
    )
    view = JoinedView("v", ("name", "number"), ("value",), ttl_us)
    found = point_in_time(asked, "at", view, known_table(rows, per_batch))
    times, values = found["_time_of_v"].to_pylist(), found["value"].to_pylist()
    return [
        (0 if time is None else time, float("nan") if value is None else value)
        for time, value in zip(times, values, strict=True)
    ]


def brute_force(rows: Any, question: Any, ttl_us: int) -> tuple[int, float]:
    known = [
        (row[2], place, float(np.float32(row[3])))
        for place, row in enumerate(rows)
        if row[:2] == question[:2] and row[2] <= question[2]
    ]
    if not known:
        return 0, float("nan")
    time, _, value = max(known, key=lambda row: row[:2])
    return (0, float("nan")) if ttl_us and question[2] - time > ttl_us else (time, value)


def equal(one: Sequence[tuple[int, float]], other: Sequence[tuple[int, float]]) -> bool:
    return len(one) == len(other) and all(
        a[0] == b[0] and (a[1] == b[1] or (math.isnan(a[1]) and math.isnan(b[1])))
        for a, b in zip(one, other, strict=True)
    )


@SETTINGS
@given(ROWS, QUESTIONS, st.sampled_from([0, 3]), st.integers(1, 4))
def test_the_join_equals_brute_force_with_ties_and_missing_values(
    rows: Any, questions: Any, ttl_us: int, per_batch: int
) -> None:
    found = joined(rows, questions, ttl_us, per_batch)
    assert equal(found, [brute_force(rows, question, ttl_us) for question in questions])


@SETTINGS
@given(ROWS, QUESTIONS, st.sampled_from([0, 3]), st.integers(1, 4), st.randoms())
def test_serving_reads_what_training_joins(
    rows: Any, questions: Any, ttl_us: int, per_batch: int, rng: Any
) -> None:
    view = View("v", ("name", "number"), (Feature("value", "float32"),), ttl_us)
    online = OnlineView("v", 100)
    batches = [(at, rows[at : at + per_batch]) for at in range(0, len(rows), per_batch)]
    rng.shuffle(batches)
    for at, batch in batches:
        online.apply(
            feature_rows(
                "v",
                np.array([row[2] for row in batch], dtype=np.int64),
                {
                    "number": np.array([row[1] for row in batch], dtype=np.int64),
                    "name": np.array([row[0] for row in batch], dtype=object),
                },
                {"value": np.array([row[3] for row in batch])},
                None,
            ),
            at // per_batch,
        )
    served = []
    for name, number, at_us in questions:
        answer = online.read(view, {"name": [name], "number": [number]}, at_us)
        served.append((answer.event_times_us[0], answer.columns[0][0]))
    assert equal(joined(rows, questions, ttl_us, per_batch), served)


def test_a_feature_that_the_table_lacks_is_missing() -> None:
    asked = pa.table({"name": ["A"], "number": [1], "at": [5]})
    view = JoinedView("v", ("name", "number"), ("value", "newer"), 0)
    found = point_in_time(asked, "at", view, known_table([("A", 1, 2, 0.5)], 1))
    assert found["newer"].to_pylist() == [None]
    assert found["value"].to_pylist() == [0.5]
