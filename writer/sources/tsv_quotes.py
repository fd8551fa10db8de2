"""Whether the quotes of a TSV file quote, as in CSV, or are characters, as corpora have them.

TSV has no rule for it, so the whole file decides. It is quoted when every quote belongs to a cell that is quoted from
its first character to its last on one line, with quotes inside doubled. Else quotes are characters if each line then
has as many cells as the first. Else cells in quotes may span lines, if that gives each row as many cells as the first
and no such cell holds a tab: a cell with both looks like rows that a stray quote has swallowed.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO

from recordio.writer.sources.table_types import long_cells

_MAX_CELL_LINES = 10_000
_QUOTED = rb'"[^"]*(?:""[^"]*)*"'
_CELL = rb'(?:[^"\t\r\n]*|' + _QUOTED + rb")"
_QUOTED_LINE = re.compile(_CELL + rb"(?:\t" + _CELL + rb")*\r?\n?")
_QUOTED_CELL = re.compile(_QUOTED)
_OPENING_QUOTE = re.compile(rb'(?:^|\t)"')


@dataclass(slots=True)
class _Lines:
    """What the lines of a file say. Each is the number of the first such line, 0 if there is none.

    Attributes:
        quoted: a line with a quote.
        unquoted: one whose quotes cannot be quoting, unless a cell spans lines.
        needed: one that would be read wrongly without quoting: it has a quoted tab or a doubled quote.
        opening: one with a cell that begins with a quote, where other readers begin a quoted cell.
        uneven: one that without quoting has more or fewer cells than the first line.
    """

    quoted: int = 0
    unquoted: int = 0
    needed: int = 0
    opening: int = 0
    uneven: int = 0


def find_quoting(file: IO[bytes]) -> tuple[bool, tuple[str, ...]]:
    """Whether quotes quote, and a note where another reader may well choose otherwise.

    Reads the file from where it stands, to its end.
    """
    start = file.tell()
    seen = _look(file)
    if not seen.quoted:
        return False, ()
    if not seen.unquoted:
        note = f"the quotes around cells are taken as quoting (the first is in line {seen.quoted})"
        return True, () if seen.needed else (note,)
    file.seek(start)
    if seen.uneven and _spans_lines(file):
        note = f"quotes are taken as quoting: a cell that begins in line {seen.unquoted} spans several lines"
        return True, (note,)
    note = f"quotes are kept as characters: those of line {seen.unquoted} do not enclose whole cells"
    return False, (note,) if seen.opening else ()


def _look(lines: Iterable[bytes]) -> _Lines:
    seen, tabs = _Lines(), -1
    for number, line in enumerate(lines, 1):
        plain = quoting = line.count(b"\t")
        whole = True
        if b'"' in line:
            whole = _QUOTED_LINE.fullmatch(line) is not None
            quoting = _QUOTED_CELL.sub(b"", line).count(b"\t") if whole else plain
        if tabs < 0 and line.strip(b"\r\n"):
            tabs = quoting  # of the column names
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
    """Whether the file is whole as CSV, each row with as many cells as the first."""
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
    """The rows of a file as CSV. A quote that is open for too many lines is an error before it has taken all memory."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines, self._taken = lines, 0

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
