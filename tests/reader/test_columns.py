"""Samples to columns: nested as they are, arrays of one shape are stacked, anything else becomes a list."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from recordio import SchemaError
from recordio.reader import columns
from recordio.reader.columns import ColumnBuilder

Pair = namedtuple("Pair", "first second")


@dataclass(frozen=True)
class Box:
    width: int


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


def plain(value: Any) -> Any:
    """A batch with lists for arrays, to compare."""
    if isinstance(value, np.ndarray):
        return "array", value.dtype.name, value.tolist()
    if isinstance(value, Mapping):
        return type(value), {name: plain(one) for name, one in value.items()}
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else value


INTS, FLOATS = ("array", "int64", [1, 2]), ("array", "float64", [1.5, 2.5])


@pytest.mark.parametrize(
    ("samples", "wanted"),
    [
        ([1, 2], INTS),
        ([1.5, 2.5], FLOATS),
        ([1, 2.5], ("array", "float64", [1.0, 2.5])),
        ([True, False], ("array", "bool", [True, False])),
        (["a", "b"], ["a", "b"]),
        ([(1, 1.5), (2, 2.5)], (INTS, FLOATS)),
        ([[1, 1.5], [2, 2.5]], [[1, 1.5], [2, 2.5]]),
        ([("a", (1,)), ("b", (2,))], (["a", "b"], (INTS,))),
        ([[1], [2, 3]], [[1], [2, 3]]),
        ([[], []], [[], []]),
        ([{"a": {"b": 1}}, {"a": {"b": 2}}], (dict, {"a": (dict, {"b": INTS})})),
        ([{"a": ["x"]}, {"a": ["y"]}], (dict, {"a": [["x"], ["y"]]})),
        ([{"a": {"b": 1}}, {"a": {"c": 2}}], (dict, {"a": [(dict, {"b": 1}), (dict, {"c": 2})]})),
        ([{"a": (1, 2)}, {"a": "x"}], (dict, {"a": [(1, 2), "x"]})),
        ([{"a": None}, {"a": 1}], (dict, {"a": [None, 1]})),
        ([{"a": Box(1)}, {"a": Box(2)}], (dict, {"a": [Box(1), Box(2)]})),
        ([{"a": {1}}, {"a": {2}}], (dict, {"a": [{1}, {2}]})),
        ([OrderedDict(a=1), OrderedDict(a=2)], (OrderedDict, {"a": INTS})),
        ([UserDict(a=1), UserDict(a=2)], (UserDict, {"a": INTS})),
        ([MappingProxyType({"a": 1}), {"a": 2}], (MappingProxyType, {"a": INTS})),
    ],
    ids=str,
)  # fmt: skip
def test_a_batch_is_nested_as_its_samples(samples: list[Any], wanted: Any) -> None:
    found = columns.collate(samples)
    assert plain(found) == wanted
    assert plain(columns.collate([{"x": one} for one in samples])["x"]) == wanted


def test_named_tuples_stay_named() -> None:
    found = columns.collate([Pair(1, "a"), Pair(2, "b")])
    assert isinstance(found, Pair)
    assert (found.first.tolist(), found.second) == ([1, 2], ["a", "b"])


@pytest.mark.parametrize(
    "samples",
    [[{"a": 1}, {"b": 1}], [(1,), (1, 2)], [{"a": 1}, (1,)], [1, {"a": 1}], [None, None], [1, None],
     [{"a": (1, 2)}, {"a": (3,)}]],
    ids=str,
)  # fmt: skip
def test_samples_that_differ_are_refused(samples: list[Any]) -> None:
    with pytest.raises(SchemaError, match=r"dicts with the same keys or tuples of the same length, .* collate_fn"):
        columns.collate(samples)


def test_lists_are_turned_over_for_torch_alone_and_never_by_chance() -> None:
    assert plain(columns.collate_as_torch([[1, 1.5], [2, 2.5]])) == [INTS, FLOATS]
    assert columns.collate([[1], [2, 3]]) == [[1], [2, 3]]
    for samples in ([[1], [2, 3]], [{"a": [1]}, {"a": [2, 3]}]):
        with pytest.raises(SchemaError, match="not a list of 1 and a list of 2: return arrays"):
            columns.collate_as_torch(samples)


@pytest.mark.parametrize("values", [[(1, 2), (3, 4)], [[1], [2]], [{"a": 1}, {"a": 2}]], ids=str)
def test_the_column_of_a_field_has_a_value_for_each_sample(values: list[Any]) -> None:
    assert column(values) == values
