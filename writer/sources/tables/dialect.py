"""How the rows of a text table are cut into cells, as its first rows show."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from recordio.writer.sources.tables.cell_types import is_number

DELIMITERS = (",", ";", "\t", "|")
_SHOWN = {"\t": "tabs", " ": "spaces"}
_ROWS = 200
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How rows are cut into cells.

    Attributes:
        delimiter: one character.
        quoted: whether quotes are quoting, as in CSV, or plain characters.
        spaced: whether the spaces after each delimiter belong to it, so that a run of spaces is one.
    """

    delimiter: str
    quoted: bool = True
    spaced: bool = False

    def reader(self, lines: Iterable[str], strict: bool = True) -> Any:
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        return csv.reader(lines, delimiter=self.delimiter, quoting=quoting, strict=strict, skipinitialspace=self.spaced)

    def first_rows(self, head: list[str], whole: bool) -> list[list[str]]:
        """The first rows of some lines, blank ones left out. The last is dropped where the lines may end within it."""
        rows: list[list[str]] = []
        try:
            for row in self.reader(head, strict=False):
                if not blank(row):
                    rows.append(row)
                if len(rows) == _ROWS:
                    return rows
        except csv.Error:  # a quote left open: what was read before decides
            return rows
        return rows if whole else rows[:-1]


def blank(row: list[str]) -> bool:
    """Whether a row is that of a line with nothing but spaces in it."""
    return not row or (len(row) == 1 and row[0].isspace())


def separator_line(line: str) -> str | None:
    """The delimiter that a first line "sep=;", as spreadsheets write it, names."""
    found = _SEPARATOR_LINE.fullmatch(line)
    return found[1] if found else None


def find_delimiter(head: list[str], expected: str, whole: bool) -> tuple[str, str | None]:
    """The delimiter of a table, and a note where another one was likely.

    `expected` is the one that the file's name says. It gives way to one that cuts the first rows into as many cells,
    two or more, unless it does so itself; tabs never do.
    """
    widths = {mark: [len(row) for row in Dialect(mark).first_rows(head, whole)] for mark in DELIMITERS}
    even = {mark: found[0] for mark, found in widths.items() if len(set(found)) == 1 and found[0] > 1}
    named = {mark: found[0] for mark, found in widths.items() if found and found[0] > 1}
    # Without an even one, the first line decides.
    likely = even or ({} if expected in named else named)
    best = max(likely, key=lambda mark: (likely[mark], mark == expected), default=expected)
    others = [mark for mark, width in even.items() if mark != expected and width == even.get(expected)]
    if others:
        return expected, _note(f"{shown(expected)}, although {shown(others[0])} would do")
    if best == expected:
        spaced = expected != "\t" and not named and _is_aligned(Dialect(" ", spaced=True).first_rows(head, whole))
        return (" ", _note("spaces")) if spaced else (expected, None)
    if expected == "\t":
        return expected, _note(f"tabs, although {shown(best)} would do")
    return best, _note(shown(best))


def _note(separator: str) -> str:
    return f"cells are taken as separated by {separator}; delimiter= (--delimiter) says otherwise"


def _is_aligned(rows: list[list[str]]) -> bool:
    """Whether runs of spaces cut lines into as many cells, with numbers among them. Lines of words are text."""
    widths = {len(row) for row in rows[1:]}
    if len(widths) != 1 or len(rows[0]) < 2 or len(rows[0]) - min(widths) not in (0, -1):
        return False
    return any(all(map(is_number, cells)) for cells in zip(*rows[1:], strict=True))


def shown(delimiter: str) -> str:
    return _SHOWN.get(delimiter, repr(delimiter))


def is_spaced(rows: list[list[str]]) -> bool:
    """Whether a space follows every delimiter, in the first line as well."""
    return len(rows) > 1 and len(rows[0]) > 1 and all(cell.startswith(" ") for row in rows for cell in row[1:])


def listed(names: list[str]) -> str:
    """Some names for a message, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name[:80]) for name in names[:5]) + more
