"""The codec of packed tensors and columns: what goes in comes out, and nonsense is refused."""

from itertools import pairwise
from struct import pack
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ciclo.common.v1.tensor_pb2 import Column, PackedTensor
from ciclo.tensors import (
    MalformedColumn,
    MalformedTensor,
    element_spans,
    join_tensors,
    pack_column,
    pack_tensor,
    split_tensor,
    unpack_column,
    unpack_tensor,
)

floats = arrays.arrays(
    np.float32, st.tuples(st.integers(0, 20), st.integers(1, 3), st.integers(1, 2))
)
integers = arrays.arrays(np.int64, st.tuples(st.integers(0, 20), st.integers(1, 3)))
texts = st.lists(st.text(max_size=300), max_size=30)
any_values = st.one_of(
    floats, integers, texts.map(lambda t: np.array(t, dtype=object).reshape(-1, 1))
)


@given(any_values)
def test_every_array_comes_back_as_it_went_in(values: Any) -> None:
    tensor = pack_tensor("x", values)
    back = unpack_tensor(tensor, len(values))
    assert back.shape == values.shape
    np.testing.assert_array_equal(back, values)


@given(any_values, st.lists(st.integers(0, 6), max_size=8))
def test_what_was_joined_is_split_into_the_same_parts(values: Any, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(c, len(values)) for c in cuts), len(values)]
    counts = [b - a for a, b in pairwise(bounds)]
    parts = [pack_tensor("x", values[a:b]) for a, b in pairwise(bounds)]
    joined = join_tensors(parts)
    assert joined == pack_tensor("x", values)
    assert split_tensor(joined, counts) == parts


@given(st.lists(st.binary(max_size=20), max_size=30))
def test_spans_give_the_bytes_of_every_element(values: Any) -> None:
    tensor = pack_tensor("x", np.array(values, dtype=object).reshape(-1))
    starts, ends = element_spans(tensor, len(values))
    found = [tensor.contents[a:b] for a, b in zip(starts, ends, strict=True)]
    assert found == values


@given(st.binary(max_size=60), st.sampled_from(["FP32", "INT64", "BYTES"]), st.integers(0, 9))
def test_garbage_is_read_whole_or_refused_by_name(
    contents: bytes, datatype: str, rows: int
) -> None:
    tensor = PackedTensor(name="temp", datatype=datatype, row_shape=[1], contents=contents)
    try:
        values = unpack_tensor(tensor, rows)
    except MalformedTensor as error:
        assert error.field == "temp"  # noqa: PT017 - either outcome is right
        return
    assert values.shape == (rows, 1)
    if datatype != "BYTES":
        assert values.tobytes() == contents
    else:
        assert int(element_spans(tensor)[1][-1]) == len(contents) if rows else not contents


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (pack("<I", 4) + b"EWR", "says 4 bytes, 3 are left"),
        (pack("<I", 3) + b"EWR\x01", "1 bytes are left"),
        (pack("<I", 2**32 - 1), "0 are left"),
        (pack("<I", 3) + b"EWR" + pack("<I", 3) + b"JFK", "has 2 elements, expected 1"),
    ],
)
def test_a_torn_element_is_refused_with_its_place(contents: bytes, said: str) -> None:
    with pytest.raises(MalformedTensor, match=said):
        unpack_tensor(
            PackedTensor(name="origin", datatype="BYTES", row_shape=[1], contents=contents), 1
        )


def test_bytes_that_are_no_text_are_replaced_as_the_served_graph_does() -> None:
    tensor = pack_tensor("origin", np.array([b"E\xffR", b"JFK"], dtype=object))
    assert unpack_tensor(tensor).ravel().tolist() == ["E�R", "JFK"]


def test_elements_of_equal_and_of_different_length_are_read_alike() -> None:
    for values in (["EWR", "JFK", "LGA"], ["EWR", "", "Zürich", "x" * 200]):
        assert unpack_tensor(pack_tensor("x", values)).ravel().tolist() == values


@pytest.mark.parametrize("row_shape", [[0], [-1], [2, 0], [1] * 32])
def test_an_impossible_shape_is_refused(row_shape: list[int]) -> None:
    with pytest.raises(MalformedTensor, match="row shape"):
        unpack_tensor(PackedTensor(name="x", datatype="FP32", row_shape=row_shape))


def test_an_unknown_datatype_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(MalformedTensor, match="'FP64', expected one of FP32, INT64, BYTES"):
        unpack_tensor(PackedTensor(name="x", datatype="FP64", row_shape=[1]))


def test_tensors_that_differ_are_not_joined() -> None:
    with pytest.raises(MalformedTensor, match="cannot follow"):
        join_tensors([pack_tensor("x", [1.0]), pack_tensor("x", [1])])


@given(
    st.one_of(
        st.lists(st.floats(width=64), max_size=20).map(lambda v: np.array(v, np.float64)),
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20).map(
            lambda v: np.array(v, np.int64)
        ),
        texts.map(lambda v: np.array(v, dtype=object)),
    )
)
def test_every_column_comes_back_as_it_went_in(values: Any) -> None:
    wire = pack_column("temp", values).SerializeToString()
    back = unpack_column(Column.FromString(wire))
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize(
    "values", [np.zeros((2, 2)), np.array([2**63], np.uint64), [{}], [1 + 2j], ["\ud800"]]
)
def test_what_no_column_can_hold_is_refused_by_name(values: Any) -> None:
    with pytest.raises(MalformedColumn) as refused:
        pack_column("temp", values)
    assert refused.value.field == "temp"


def test_a_column_without_values_is_refused_by_name() -> None:
    with pytest.raises(MalformedColumn, match="'temp' has no values"):
        unpack_column(Column(name="temp"))


@pytest.mark.parametrize(
    "values",
    [np.float32(1), [1 + 2j], [{}], ["\ud800"], np.array([0, "x"], dtype=object)],
)
def test_what_no_tensor_can_hold_is_refused_by_name(values: Any) -> None:
    with pytest.raises(MalformedTensor) as refused:
        pack_tensor("temp", values)
    assert refused.value.field == "temp"
