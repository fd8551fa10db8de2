"""Padded batches and packed rows, against a plain reading of what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio.errors import SchemaError
from recordio.format.schema import Columns
from recordio.reader.batches.layout import Packing, Padding
from recordio.reader.batches.requests import BatchRequest, WindowSlice
from recordio.reader.order.shuffle import WindowPlan

SIZE = 8


def request_of(rows: list[list[tuple[int, int]]]) -> BatchRequest:
    """A request for rows of (length, piece), in slices that begin anywhere in their plans."""
    position = np.array([n for n, row in enumerate(rows, 5) for _ in row], np.int64)
    piece = np.array([piece for row in rows for _, piece in row], np.int64)
    zeros = np.zeros(len(piece), np.int64)
    plan = WindowPlan(zeros, position, zeros, zeros, zeros, 0, piece)
    cut = len(piece) // 2
    return BatchRequest([WindowSlice(0, None, plan, a, b) for a, b in ((0, cut), (cut, len(piece))) if a < b])


@st.composite
def rows_of_documents(draw: st.DrawFn) -> list[list[tuple[int, int]]]:
    """Rows of (tokens, piece): the document has SIZE * piece tokens before these."""
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        left, row = SIZE, []
        while not row or (left and draw(st.booleans())):
            length = draw(st.integers(0, left))
            row.append((length, draw(st.integers(0, 2))))
            left -= length
        rows.append(row)
    return rows


@given(rows_of_documents())
def test_rows_hold_their_documents_and_say_where_they_lie(rows: list[list[tuple[int, int]]]) -> None:
    documents = [(number, length, piece) for number, (length, piece) in enumerate(one for row in rows for one in row)]
    columns: Columns = {
        "tokens": [np.arange(SIZE * piece + length) + 1000 * (number + 1) for number, length, piece in documents],
        "labels": [np.full(SIZE * piece + length, number, np.int8) for number, length, piece in documents],
    }
    found = Packing(SIZE, False, {"tokens": 0, "labels": -100})(columns, request_of(rows), np.empty)
    tokens, labels, positions, owners, starts = [], [], [], [], {len(rows) * SIZE}
    numbers = iter(range(len(documents)))
    for at, row in enumerate(rows):
        begin = at * SIZE
        for within, (length, piece) in enumerate(row):
            number = next(numbers)
            starts |= {begin, begin + length}
            begin += length
            tokens += [1000 * (number + 1) + SIZE * piece + k for k in range(length)]
            labels += [number] * length
            positions += list(range(length))
            owners += [within] * length
        rest = (at + 1) * SIZE - begin
        tokens, labels = tokens + [0] * rest, labels + [-100] * rest
        positions, owners = positions + [0] * rest, owners + [-1] * rest
    shape = (len(rows), SIZE)
    for name, want in (("tokens", tokens), ("labels", labels), ("position_ids", positions), ("document_ids", owners)):
        assert found[name].shape == shape
        assert found[name].ravel().tolist() == want
    assert found["cu_seqlens"].tolist() == sorted(starts)
    kinds = [found[name].dtype for name in ("labels", "position_ids", "document_ids", "cu_seqlens")]
    assert kinds == [np.int8, np.int64, np.int32, np.int32]


@pytest.mark.parametrize(("piece", "length"), [(~0, SIZE + 1), (~1, 2 * SIZE + 1)])
def test_no_token_is_cut_off_unless_it_is_said(piece: int, length: int) -> None:
    """A field that says lengths may be wrong; without a look at the last piece, the rest would be in no row."""
    columns: Columns = {"x": [np.arange(length)]}
    request = request_of([[(SIZE, piece)]])
    with pytest.raises(SchemaError, match="longer than field"):
        Packing(SIZE, False, {})(columns, request, np.empty)
    cut = Packing(SIZE, True, {})(columns, request, np.empty)
    assert cut["x"][0, 0] == ~piece * SIZE


def test_documents_that_grew_beyond_their_row_are_refused() -> None:
    with pytest.raises(SchemaError, match="more than 8 tokens"):
        Packing(SIZE, False, {"x": 0})({"x": [np.ones(4), np.ones(5)]}, request_of([[(4, 0), (4, 0)]]), np.empty)


def test_fields_of_a_document_agree_in_length() -> None:
    columns: Columns = {"x": [np.ones(3)], "y": [np.ones(2)]}
    with pytest.raises(SchemaError, match="'x' and 'y' of a document differ in length"):
        Packing(SIZE, False, {"x": 0, "y": 0})(columns, request_of([[(3, 0)]]), np.empty)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.sampled_from([(), (2,)]))
def test_padding_fills_up_to_the_longest(lengths: list[int], inner: tuple[int, ...]) -> None:
    columns: Columns = {"x": [np.full((n, *inner), k, np.int16) for k, n in enumerate(lengths)], "y": np.array(lengths)}
    found = Padding({"x": -7})(columns, request_of([[(0, 0)] * len(lengths)]), np.empty)
    assert list(found) == ["x", "x_length", "y"]
    assert found["x_length"].tolist() == lengths
    assert found["x"].shape == (len(lengths), max(lengths), *inner)
    assert found["x"].dtype == np.int16
    for k, n in enumerate(lengths):
        assert (found["x"][k, :n] == k).all()
        assert (found["x"][k, n:] == -7).all()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([np.ones(2), np.ones(2, np.int8)], "float64.* and int8"),
        ([np.ones((2, 3)), np.ones((2, 2))], "in length alone"),
        ([1.0, 2.0], "in length alone"),
    ],
)
def test_values_that_differ_in_more_than_their_length_are_refused(column: list[Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        Padding({"x": 0})({"x": column}, request_of([[(0, 0)] * 2]), np.empty)


@pytest.mark.parametrize("layout", [Padding({"z": 0}), Packing(SIZE, False, {"z": 0})])
def test_a_missing_field_is_named(layout: Padding | Packing) -> None:
    with pytest.raises(SchemaError, match="'z'"):
        layout({"x": [np.ones(1)]}, request_of([[(1, 0)]]), np.empty)


@pytest.mark.parametrize("layout", [Padding({"z": 0}), Packing(SIZE, False, {"z": 0})])
def test_samples_that_are_no_dicts_are_refused(layout: Padding | Packing) -> None:
    with pytest.raises(SchemaError, match="dicts"):
        layout((np.ones((1, 1)),), request_of([[(1, 0)]]), np.empty)  # type: ignore[arg-type]
