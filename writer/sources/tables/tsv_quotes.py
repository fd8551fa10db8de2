"""Decides whether quotes in a TSV file are quoting, as in CSV, or plain characters, as in text corpora.

TSV has no rule for it, so the whole file decides:
1. Quoting, if every quote belongs to a cell that is quoted from first to last character on one line, inner quotes
   doubled.
2. Otherwise characters, if every line then has as many cells as the first.
3. Otherwise quoting across lines, if every row then has as many cells as the first and no such cell holds a tab: a cell
   with both looks like rows swallowed by a stray quote.
4. Otherwise characters.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from recordio.writer.sources.tables.cell_types import long_cells

_MAX_CELL_LINES = 10_000
_QUOTED = rb'"[^"]*(?:""[^"]*)*"'
_CELL = rb'(?:[^"\t\r\n]*|' + _QUOTED + rb")"
_QUOTED_LINE = re.compile(_CELL + rb"(?:\t" + _CELL + rb")*\r?\n?")
_QUOTED_CELL = re.compile(_QUOTED)
_OPENING_QUOTE = re.compile(rb'(?:^|\t)"')


@dataclass(slots=True)
class _Lines:
    """Evidence found in a file: the number of the first line of each sort, 0 for none.

    Attributes:
        quoted: has a quote.
        unquoted: has quotes that cannot be quoting unless a cell spans lines.
        needed: would be misread without quoting: has a quoted tab or a doubled quote.
        opening: has a cell that begins with a quote; other readers would start a quoted cell.
        uneven: without quoting, has more or fewer cells than the first line.
    """

    quoted: int = 0
    unquoted: int = 0
    needed: int = 0
    opening: int = 0
    uneven: int = 0


def find_quoting(lines: Callable[[], Iterable[bytes]]) -> tuple[bool, tuple[str, ...]]:
    """Whether quotes are quoting, and a note if another reader may well decide otherwise.

    `lines` begins to read the lines of the file, each time that it is called.
    """
    seen = _inspect(lines())
    if not seen.quoted:
        return False, ()
    if not seen.unquoted:
        note = f"the quotes around cells are taken as quoting (the first is in line {seen.quoted})"
        return True, () if seen.needed else (note,)
    if seen.uneven and _spans_lines(lines()):
        note = f"quotes are taken as quoting: a cell that begins in line {seen.unquoted} spans several lines"
        return True, (note,)
    note = f"quotes are kept as characters: those of line {seen.unquoted} do not enclose whole cells"
    return False, (note,) if seen.opening else ()


def _inspect(lines: Iterable[bytes]) -> _Lines:
    seen, tabs = _Lines(), -1
    for number, line in enumerate(lines, 1):
        plain = quoting = line.count(b"\t")
        whole = True
        if b'"' in line:
            whole = _QUOTED_LINE.fullmatch(line) is not None
            quoting = _QUOTED_CELL.sub(b"", line).count(b"\t") if whole else plain
        if tabs < 0 and line.strip(b"\r\n"):
            tabs = quoting  # the header line
        if plain != tabs and line.strip(b"\r\n"):
            seen.uneven = seen.uneven or number
        if b'"' in line:
            seen.quoted = seen.quoted or number
            if not whole or (quoting != tabs and plain == tabs):
                seen.unquoted = seen.unquoted or number
            elif quoting != plain or any(b'""' in cell[1:-1] for cell in _QUOTED_CELL.findall(line)):
                seen.needed = seen.needed or number
            if _OPENING_QUOTE.search(line):
                seen.opening = seen.opening or number
    return seen


def _spans_lines(lines: Iterable[bytes]) -> bool:
    """Whether the file parses as CSV with as many cells in each row as in the first."""
    rows = iter(_Rows(lines))
    with long_cells():
        try:
            first = next((row for row in rows if row), [])
            return all(_plausible(row, len(first)) for row in rows if row)
        except csv.Error:
            return False


def _plausible(row: list[str], cells: int) -> bool:
    return len(row) == cells and not any("\n" in cell and "\t" in cell for cell in row)


class _Rows:
    """The rows of a file as CSV. Raises csv.Error for a quote open over too many lines, before memory runs out."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = lines
        self._taken = 0

    def __iter__(self) -> Iterator[list[str]]:
        for row in csv.reader(self._texts(), delimiter="\t", strict=True):
            self._taken = 0
            yield row

    def _texts(self) -> Iterator[str]:
        for line in self._lines:
            self._taken += 1
            if self._taken > _MAX_CELL_LINES:
                raise csv.Error("a quote is not closed")
            yield line.decode("utf-8", "replace")
