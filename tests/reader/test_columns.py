"""Columns built value by value: arrays of one shape are stacked, anything else becomes a list."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recordio.reader import columns
from recordio.reader.columns import ColumnBuilder

A, B = np.arange(6).reshape(2, 3), np.arange(4)


def column(values: list[Any]) -> Any:
    builder = ColumnBuilder(len(values))
    for value in values:
        builder.put(value)
    return builder.done()


@pytest.mark.parametrize("ahead", [0, 1 << 30])
def test_arrays_of_one_shape_are_stacked_and_others_listed(monkeypatch: pytest.MonkeyPatch, ahead: int) -> None:
    monkeypatch.setattr(columns, "_MAX_AHEAD", ahead)
    np.testing.assert_array_equal(column([A, A + 1, A + 2]), np.stack([A, A + 1, A + 2]), strict=True)
    np.testing.assert_array_equal(column([1, 2]), [1, 2])
    assert column([]) == []
    for values in ([A, B, A], [A, A, A.astype(float)], [A, None], [None, A], [A, "text"]):
        found = column(values)
        assert isinstance(found, list)
        for value, expected in zip(found, values, strict=True):
            np.testing.assert_array_equal(value, expected)


def test_one_huge_array_reserves_no_memory_for_others() -> None:
    huge = np.broadcast_to(np.uint8(7), (1 << 40,))
    found = column([huge, A, B])
    assert [value.shape for value in found] == [huge.shape, A.shape, B.shape]


@pytest.mark.parametrize("mask", [[False, True, False, False], True])
def test_masked_arrays_stay_masked(mask: Any) -> None:
    masked = np.ma.masked_array(B, mask)
    for values in ([masked, masked], [B, masked], [masked, B]):
        for found in (column(values), columns.collate([{"x": value} for value in values])["x"]):
            assert isinstance(found, np.ma.MaskedArray)
            for row, value in zip(found, values, strict=True):
                assert row.tolist() == value.tolist()


RECORD = np.dtype([("a", "<u8"), ("b", "S3"), ("c", object)])
INNER = np.empty(2, object)
INNER[:] = [A, B]


@pytest.mark.parametrize(
    "value",
    [A, A[:, ::-1], A[:0], np.float16(1), np.datetime64(3, "s"), np.str_("abc"), np.array(["a", "bc"]), np.array(5),
     np.zeros(2, RECORD), np.zeros(2, RECORD)[0], np.array([[1], [2, 3]], object), np.array({"a": 1}, object), INNER],
    ids=str,
)  # fmt: skip
def test_values_of_one_dtype_and_shape_are_stacked(value: Any) -> None:
    found, wanted = columns.collate([{"x": value}] * 3)["x"], np.stack([value] * 3)
    assert (found.dtype, found.shape, repr(found)) == (wanted.dtype, wanted.shape, repr(wanted))
