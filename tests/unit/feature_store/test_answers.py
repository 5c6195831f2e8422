"""Packed answers become rows that can be told apart, whatever is missing."""

from typing import Any

import pytest
from tests.unit.feature_store.examples import MODEL, SIGNATURE, labels_event, predictions_event

from ciclo.errors import Reject
from ciclo_feature_store import wire
from ciclo_feature_store.domain.answers import BadAnswers, answer_piece
from ciclo_feature_store.domain.history import HistoryColumn, Piece, history_column

INPUTS: dict[str, list[Any]] = {
    "flight": ["f1", "f2", "f3"],
    "distance": [1.0, 2.0, 3.0],
    "departure": [10, 20, 30],
}


def known(column: HistoryColumn) -> list[Any]:
    values: list[Any] = column.values.tolist()
    if column.known is None:
        return values
    return [v if k else None for v, k in zip(values, column.known.tolist(), strict=True)]


def piece() -> Piece:
    event = predictions_event(
        ["p1", "p2", "p3"],
        [2, 0, 1],
        [5, 6, 7],
        INPUTS,
        [0.25, 0.5],
        status=[0, 0, 14],
        batch_id="b",
    )
    return answer_piece(wire.answers(event), SIGNATURE, offset=9)


def test_each_row_of_each_request_is_a_row() -> None:
    columns = piece().columns
    assert known(columns["prediction_id"]) == ["p1", "p1", "p2", "p3"]
    assert known(columns["row"]) == [0, 1, None, 0]
    assert known(columns["row_key"]) == ["f1", "f2", None, "f3"]
    assert known(columns["event_time"]) == [5, 5, 6, 7]
    assert known(columns["departure"]) == [10, 20, None, 30]
    assert columns["departure"].kind == "timestamp"
    assert known(columns["_offset"]) == [9] * 4


def test_a_request_that_failed_has_inputs_and_no_outputs() -> None:
    columns = piece().columns
    assert known(columns["distance"]) == [1.0, 2.0, None, 3.0]
    assert known(columns["late"]) == [0.25, 0.5, None, None]
    assert known(columns["status_code"]) == [0, 0, 0, 14]


def test_a_request_without_payload_keeps_its_reason() -> None:
    assert known(piece().columns["omission"]) == ["", "", "REQUEST_TOO_LARGE", ""]


def test_a_batch_is_named_by_id_version_and_purpose() -> None:
    assert piece().batch_id == "b 1 served"
    shadow = predictions_event(["p"], [0], [1], {}, [], purpose="PURPOSE_SHADOW", batch_id="b")
    assert answer_piece(wire.answers(shadow), SIGNATURE, 0).batch_id == "b 1 shadow"


def test_an_input_called_like_a_column_of_the_table_is_kept_beside_it() -> None:
    signature = type(SIGNATURE)(
        (type(SIGNATURE.inputs[0])("version", "string", "request"),), SIGNATURE.outputs
    )
    event = predictions_event(["p"], [1], [1], {"flight": ["x"]}, [0.5])
    event.inputs[0].name = "version"
    columns = answer_piece(wire.answers(event), signature, 0).columns
    assert known(columns["version"]) == [1]
    assert known(columns["version_"]) == ["x"]


@pytest.mark.parametrize(
    ("field", "values"), [("status_codes", [0]), ("omissions", ["", ""]), ("event_time_us", [])]
)
def test_columns_of_unequal_length_are_refused(field: str, values: list[object]) -> None:
    event: Any = predictions_event(["p1", "p2", "p3"], [1, 1, 1], [5, 6, 7], INPUTS, [0.1] * 3)
    event.ClearField(field)
    getattr(event, field).extend(values)
    with pytest.raises(Reject, match="one a request"):
        answer_piece(wire.answers(event), SIGNATURE, 0)


def test_a_tensor_of_other_rows_type_or_name_is_refused() -> None:
    short = predictions_event(["p1"], [2], [5], {"flight": ["f1"]}, [0.1, 0.2])
    unknown = predictions_event(["p1"], [1], [5], {"flight": ["f1"]}, [0.1])
    unknown.inputs[0].name = "stranger"
    typed = predictions_event(["p1"], [1], [5], {"distance": [1.0]}, [0.1])
    typed.inputs[0].name = "departure"
    for event in (short, unknown, typed):
        with pytest.raises(Reject, match="expected"):
            answer_piece(wire.answers(event), SIGNATURE, 0)


@pytest.mark.parametrize("count", [0, 2, 2**32 - 1])
def test_a_request_that_claims_other_rows_than_its_inputs_have_is_refused(count: int) -> None:
    event = predictions_event(["p1"], [1], [5], {"flight": ["f1"]}, [0.1])
    event.row_counts[0] = count
    with pytest.raises(BadAnswers, match=f"the requests {count}"):
        answer_piece(wire.answers(event), SIGNATURE, 0)


@pytest.mark.parametrize("name", ["version", "Version", "_x"])
def test_no_input_can_take_the_place_of_a_column_of_the_table(name: str) -> None:
    assert history_column(name) == f"{name}_"


def test_each_label_is_accepted_or_refused_by_itself() -> None:
    event = labels_event(("f1", 1.0, 5), ("f2", float("nan"), 6), ("", 1.0, 7), ("f4", 0.0, 8))
    event.labels[3].row = 2**31 - 1
    event.labels.add(prediction_id="p5", row=2**31, value=1.0, event_time_us=9)
    refused = {}
    labels = wire.label_piece(event, 3, refused.__setitem__)
    assert labels.model == MODEL
    assert known(labels.columns["row_key"]) == ["f1", "f4"]
    assert known(labels.columns["value"]) == [1.0, 0.0]
    assert known(labels.columns["row"]) == [0, 2**31 - 1]
    assert refused == {1: "LABEL_NOT_FINITE", 2: "LABEL_NAMES_NO_ROW", 4: "ROW_OUT_OF_RANGE"}


def test_a_model_whose_name_is_no_folder_is_refused() -> None:
    event = labels_event(("f1", 1.0, 5))
    event.model = "../elsewhere"
    with pytest.raises(Reject, match="no name of a model"):
        wire.history_rows(event)
