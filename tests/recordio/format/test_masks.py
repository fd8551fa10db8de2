"""What lies under a mask: never a number that could be a value."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recordio.format.masks import masked_column, missing_rows, missing_value


@pytest.mark.parametrize("dtype", "f2 f4 f8".split())
def test_a_missing_float_is_nan(dtype: str) -> None:
    assert math.isnan(missing_value(np.dtype(dtype)))


@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_a_missing_complex_number_is_nan_in_both_parts(dtype: str) -> None:
    found = missing_value(np.dtype(dtype))
    assert math.isnan(found.real)
    assert math.isnan(found.imag)


@pytest.mark.parametrize(
    ("dtype", "wanted"), [("i1", -128), ("i8", -(2**63)), ("u1", 255), ("u8", 2**64 - 1), ("bool", False)]
)
def test_a_missing_integer_is_the_most_unlikely_one(dtype: str, wanted: int) -> None:
    assert missing_value(np.dtype(dtype)) == wanted
    assert np.array(missing_value(np.dtype(dtype)), dtype) == wanted


def test_a_value_is_masked_as_a_whole() -> None:
    column = masked_column(np.arange(6, dtype=np.int16).reshape(3, 2), np.array([False, True, False]))
    assert column.tolist() == [[0, 1], [None, None], [4, 5]]
    assert column.data.tolist() == [[0, 1], [-(2**15)] * 2, [4, 5]]
    assert missing_rows(column).tolist() == [False, True, False]


def test_a_column_with_nothing_missing_has_a_mask_of_its_own() -> None:
    column = masked_column(np.arange(3), np.zeros(3, bool))
    assert column.mask.tolist() == [False] * 3
    column[1] = np.ma.masked
    assert column.tolist() == [0, None, 2]
