"""CSV and TSV. What separates cells, whether there is a header, and which types columns have is found in the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from recordio.errors import SchemaError, SourceError
from recordio.format.schema import Schema
from recordio.writer.sources.leftovers import counted
from recordio.writer.sources.tables.cell_types import MISSING, CellColumn, long_cells
from recordio.writer.sources.tables.dialect import (
    Dialect,
    blank,
    find_delimiter,
    is_spaced,
    listed,
    separator_line,
    shown,
)
from recordio.writer.sources.tables.header import find_columns
from recordio.writer.sources.tables.tables import Table
from recordio.writer.sources.tables.text_file import TextFile, row_text
from recordio.writer.sources.tables.tsv_quotes import find_quoting

_CHUNK_ROWS = 4096
_LONG_ROW = 100_000
_HEAD_NBYTES = 1 << 18
_MAX_ROW_NBYTES = 1 << 28  # beyond it, a quote was surely left open


class _Lines:
    """The lines of a file as text for the csv module; `offset` is the start of the next line."""

    def __init__(self, file: TextFile, start: int) -> None:
        self._lines = file.lines(start)
        self._row_start = start
        self.offset = start
        self.all_utf8 = True

    def start_row(self) -> int:
        """Forgets what was seen in the row before. Returns the offset of the next."""
        self._row_start, self.all_utf8 = self.offset, True
        return self.offset

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            if self.offset - self._row_start > _MAX_ROW_NBYTES:
                raise csv.Error(f"it is still open {_MAX_ROW_NBYTES >> 20} MiB after it")
            self.offset += len(line)
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                self.all_utf8 = False
                yield line.decode("utf-8", "replace")


class DelimitedTable(Table):
    """A table whose rows are cells between delimiters; quoted cells may span lines."""

    delimiter = ","

    def _scan(self) -> Iterator[tuple[int, int]]:
        self._notes: list[str] = []
        self._strays: list[str] = []
        start, skipped = self._find_start()
        head, whole = self._head(start)
        if separator := separator_line(head[0] if head else ""):
            self._notes.append(f"the first line says that cells are separated by {shown(separator)}")
            start, skipped, head = start + len(head[0].encode()), skipped + 1, head[1:]
        with long_cells():
            rows = self._find_dialect(start, head, whole, separator)
            if not rows and not whole:
                raise SourceError(f"its first line is longer than {_HEAD_NBYTES >> 10} KiB, so it names no columns")
            if not rows:
                raise SourceError("the file is empty")
            found = find_columns(rows, self._options)
            self._columns, self._unnamed = found.names, found.unnamed
            self._notes += found.notes
            self._types = [CellColumn(self._options.missing) for _ in self._columns]
            lines = _Lines(self._file, start)
            reader = self._dialect.reader(lines)
            if found.header:
                self._skip_header(reader, lines, skipped)
            yield from self._scan_rows(reader, lines, skipped)
        self._dropped = [self._columns[k] for k in sorted(self._unnamed) if self._types[k].empty]
        self._make_parsers()

    def _find_start(self) -> tuple[int, int]:
        """The offset of the table behind the lines to skip, and how many these are."""
        start = self._file.start
        for number, line in enumerate(self._file.lines(start)):
            if number == self._options.skip_lines:
                break
            start += len(line)
        return start, self._options.skip_lines

    def _head(self, start: int) -> tuple[list[str], bool]:
        """The first lines of the table as text, and whether that is all of it."""
        lines: list[str] = []
        nbytes = 0
        for line in self._file.lines(start):
            if nbytes > _HEAD_NBYTES:
                return lines, False
            lines.append(line.decode("utf-8", "replace"))
            nbytes += len(line)
        return lines, True

    def _find_dialect(self, start: int, head: list[str], whole: bool, separator: str | None) -> list[list[str]]:
        """Finds out how cells are separated and quoted; returns the first rows."""
        delimiter = self._options.delimiter or separator
        if delimiter is None:
            delimiter, note = find_delimiter(head, self.delimiter, whole)
            self._notes += [note] if note else []
        quoted = self._options.quotes
        if quoted is None:
            quoted = True
            if delimiter == "\t":
                quoted, notes = find_quoting(lambda: self._file.lines(start))
                self._notes += notes
        self._dialect = Dialect(delimiter, quoted)
        rows = self._dialect.first_rows(head, whole)
        if delimiter == " " or is_spaced(rows):
            if delimiter != " ":
                self._notes.append(f"the space after each {shown(delimiter)} is taken as part of it")
            self._dialect = Dialect(delimiter, quoted, spaced=True)
            rows = self._dialect.first_rows(head, whole)
        return rows

    def _skip_header(self, reader: Any, lines: _Lines, skipped: int) -> None:
        row: list[str] = []
        try:
            while blank(row):
                start = lines.start_row()
                row = next(reader)
            if not lines.all_utf8:
                row_text(self._file.read(start, lines.offset - start))
        except csv.Error as error:
            text = f"the line of column names cannot be read: {error}"
            raise SourceError(text).at(file=self._at_line(skipped + reader.line_num)) from error
        except SourceError as error:
            raise error.at(file=self._at_line(skipped + reader.line_num))

    def _scan_rows(self, reader: Any, lines: _Lines, skipped: int) -> Iterator[tuple[int, int]]:
        chunk: list[list[str]] = []
        numbers: list[int] = []
        while True:
            start, line = lines.start_row(), skipped + reader.line_num + 1
            row = self._next_row(reader, line)
            if row is None:
                break
            if blank(row):
                continue
            whole = len(row) == len(self._columns) and lines.all_utf8
            if whole:
                chunk.append(row)
                numbers.append(line)
            if self._embed:
                self._see_files(self._file_names(row) if whole else {})
            if len(chunk) == _CHUNK_ROWS:
                self._see(chunk, numbers)
            self._end = lines.offset
            yield start, line
        self._see(chunk, numbers)

    def _next_row(self, reader: Any, line: int) -> list[str] | None:
        """The next row; [] for a blank line, None at the end, [""] for a bad row: `_parse` raises the reason."""
        before = reader.line_num
        try:
            return next(reader, None)
        except csv.Error as error:
            if reader.line_num > before + 1:  # an unclosed quote swallows the rows after it
                text = f"a quote is not closed where it should be: {error}"
                text += "; quotes=False (--no-quotes) takes quotes as characters"
                raise SourceError(text).at(file=self._at_line(line)) from error
            return [""]

    def _file_names(self, row: list[str]) -> dict[str, str | None]:
        given = self._options.missing
        return {name: None if cell in given else cell for name, cell in zip(self._columns, row, strict=True)}

    def _see(self, chunk: list[list[str]], lines: list[int]) -> None:
        for name, column, cells in zip(self._columns, self._types, zip(*chunk, strict=True), strict=False):
            known = column.stray
            column.see(cells)
            if column.stray is not None and column.stray != known:
                at = next(line for line, cell in zip(lines, cells, strict=True) if cell.strip(" \t") == column.stray)
                self._strays.append(f"{name[:80]!r} is text: {column.stray[:40]!r} in line {at}")
        chunk.clear()
        lines.clear()

    def _find_schema(self, rows: int) -> Schema:
        pairs = zip(self._columns, self._types, strict=True)
        try:
            return Schema({name: column.field() for name, column in pairs if name not in self._dropped})
        except SchemaError as error:
            raise SourceError(f"the columns cannot become fields: {error.fault}").at(file=self._path) from error

    def _found_notes(self) -> tuple[str, ...]:
        notes = [*self._notes, *self._missing_notes()]
        if unnamed := [
            name for k, name in enumerate(self._columns) if k in self._unnamed and name not in self._dropped
        ]:
            notes.append(f"a column without a name is called as pandas calls it: {listed(unnamed)}")
        if self._dropped:
            notes.append(f"left out: {counted(len(self._dropped), 'column')} without a name and with nothing in it")
        commas = {
            f"{name[:80]!r} is text": column.comma
            for name, column in zip(self._columns, self._types, strict=True)
            if column.comma is not None
        }
        for what, number in commas.items():
            text = f"{what}: its numbers have commas, such as {number[:40]!r}, for decimals or thousands"
            notes.append(f"{text}; points in their place make it a column of numbers")
        strays = [stray for stray in self._strays if not stray.startswith(tuple(commas))]
        for stray in strays[:5]:
            notes.append(f"{stray} is no number that is kept exactly; missing= (--missing) makes such cells missing")
        if more := strays[5:]:
            notes.append(f"{counted(len(more), 'more column')} of numbers with other text in it")
        return tuple(notes)

    def _missing_notes(self) -> Iterator[str]:
        absent: dict[str, list[str]] = {}
        kept: dict[str, list[str]] = {}
        for name, column in zip(self._columns, self._types, strict=True):
            if name in self._dropped or name in self._embed:
                continue
            found = column.absent()
            for cell in column.seen_missing & MISSING:
                if cell == "" and (column.dtype or cell in found):
                    continue
                if cell in found:
                    absent.setdefault(cell, []).append(name)
                elif column.dtype is None:
                    kept.setdefault(cell, []).append(name)
        for cell, names in sorted(absent.items()):
            yield f"{cell!r} is taken as missing in {listed(names)}"
        for cell, names in sorted(kept.items()):
            yield f"{cell!r} is kept as text in {listed(names)}; missing={cell!r} (--missing) makes it missing"

    def _reading(self) -> tuple[Any, ...]:
        absent = [sorted(column.absent()) for column in self._types]
        return (*super()._reading(), self._dialect, self._columns, self._dropped, absent)

    def _make_parsers(self) -> None:
        pairs = zip(self._columns, self._types, strict=True)
        self._parsers = [self._file_name if name in self._embed else column.parse() for name, column in pairs]

    def _file_name(self, cell: str) -> str | None:
        return None if cell in self._options.missing else cell

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_parsers": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_parsers()

    def _cells(self, text: str) -> list[str]:
        try:
            if len(text) < _LONG_ROW:
                return self._one_row(text)
            with long_cells():
                return self._one_row(text)
        except csv.Error as error:
            raise SourceError(f"the row cannot be read: {error}") from error

    def _one_row(self, text: str) -> list[str]:
        bare = text.rstrip("\r\n")
        # A cell may span lines, and blank ones may follow the row.
        lines = io.StringIO(text, newline="") if "\n" in bare or "\r" in bare else [text]
        row: list[str] = next(self._dialect.reader(lines))
        return row

    def _parse(self, row: bytes) -> dict[str, Any]:
        cells = self._cells(row_text(row))
        if len(cells) != len(self._columns):
            fault = f"the row has {counted(len(cells), 'cell')}, the table {counted(len(self._columns), 'column')}"
            raise SourceError(f"{fault}; on_error='skip' (--on-error skip) leaves such rows out")
        try:
            values = [parse(cell) for parse, cell in zip(self._parsers, cells, strict=True)]
        except (ValueError, KeyError) as error:
            raise SourceError(f"changed while it was converted: {error}") from error
        sample = dict(zip(self._columns, values, strict=True))
        for name in self._dropped:
            del sample[name]
        return sample


class CsvTable(DelimitedTable):
    """Comma-separated, or separated by semicolons, tabs or bars if that is what cuts its rows into as many cells."""

    kind = "csv"


class TsvTable(DelimitedTable):
    """Tab-separated. `tsv_quotes` decides whether quotes are quoting or plain characters."""

    kind = "tsv"
    delimiter = "\t"
