"""Infers the field of each column of a text table. Every cell is inspected, so no row fails later.

A type must keep every cell exactly: `007` and integers beyond 64 bits stay text. Spaces around numbers do not count.
"""

from __future__ import annotations

import csv
import math
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from recordio.errors import SourceError
from recordio.format.fields import Field, Text
from recordio.format.numeric import Scalar

INT64 = range(-(1 << 63), 1 << 63)
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NANS = frozenset(("nan", "NaN", "-nan", "-NaN"))
# What pandas takes as missing. In a column of text it may be a word, so there it is one.
MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "None")
).union(("n/a", "null"), _NANS)
_INT = r"-?(?:0|[1-9][0-9]{0,18})"
_FLOAT = (
    r"[+-]?(?:(?:0|[1-9][0-9]{0,14})|(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+|(?:0|[1-9][0-9]*)(?=e))(?:e[+-]?[0-9]+)?"
    r"|nan|inf|infinity)"
)
_LONG_INT = re.compile(r"[+-]?[1-9][0-9]{15,39}", re.ASCII)
_COMMA_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,3}(?:[.'\u00a0 ][0-9]{3})+|[0-9]+),[0-9]+(?:e[+-]?[0-9]+)?", re.IGNORECASE)
_MAY_LOSE = re.compile(r"[0-9]{16}|e-[0-9]{3}", re.IGNORECASE)  # more digits, or less, than a float64 may keep
_IS_FLOAT = re.compile(_FLOAT, re.IGNORECASE)
# Each matches at a cell that is not of its type, in cells joined by newlines.
_NO_INT = re.compile(rf"^(?!{_INT}$)", re.MULTILINE)
_NO_FLOAT = re.compile(rf"^(?!{_FLOAT}$)", re.MULTILINE | re.IGNORECASE)


@contextmanager
def long_cells() -> Iterator[None]:
    """Lifts the csv module's limit of 128 KiB per cell, which is global to the process."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def is_number(cell: str) -> bool:
    """Whether a cell is written as a number, spaces around it aside. Its value may be too large to be kept exactly."""
    bare = cell.strip()
    return _IS_FLOAT.fullmatch(bare) is not None or (bare.lstrip("+-").isdecimal() and bare.isascii())


def _all_ints(cells: Iterable[str], lines: str) -> bool:
    return _NO_INT.search(lines) is None and all(len(cell) < 19 or int(cell) in INT64 for cell in cells)


def _all_floats(cells: Iterable[str], lines: str) -> bool:
    if _NO_FLOAT.search(lines) is None:
        return _MAY_LOSE.search(lines) is None or all(map(_is_float, cells))
    return any("." in cell for cell in cells) and all(map(_is_float, cells))


def _is_float(cell: str) -> bool:
    """Whether a cell is a number that a float64 keeps; of integers, exactly."""
    if _IS_FLOAT.fullmatch(cell):
        return _kept(cell)
    return _LONG_INT.fullmatch(cell) is not None and int(float(cell)) == int(cell)


def _kept(cell: str) -> bool:
    """Whether a float64 keeps the integer part of a number, and does not make 0 of it."""
    digits, _, exponent = cell.lower().partition("e")
    whole = digits.partition(".")[0].lstrip("+-")
    if len(whole) > 15 and whole.isdigit() and not exponent:
        return int(float(whole)) == int(whole)
    return float(cell) != 0 or not digits.strip("+-0.")


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

    A missing cell makes a column of numbers optional: one that is empty or in MISSING, though NaN is a value of a
    float64. In a column of text these are text, the empty text included.

    Args:
        missing: more cells that are missing, in a column of text too.

    Attributes:
        seen_missing: the cells found that may be missing, the empty one included.
        stray: the first cell that made a column of numbers text, None without one.
        comma: a number with a comma, if all cells of a column of text are numbers, some with one; None otherwise.
    """

    def __init__(self, missing: Collection[str] = ()) -> None:
        self._given = frozenset(missing)
        self._missing = MISSING | self._given
        self._candidates = list(_CELLS)
        self._any_full = self._spaces = False
        self._numbers = 0  # cells found that were numbers, each counted once a call
        self.seen_missing: set[str] = set()
        self.stray: str | None = None
        self._first_comma: str | None = None
        self._words = False

    def see(self, cells: Sequence[str]) -> None:
        """Inspects the next cells of the column."""
        distinct = set(cells)
        if self._candidates:
            bare = {cell.strip(" \t") for cell in distinct}
            self._spaces |= bare != distinct
            distinct = bare
        self.seen_missing |= distinct & self._missing
        distinct -= self._missing
        if not distinct:
            return
        self._any_full = True
        if self._candidates:
            self._narrow(distinct)
        if not self._candidates and not self._words:
            self._look_for_commas(distinct)

    def _look_for_commas(self, distinct: set[str]) -> None:
        commas = {cell for cell in distinct if "," in cell and _COMMA_NUMBER.fullmatch(cell.strip())}
        self._words = not all(is_number(cell) for cell in distinct - commas)
        self._first_comma = self._first_comma or min(commas, default=None)

    @property
    def comma(self) -> str | None:
        return None if self._words or self.dtype else self._first_comma

    def _narrow(self, distinct: set[str]) -> None:
        lines = "\n".join(distinct)
        if lines.count("\n") != len(distinct) - 1:
            self._candidates = []
            return
        numeric = self._candidates != ["bool"]
        self._candidates = [name for name in self._candidates if _CELLS[name][0](distinct, lines)]
        if self._candidates:
            self._numbers += len(distinct)
        elif numeric:
            strays = sorted(cell for cell in distinct if not _is_float(cell))
            numbers = self._numbers + len(distinct) - len(strays)
            # A few among many numbers are worth a note; in a column of words, numbers are words.
            if numbers >= max(2, 9 * (len(strays) - 1)):
                self.stray = next(iter(strays), min(distinct))

    @property
    def dtype(self) -> str | None:
        """The type of a column of numbers, None for one of text."""
        if not self._any_full:
            return "float64" if self._nans else None
        return self._candidates[0] if self._candidates else None

    @property
    def _nans(self) -> set[str]:
        return (self.seen_missing & _NANS) - self._given

    @property
    def empty(self) -> bool:
        """Whether no cell has anything in it."""
        return not self._any_full and self.seen_missing <= {""}

    def absent(self) -> set[str]:
        """The cells found that are missing in this column."""
        if self.dtype == "float64":
            return self.seen_missing - self._nans
        if self.dtype or not (self._any_full or self.empty):
            return set(self.seen_missing)
        return self.seen_missing & self._given

    def field(self) -> Field:
        dtype, optional = self.dtype, bool(self.absent())
        return Scalar(dtype, optional=optional) if dtype else Text(optional=optional)

    def parse(self) -> Callable[[str], Any]:
        """The function that parses a cell."""
        absent = frozenset(self.absent())
        plain = _CELLS[self.dtype][1] if self.dtype else str
        if self.dtype and self._spaces:
            return lambda cell: None if (bare := cell.strip(" \t")) in absent else plain(bare)
        if absent:
            return lambda cell: None if cell in absent else plain(cell)
        return plain
