"""Columns and features become the question that the model was trained on, or a named refusal."""

from typing import Any

import numpy as np
import pytest

from ciclo_gateway.domain.questions import (
    BadColumns,
    Contract,
    Features,
    FeaturesDiffer,
    ask,
    require_columns,
    routing_key,
)
from ciclo_gateway.domain.tensors import Field, Signature

CONTRACT = Contract(
    feature_service="s",
    entities={"origin": "string"},
    request={"flight": "string", "distance": "float32", "departure": "timestamp"},
    id="flight",
    knowledge_lag_us=10,
    older_than_us={"weather": 100},
)
SIGNATURE = Signature(
    "sha256:s",
    (
        Field("flight", "string", "id"),
        Field("distance", "float32", "request"),
        Field("departure", "timestamp", "request"),
        Field("temp", "float32", "feature", "weather"),
        Field("sky", "string", "feature", "weather"),
        Field("runways", "int64", "feature", "airport"),
    ),
    (Field("late", "float32", "output"),),
)


def columns(**changes: Any) -> dict[str, Any]:
    given = {
        "origin": np.array(["EWR", "JFK", "LGA"], dtype=object),
        "flight": np.array(["F1", "F2", "F3"], dtype=object),
        "distance": np.array([1.0, np.nan, 3.0]),
        "departure": np.array([1, 2, 3]),
        **changes,
    }
    return {name: values for name, values in given.items() if values is not None}


FEATURES = Features(
    values={
        "temp": np.array([1.0, 2.0, np.nan]),
        "sky": np.array(["blue", "grey", ""], dtype=object),
        "runways": np.array([3, 4, 0]),
    },
    view_times_us={"weather": np.array([950, 850, 0]), "airport": np.array([1, 1, 0])},
)


def test_the_question_has_the_signatures_order_and_types() -> None:
    question = ask(SIGNATURE, columns(), FEATURES, CONTRACT, event_time_us=1_000)
    assert list(question.values) == [field.name for field in SIGNATURE.inputs]
    assert question.values["distance"].dtype == np.float32
    assert question.values["departure"].dtype == np.int64


def test_values_that_are_too_old_or_unknown_are_missing_and_counted() -> None:
    question = ask(SIGNATURE, columns(), FEATURES, CONTRACT, event_time_us=1_000)
    np.testing.assert_array_equal(
        question.values["temp"], np.array([1, np.nan, np.nan], np.float32)
    )
    assert question.values["sky"].tolist() == ["blue", "", ""]
    assert question.values["runways"].tolist() == [3, 4, 0]
    assert question.fallback_rows == {"temp": 2, "sky": 2, "runways": 1}


def test_the_fingerprint_is_of_the_features_and_of_nothing_else() -> None:
    one = ask(SIGNATURE, columns(), FEATURES, CONTRACT, 1_000)
    same = ask(SIGNATURE, columns(distance=np.array([9.0] * 3)), FEATURES, CONTRACT, 1_000)
    warmer = Features({**FEATURES.values, "temp": np.array([5.0] * 3)}, FEATURES.view_times_us)
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint != ask(SIGNATURE, columns(), warmer, CONTRACT, 1_000).fingerprint


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"origin": None}, "columns[origin]", "missing"),
        ({"extra": np.array([1, 2, 3])}, "columns[extra]", "not declared"),
        ({"distance": np.array([1.0, 2.0])}, "columns[distance]", "2 rows, others 3"),
        ({"distance": np.array([1.0, 1e300, 1.0])}, "columns[distance]", "beyond float32"),
        ({"departure": np.array([1.0, 2.0, 3.0])}, "columns[departure]", "whole numbers"),
        ({"flight": np.array([1, 2, 3])}, "columns[flight]", "expected texts"),
        ({"origin": np.array([], dtype=object)}, "columns", "0 rows"),
        ({"origin": np.array(["x"] * 10_001, dtype=object)}, "columns", "10001 rows"),
    ],
)
def test_columns_that_do_not_fit_are_refused_by_name(
    changes: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(BadColumns, match=said) as refused:
        require_columns(columns(**changes), CONTRACT)
    assert refused.value.field == field


def test_columns_that_fit_are_counted() -> None:
    assert require_columns(columns(distance=np.array([1, 2, 3])), CONTRACT) == 3


def test_features_that_the_model_does_not_know_are_refused_by_name() -> None:
    values = {name: v for name, v in FEATURES.values.items() if name != "sky"}
    with pytest.raises(FeaturesDiffer) as refused:
        ask(SIGNATURE, columns(), Features(values, FEATURES.view_times_us), CONTRACT, 1_000)
    assert refused.value.field == "sky"
    values = {**FEATURES.values, "temp": FEATURES.values["sky"]}
    with pytest.raises(FeaturesDiffer, match="object values, the model takes float32"):
        ask(SIGNATURE, columns(), Features(values, FEATURES.view_times_us), CONTRACT, 1_000)


def test_the_first_rows_business_key_sticks_to_a_version() -> None:
    assert routing_key(columns(), CONTRACT) == "F1"
    without = Contract("s", {"origin": "string"}, {}, "", 0, {})
    assert routing_key(columns(), without) == "EWR"
