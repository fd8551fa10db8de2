"""Infers the field of each column of a table. Every cell is inspected, so no row fails later.

A type must keep every cell exactly: `007` and integers beyond 64 bits stay text.
"""

from __future__ import annotations

import csv
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from recordio.errors import SourceError
from recordio.format.fields import Field, Object, Text
from recordio.format.numeric import Array, Scalar

INT64 = range(-(1 << 63), 1 << 63)
_EXACT_IN_FLOAT = 1 << 53
_MAX_DIMENSIONS = 32  # of an array; deeper lists are objects, which bounds the recursion
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# Each matches at a cell that is not of its type, in cells joined by newlines.
_NO_INT = re.compile(r"^(?!-?(?:0|[1-9][0-9]{0,18})$)", re.MULTILINE)
_NO_FLOAT = re.compile(
    r"^(?![+-]?(?:(?:0|[1-9][0-9]{0,14})|(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+|(?:0|[1-9][0-9]*)(?=e))(?:e[+-]?[0-9]+)?"
    r"|nan|inf|infinity)$)",
    re.MULTILINE | re.IGNORECASE,
)


@contextmanager
def long_cells() -> Iterator[None]:
    """Lifts the csv module's limit of 128 KiB per cell, which is global to the process."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _all_ints(cells: Iterable[str], lines: str) -> bool:
    return _NO_INT.search(lines) is None and all(len(cell) < 19 or int(cell) in INT64 for cell in cells)


def _all_floats(cells: Iterable[str], lines: str) -> bool:
    return _NO_FLOAT.search(lines) is None


def _all_bools(cells: Iterable[str], lines: str) -> bool:
    return _BOOLS.keys() >= set(cells)


def _float(cell: str) -> float:
    value = float(cell)
    if math.isinf(value) and "n" not in cell.lower():
        raise SourceError(f"{cell[:40]!r} is too large for a float64")
    return value


_CELLS: dict[str, tuple[Callable[[Iterable[str], str], bool], Callable[[str], Any]]] = {
    "bool": (_all_bools, _BOOLS.__getitem__),
    "int64": (_all_ints, int),
    "float64": (_all_floats, _float),
}


class CellColumn:
    """A column of text cells: the narrowest of bool, int64, float64 and text that fits all of them.

    An empty cell makes a column of numbers optional; in a column of text it is an empty text.
    """

    def __init__(self) -> None:
        self._candidates = list(_CELLS)
        self._any_empty = self._any_full = False

    def see(self, cells: Sequence[str]) -> None:
        """Inspects the next cells of the column."""
        distinct = set(cells)
        self._any_empty |= "" in distinct
        distinct.discard("")
        if not distinct:
            return
        self._any_full = True
        lines = "\n".join(distinct)
        if lines.count("\n") != len(distinct) - 1:
            self._candidates = []
        self._candidates = [name for name in self._candidates if _CELLS[name][0](distinct, lines)]

    def _dtype(self) -> str | None:
        return self._candidates[0] if self._candidates and self._any_full else None

    def field(self) -> Field:
        dtype = self._dtype()
        return Scalar(dtype, optional=self._any_empty) if dtype else Text()

    def parse(self) -> Callable[[str], Any]:
        """The function that parses a cell."""
        dtype = self._dtype()
        if dtype is None:
            return str
        plain = _CELLS[dtype][1]
        return lambda cell: plain(cell) if cell else None


def _list_type(value: list[Any], depth: int = 1) -> tuple[str | None, tuple[int, ...]] | None:
    """(kind, shape) of a regular nested list of numbers, None for other lists. Without numbers the kind is None."""
    if depth > _MAX_DIMENSIONS:
        return None
    types = set(map(type, value))
    if not types:
        return None, (0,)
    if types == {list}:
        inner = [_list_type(row, depth + 1) for row in value]
        found = {row[1] for row in inner if row}
        if None in inner or len(found) != 1:
            return None
        return _join_kinds({row[0] for row in inner if row}), (len(value), *found.pop())
    if types == {bool}:
        return "bool", (len(value),)
    if types == {int}:
        return ("int64", (len(value),)) if min(value) in INT64 and max(value) in INT64 else None
    return ("float64", (len(value),)) if types == {float} else None


def _join_kinds(kinds: set[str | None]) -> str | None:
    kinds = kinds - {None}
    if len(kinds) > 1:
        return "object"
    return kinds.pop() if kinds else None


class JsonColumn:
    """The values of one key: numbers, text, arrays of one dtype and rank; anything else is an Object."""

    def __init__(self) -> None:
        self.seen = 0
        self._types: set[type] = set()
        self._exact_in_float = self._fits_int64 = True
        self._arrays: set[tuple[str | None, tuple[int, ...]]] | None = set()

    def see(self, value: Any) -> None:
        """Inspects the value in one more row."""
        if value is None:
            return
        self.seen += 1
        self._types.add(type(value))
        if type(value) is int:
            self._fits_int64 &= value in INT64
            self._exact_in_float &= -_EXACT_IN_FLOAT <= value <= _EXACT_IN_FLOAT
        elif type(value) is list and self._arrays is not None:
            found = _list_type(value)
            if found is None:
                self._arrays = None
            else:
                self._arrays.add(found)

    def field(self, rows: int) -> Field:
        optional = self.seen < rows
        if self._types == {str}:
            return Text(optional=optional)
        if self._types == {bool}:
            return Scalar("bool", optional=optional)
        if self._types == {int} and self._fits_int64:
            return Scalar("int64", optional=optional)
        if float in self._types and self._types <= {int, float} and self._exact_in_float:
            return Scalar("float64", optional=optional)
        return self._array(optional) or Object(optional=optional)

    def _array(self, optional: bool) -> Field | None:
        if self._types != {list} or not self._arrays:
            return None
        kind = _join_kinds({kind for kind, _ in self._arrays})
        shapes = [shape for _, shape in self._arrays]
        if kind in (None, "object") or len(set(map(len, shapes))) > 1:
            return None
        sizes = map(set, zip(*shapes, strict=True))
        return Array(kind, tuple(size.pop() if len(size) == 1 else None for size in sizes), optional=optional)
