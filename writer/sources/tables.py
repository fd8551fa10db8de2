"""Text tables, UTF-8: CSV and TSV with a header line. JSON Lines is `json_lines.py`.

One scan finds the start of each row (quoted newlines start none) and the type of each column. After it, any row is one
read and one parse.
"""

from __future__ import annotations

import csv
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import SchemaError, SourceError
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.embedded import EmbeddedFiles
from recordio.writer.sources.files import file_table, open_regular, refused
from recordio.writer.sources.source import Fingerprint, Source, SourceOptions
from recordio.writer.sources.table_types import CellColumn, long_cells
from recordio.writer.sources.tsv_quotes import find_quoting

_READ_AHEAD = 1 << 18
_CHUNK_ROWS = 4096
_LONG_ROW = 100_000
BOM = b"\xef\xbb\xbf"


class _RowFile:
    """Random access to a file; consecutive rows are read together."""

    def __init__(self, path: str) -> None:
        self._fd = open_regular(path)
        self._buffer = b""
        self._start = 0  # offset of the buffer in the file

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`. Raises SourceError."""
        buffered = self._start + len(self._buffer)
        if not self._start <= start <= end <= buffered:
            follows = self._start <= start <= buffered
            try:
                self._buffer = os.pread(self._fd, max(end - start, _READ_AHEAD if follows else 0), start)
            except OSError as error:
                raise refused(error) from error
            self._start = start
        row = self._buffer[start - self._start : end - self._start]
        if len(row) != end - start:
            raise SourceError("changed while it was converted: it is shorter now")
        return row

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)


class Table(Source):
    """Rows of a text file. A subclass scans the file once and parses a row from its bytes."""

    def __init__(self, path: str, options: SourceOptions) -> None:
        self._path = path
        self._name = os.path.basename(path)
        self._table = file_table([os.fsencode(path)])
        self._embed = {name: EmbeddedFiles(os.path.dirname(path) or ".") for name in options.embed}
        self._embed_stats = array("q")
        self._rows: _RowFile | None = None
        self.metadata = {}
        starts, lines = array("q"), array("q")
        self._end = 0
        with open(open_regular(path), "rb") as file:
            for start, line in self._scan(file):
                starts.append(start)
                lines.append(line)
        if not starts:
            raise SourceError("there are no rows").at(file=path)
        self._starts = np.append(np.frombuffer(starts, np.int64), self._end)
        self._first_line = lines[0]
        numbers = np.frombuffer(lines, np.int64)
        # If every row is one line, line numbers follow from the first.
        regular = numbers[-1] - numbers[0] == len(numbers) - 1
        self._lines = None if regular else numbers
        self.schema = self._embedded_schema(self._find_schema(len(starts)))

    def _scan(self, file: Any) -> Iterator[tuple[int, int]]:
        """Byte offset and line number of each row. Also inspects the types; `_end` is the end of the last row."""
        raise NotImplementedError

    def _find_schema(self, rows: int) -> Schema:
        raise NotImplementedError

    def _parse(self, row: bytes) -> dict[str, Any]:
        """The sample in the bytes of a row. Raises SourceError."""
        raise NotImplementedError

    def _embedded_schema(self, schema: Schema) -> Schema:
        missing = [name for name in self._embed if name not in schema.fields]
        if missing:
            names = ", ".join(map(repr, missing))
            raise SourceError(f"no column named {names} to embed; there are {', '.join(schema)}").at(file=self._path)
        return Schema(dict(schema.fields) | {name: files.field() for name, files in self._embed.items()})

    def _see_files(self, row: Mapping[str, Any]) -> None:
        for name, files in self._embed.items():
            value = row.get(name)
            self._embed_stats.extend(files.see(value if isinstance(value, str) else None))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_rows": None}

    def __len__(self) -> int:
        return len(self._starts) - 1

    def nbytes(self) -> npt.NDArray[np.int64]:
        own = np.diff(self._starts)
        if not self._embed:
            return own
        sizes = np.frombuffer(self._embed_stats, np.int64)[::2].reshape(len(self), -1)
        return np.asarray(own + sizes.sum(axis=1))

    def fingerprint(self) -> Fingerprint:
        own = self._table.fingerprint()
        if not self._embed:
            return own
        stats = np.frombuffer(self._embed_stats, np.int64).reshape(-1, 2)
        content = xxhash.xxh3_128_digest(own.content + stats[:, 0].astype("<i8").tobytes())
        times = xxhash.xxh3_128_digest(own.times + stats[:, 1].astype("<i8").tobytes())
        return Fingerprint(content, times, max(own.newest, int(stats[:, 1].max(initial=0))))

    def key(self, index: int) -> str:
        line = self._first_line + index if self._lines is None else self._lines[index]
        return f"{self._name} line {line}"

    def sample(self, index: int) -> Sample:
        if self._rows is None:
            self._rows = _RowFile(self._path)
        sample = self._parse(self._rows.read(int(self._starts[index]), int(self._starts[index + 1])))
        for name, files in self._embed.items():
            try:
                sample[name] = files.read(sample.get(name))
            except SourceError as error:
                error.at(field=name)
                raise
        return sample


def row_text(row: bytes) -> str:
    """Raises SourceError for bytes that are not UTF-8."""
    try:
        return row.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(f"the row is not UTF-8: {error.reason} at its byte {error.start}") from error


class _Lines:
    """The lines of a file as text for the csv module; `offset` is the start of the next line."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.offset = 3 if file.read(3) == BOM else 0
        self.all_utf8 = True
        file.seek(self.offset)

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.offset += len(line)
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                self.all_utf8 = False
                yield line.decode("utf-8", "replace")


class DelimitedTable(Table):
    """CSV or TSV with a header line."""

    delimiter = ","
    quoted = True

    def _scan(self, file: Any) -> Iterator[tuple[int, int]]:
        lines = _Lines(file)
        head = file.readline().decode("utf-8", "replace")
        file.seek(lines.offset)
        if self.delimiter == "," and "," not in head and ";" in head:
            self.delimiter = ";"  # spreadsheets write it in locales with a decimal comma
        with long_cells():
            reader = self._reader(lines)
            self._columns = self._header(reader)
            self._types = [CellColumn() for _ in self._columns]
            yield from self._scan_rows(reader, lines)
        self._make_parsers()

    def _reader(self, lines: Iterable[str]) -> Any:
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        return csv.reader(lines, delimiter=self.delimiter, quoting=quoting, strict=True)

    def _make_parsers(self) -> None:
        pairs = zip(self._columns, self._types, strict=True)
        self._parsers = [str if name in self._embed else column.parse() for name, column in pairs]

    def _header(self, reader: Any) -> list[str]:
        try:
            names: list[str] = next((row for row in reader if row), [])
        except csv.Error as error:
            raise SourceError(f"the line of column names cannot be read: {error}").at(file=self._path) from error
        if not names:
            raise SourceError("the file is empty").at(file=self._path)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or "" in names:
            fault = f"the column name {twice[0]!r} stands twice" if twice else "a column has no name"
            raise SourceError(f"{fault}; the first line must name the columns").at(file=f"{self._name} line 1")
        return names

    def _scan_rows(self, reader: Any, lines: _Lines) -> Iterator[tuple[int, int]]:
        chunk: list[list[str]] = []
        while True:
            start, line, lines.all_utf8 = lines.offset, reader.line_num + 1, True
            row = self._next_row(reader, line)
            if row is None:
                break
            if row == []:
                continue
            whole = len(row) == len(self._columns) and lines.all_utf8
            if whole:
                chunk.append(row)
            if self._embed:
                self._see_files(dict(zip(self._columns, row, strict=False)) if whole else {})
            if len(chunk) == _CHUNK_ROWS:
                self._see(chunk)
            self._end = lines.offset
            yield start, line
        self._see(chunk)

    def _next_row(self, reader: Any, line: int) -> list[str] | None:
        """The next row; [] for a blank line, None at the end, [""] for a bad row: `_parse` raises the reason."""
        try:
            return next(reader, None)
        except csv.Error as error:
            if reader.line_num > line:  # an unclosed quote swallows the rows after it
                location = f"{self._name} line {line}"
                raise SourceError(f"a quote is not closed where it should be: {error}").at(file=location) from error
            return [""]

    def _see(self, chunk: list[list[str]]) -> None:
        for column, cells in zip(self._types, zip(*chunk, strict=True), strict=False):
            column.see(cells)
        chunk.clear()

    def _find_schema(self, rows: int) -> Schema:
        try:
            fields = {name: column.field() for name, column in zip(self._columns, self._types, strict=True)}
            return Schema(fields)
        except SchemaError as error:
            raise SourceError(f"the columns cannot become fields: {error.fault}").at(file=self._path) from error

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
        row: list[str] = next(self._reader([text]))
        return row

    def _parse(self, row: bytes) -> dict[str, Any]:
        cells = self._cells(row_text(row))
        if len(cells) != len(self._columns):
            raise SourceError(f"the row has {len(cells)} cells, the first line names {len(self._columns)} columns")
        values = [parse(cell) for parse, cell in zip(self._parsers, cells, strict=True)]
        return dict(zip(self._columns, values, strict=True))


class CsvTable(DelimitedTable):
    """Comma-separated, or semicolon-separated if the first line has semicolons and no comma."""

    kind = "csv"


class TsvTable(DelimitedTable):
    """Tab-separated. `tsv_quotes` decides whether quotes are quoting or plain characters."""

    kind = "tsv"
    delimiter = "\t"

    def _scan(self, file: Any) -> Iterator[tuple[int, int]]:
        file.seek(len(BOM) if file.read(len(BOM)) == BOM else 0)
        self.quoted, self.notes = find_quoting(file)
        file.seek(0)
        return super()._scan(file)
