"""Whether the first row of a table names its columns, and the names that the columns get."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from recordio.errors import SourceError
from recordio.format.layout import MAX_FIELDS
from recordio.writer.sources.leftovers import counted
from recordio.writer.sources.tables.cell_types import MISSING, is_number
from recordio.writer.sources.tables.dialect import listed
from recordio.writer.sources.tables.table_options import TableOptions

_SAY_SO = "say so with header=True (--header) or header=False (--no-header)"


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table.

    Attributes:
        names: one each, all different.
        unnamed: those that the file gives no name, by number.
        header: whether the first row holds the names.
        notes: what was guessed or changed.
    """

    names: list[str]
    unnamed: frozenset[int]
    header: bool
    notes: tuple[str, ...] = ()


def find_columns(rows: list[list[str]], options: TableOptions) -> Columns:
    """The columns of a table by its first rows, blank ones left out. Raises SourceError where it is not certain."""
    _require_few(rows)
    header, notes = options.header, []
    if header is None:
        header, reason = _decide(rows, options.columns)
        if header and reason:
            notes.append(f"the first line is taken as names, {reason}; header=False (--no-header) makes it a row")
        elif not header:
            notes.append(f"the first line is taken as a row, as {reason}; header=True (--header) makes it names")
    names = [name.strip() for name in rows[0]] if header else [f"column_{k}" for k in range(len(rows[0]))]
    if header and (spaced := [name for name in rows[0] if name != name.strip()]):
        notes.append(f"the spaces around the names of columns are left out: {listed(spaced)}")
    below = rows[1:] if header else rows
    if header:
        names, more = _fit(names, below)
        notes += more
    if options.columns:
        if len(options.columns) != len(names):
            raise SourceError(
                f"columns= (--columns) names {counted(len(options.columns), 'column')}, the file has {len(names)}"
            )
        names = list(options.columns)
    elif not header:
        notes.append(f"columns are called {names[0]!r} to {names[-1]!r}; columns= (--columns) names them")
    if below and all(len(row) != len(names) for row in below):
        fault = f"the first line has {counted(len(names), 'cell')}, those below it have {len(below[0])}"
        raise SourceError(f"{fault}; if it is no part of the table, skip_lines=1 (--skip-lines 1) leaves it out")
    unnamed = frozenset(k for k, name in enumerate(names) if not name)
    names, twice = _all_different(names)
    if twice:
        notes.append(f"names that stand twice are numbered as in pandas: {listed(twice)}")
    return Columns(names, unnamed, header, tuple(notes))


def _require_few(rows: list[list[str]]) -> None:
    """Raises SourceError for more columns than a dataset may have fields."""
    most = max(map(len, rows))
    if most > MAX_FIELDS:
        raise SourceError(
            f"a line has {most:,} cells, and a dataset has at most {MAX_FIELDS:,} fields; numbers of such a length are "
            "read from .npy, and delimiter= (--delimiter) says what else cuts the lines"
        )


def _decide(rows: list[list[str]], columns: tuple[str, ...]) -> tuple[bool, str]:
    """Whether the first row names the columns, and why, for a note. Raises SourceError where it is not certain."""
    if columns and [name.strip() for name in rows[0]] == list(columns):
        return True, ""
    header, reason = find_header(rows)
    if columns and header:
        header, reason = None, "columns= (--columns) names them, and the first line may as well"
    if header is None:
        raise SourceError(f"does the first line name the columns, or is it a row? {reason}; {_SAY_SO}")
    return header, reason


def find_header(rows: list[list[str]]) -> tuple[bool | None, str]:
    """Whether the first row names the columns, None where it cannot be told; and why, where that is worth a note.

    Names stand above numbers, and are none. Where all columns are text, the first row is taken as names.
    """
    first, below = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    if not below:
        if len(rows) == 1 and all(map(is_number, first)):
            return False, "it is the only one, and has nothing but numbers in it"
        return True, ""
    columns = list(zip(*below, strict=True))
    numeric = [k for k, cells in enumerate(columns) if _all_numbers(cells)]
    numbers = [first[k].strip() for k in numeric if is_number(first[k])]
    if not numbers:
        return _text_header(first, columns)
    if any(first[k].strip() not in MISSING and not is_number(first[k]) for k in numeric):
        return True, f"although {numbers[0]!r} is a number"
    return _numeric_header([cell.strip() for cell in first], numbers, len(numeric) < len(first))


def _numeric_header(first: list[str], numbers: list[str], labelled: bool) -> tuple[bool | None, str]:
    """Decides about a first row whose only cells above numbers are numbers. `labelled`: there is a column of text."""
    measured = [cell for cell in numbers if not re.fullmatch(r"[0-9]{1,9}", cell)]
    if measured:
        return False, f"{measured[0]!r} is a number, as those below it"
    values = [int(cell) for cell in numbers]
    steps = {after - before for before, after in pairwise(values)}
    named = "" in first or labelled
    if first[0] == "" or (steps == {1} and (values[0] == 0 or (named and len(values) > 2))):
        return True, f"although {numbers[0]!r} is a number"
    if len(set(first)) < len(first) or (len(steps) > 1 and not named):
        return False, f"{numbers[0]!r} is a number, as those below it"
    return None, f"{', '.join(map(repr, numbers[:3]))} may be a name or a number"


def _text_header(first: list[str], columns: list[tuple[str, ...]]) -> tuple[bool | None, str]:
    repeated = [cell != "" and cell in column for cell, column in zip(first, columns, strict=True)]
    if len(first) > 1 and all(repeated):
        return False, f"{first[0]!r} and all its other cells stand below it as well"
    if len(set(first)) < len(first) and sum(repeated) > len(first) // 2:
        return None, "its cells stand twice in it, and below it"
    return True, ""


def _all_numbers(cells: tuple[str, ...]) -> bool:
    full = [cell for cell in cells if cell.strip() not in MISSING]
    return bool(full) and all(map(is_number, full))


def _fit(names: list[str], below: list[list[str]]) -> tuple[list[str], list[str]]:
    """Names for all columns, where every row has one cell more than there are names, or one less."""
    widths = {len(row) for row in below}
    if widths == {len(names) + 1}:
        if all(row[-1] == "" for row in below):
            return [*names, ""], []
        text = "rows have one cell more than the first line: the first cell is taken as that of a column without a name"
        return ["", *names], [f"{text}, as R and pandas have it"]
    if widths == {len(names) - 1} and len(names) > 1 and not names[-1]:
        return names[:-1], ["the first line ends with a delimiter, which the rows do not"]
    return names, []


def _all_different(names: list[str]) -> tuple[list[str], list[str]]:
    """Names as in pandas: a column without one is "Unnamed: 3", a second "x" is "x.1". And those numbered so."""
    out: list[str] = []
    twice: list[str] = []
    taken = set(names)
    for k, name in enumerate(names):
        new = name or f"Unnamed: {k}"
        if new in out or (not name and new in taken):
            numbered = (f"{new}.{n}" for n in range(1, len(names) + 2))
            new = next(candidate for candidate in numbered if candidate not in taken)
            twice.append(new)
        taken.add(new)
        out.append(new)
    return out, twice
