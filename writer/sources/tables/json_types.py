"""Infers the field of each key of JSON objects. Every value is inspected, so no line fails later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recordio.format.fields import Field, Object, Text
from recordio.format.numeric import Array, Scalar

INT64 = range(-(1 << 63), 1 << 63)
_EXACT_IN_FLOAT = 1 << 53
_MAX_DIMENSIONS = 32  # of an array; deeper lists are objects, which bounds the recursion


class JsonColumn:
    """The values of one key: numbers, text, arrays of one dtype and rank; anything else is an Object.

    Integers become float64 beside others, in an array as in a column, where all of them are kept exactly.
    """

    def __init__(self) -> None:
        self.seen = 0
        self._types: set[type] = set()
        self._numbers = _Numbers()
        self._shapes: set[tuple[int, ...]] | None = set()  # None: some list is no array

    def see(self, value: Any) -> None:
        """Inspects the value in one more row."""
        if value is None:
            return
        self.seen += 1
        self._types.add(type(value))
        if type(value) is list:
            self._see_list(value)
        else:
            self._numbers.see((value,))

    def _see_list(self, value: list[Any]) -> None:
        if self._shapes is None:
            return
        shape = _shape(value, self._numbers)
        if shape is None:
            self._shapes = None
        else:
            self._shapes.add(shape)

    def field(self, rows: int) -> Field:
        optional = self.seen < rows
        if self._types == {str}:
            return Text(optional=optional)
        if self._types == {list}:
            return self._array(optional) or Object(optional=optional)
        dtype = self._numbers.dtype if list not in self._types else None
        return Scalar(dtype, optional=optional) if dtype else Object(optional=optional)

    def _array(self, optional: bool) -> Field | None:
        dtype = self._numbers.dtype
        if dtype is None or not self._shapes or len(set(map(len, self._shapes))) > 1:
            return None
        sizes = map(set, zip(*self._shapes, strict=True))
        return Array(dtype, tuple(size.pop() if len(size) == 1 else None for size in sizes), optional=optional)


class _Numbers:
    """Which dtype holds some values exactly."""

    def __init__(self) -> None:
        self._types: set[type] = set()
        self._least = self._most = 0

    def see(self, values: Sequence[Any]) -> bool:
        """Whether the values, one or more, are numbers of one kind so far."""
        types = set(map(type, values))
        self._types |= types
        if int in types:
            ints = values if len(types) == 1 else [value for value in values if type(value) is int]
            self._least, self._most = min(self._least, *ints), max(self._most, *ints)
        return self._types == {bool} or self._types <= {int, float}

    @property
    def dtype(self) -> str | None:
        if self._types == {bool}:
            return "bool"
        if self._types == {int} and self._least in INT64 and self._most in INT64:
            return "int64"
        mixed = float in self._types and self._types <= {int, float}
        exact = -_EXACT_IN_FLOAT <= self._least and self._most <= _EXACT_IN_FLOAT
        return "float64" if mixed and exact else None


def _shape(value: list[Any], numbers: _Numbers, depth: int = 1) -> tuple[int, ...] | None:
    """The shape of a regular nested list of numbers, None for other lists."""
    if not value:
        return (0,)
    if depth > _MAX_DIMENSIONS:
        return None
    if type(value[0]) is not list:
        return (len(value),) if numbers.see(value) else None
    shapes = {_shape(row, numbers, depth + 1) if type(row) is list else None for row in value}
    inner = shapes.pop()
    return None if shapes or inner is None else (len(value), *inner)
