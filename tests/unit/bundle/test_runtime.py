"""A scorer gives what the graph gives, whatever form the columns come in."""

from pathlib import Path

import numpy as np
import pytest

from ciclo_bundle import Bundle, BundleCorrupt, Field, InputsUnfit, Signature
from ciclo_bundle.runtime import GraphScorer, Scorer

EXPECTED = [0.25, 0.75, 0.5, 0.5]


def test_known_categories_are_known_and_others_are_not(bundle: Bundle, columns: dict) -> None:
    assert Scorer(bundle.path).score(columns)["late"].tolist() == EXPECTED


def test_bytes_are_read_as_the_text_that_they_are(bundle: Bundle, columns: dict) -> None:
    columns["origin"] = np.array([text.encode() for text in columns["origin"]], dtype=object)

    assert Scorer(bundle.path).score(columns)["late"].tolist() == EXPECTED


def test_none_bad_utf8_and_fixed_width_strings_are_taken(bundle: Bundle, columns: dict) -> None:
    scorer = Scorer(bundle.path)

    columns["origin"] = np.array([None, b"\xff", b"JFK", "JFK"], dtype=object)
    assert scorer.score(columns)["late"].tolist() == [0.5, 0.5, 0.25, 0.25]
    columns["origin"] = np.array(["JFK", "EWR", "", "x"])
    assert scorer.score(columns)["late"].tolist() == EXPECTED


@pytest.mark.parametrize("batch", [1, 3, 4, 100])
def test_no_answer_depends_on_the_batch(bundle: Bundle, columns: dict, batch: int) -> None:
    assert Scorer(bundle.path).score(columns, batch=batch)["late"].tolist() == EXPECTED


def test_columns_may_be_matrices_of_one_column(bundle: Bundle, columns: dict) -> None:
    matrices = {name: column.reshape(-1, 1) for name, column in columns.items()}

    assert Scorer(bundle.path).score(matrices)["late"].tolist() == EXPECTED


def test_the_business_key_may_be_left_out_and_other_columns_are_ignored(
    bundle: Bundle, columns: dict
) -> None:
    del columns["flight"]
    columns["unrelated"] = np.zeros(9)

    assert Scorer(bundle.path).score(columns)["late"].tolist() == EXPECTED


def test_no_rows_give_no_answers(bundle: Bundle, columns: dict) -> None:
    none = {name: column[:0] for name, column in columns.items()}

    assert Scorer(bundle.path).score(none)["late"].shape == (0,)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("origin", None),
        ("origin", np.array([1.0, 2.0, 3.0, 4.0])),
        ("temp", np.array(["1"] * 4)),
        ("departure", np.array([0.5] * 4)),
        ("departure", np.array([1, 2, 3])),
        ("temp", np.zeros((4, 2))),
    ],
)
def test_a_column_that_does_not_fit_is_named(
    bundle: Bundle, columns: dict, name: str, column: np.ndarray | None
) -> None:
    del columns[name]
    if column is not None:
        columns[name] = column

    with pytest.raises(InputsUnfit) as error:
        Scorer(bundle.path).score(columns)

    assert error.value.name == name


def test_a_graph_that_asks_something_else_than_its_signature_is_refused(bundle: Bundle) -> None:
    other = Signature((Field("origin", "string"),), (Field("late", "float32", "output"),))

    with pytest.raises(BundleCorrupt, match="signature") as error:
        GraphScorer(Path(bundle.path) / "model.onnx", other)

    assert error.value.file == "model.onnx"
