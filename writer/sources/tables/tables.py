"""Text tables: rows that are found in one scan, which also finds the type of each column.

After the scan any row is one read and one parse, in any process. CSV and TSV are `delimited.py`, JSON Lines is
`json_lines.py`; `text_file.py` takes care of compression, encodings and newlines.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import SchemaError, SourceError
from recordio.format.fields import Text
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.file_table import file_table
from recordio.writer.sources.source import NAME, Fingerprint, Source, SourceOptions, with_name_fields
from recordio.writer.sources.tables.embedded import EmbeddedFiles
from recordio.writer.sources.tables.table_options import TableOptions
from recordio.writer.sources.tables.text_file import TextFile

_READ_AHEAD = 1 << 18


class _RowReader:
    """Random access to the rows of a file; consecutive rows are read together."""

    def __init__(self, file: TextFile) -> None:
        self._file = file
        self._buffer = b""
        self._start = 0  # offset of the buffer in the file

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`. Raises SourceError."""
        buffered = self._start + len(self._buffer)
        if not self._start <= start <= end <= buffered:
            follows = self._start <= start <= buffered
            self._buffer = self._file.read(start, max(end - start, _READ_AHEAD if follows else 0))
            self._start = start
        row = self._buffer[start - self._start : end - self._start]
        if len(row) != end - start:
            raise SourceError("changed while it was converted: it is shorter now")
        return row


class Table(Source):
    """Rows of a text file: `sample(i)` is a row with typed values, `line(i)` where it begins.

    A subclass scans the file once and parses a row from its bytes.
    """

    def __init__(self, path: str, options: SourceOptions) -> None:
        self._path = path
        self._name = os.path.basename(path)
        self._options = options.table
        self._table = file_table([os.fsencode(path)])
        folder = options.root or os.path.dirname(path) or "."
        self._embed = {name: EmbeddedFiles(folder, name, options) for name in options.embed}
        self._embed_stats = array("q")
        self._file = TextFile(path, options.table.encoding)
        self._rows: _RowReader | None = None
        self._keeps_names = False
        self.nameless = bool(options.embed)
        self.metadata = {}
        starts, lines = array("q"), array("q")
        self._end = 0
        try:
            for start, line in self._scan():
                starts.append(start)
                lines.append(line)
        except SourceError as error:
            raise error.at(file=path)
        if not starts:
            raise SourceError("there are no rows").at(file=path)
        self._starts = np.append(np.frombuffer(starts, np.int64), self._end)
        self._first_line = lines[0]
        numbers = np.frombuffer(lines, np.int64)
        # If every row is one line, line numbers follow from the first.
        regular = numbers[-1] - numbers[0] == len(numbers) - 1
        self._lines = None if regular else numbers
        self.schema = self._embedded_schema(self._find_schema(len(starts)))
        self.notes += (*self._file.notes, *self._found_notes())

    def _scan(self) -> Iterator[tuple[int, int]]:
        """Byte offset and line number of each row. Also inspects the types; `_end` is the end of the last row."""
        raise NotImplementedError

    def _find_schema(self, rows: int) -> Schema:
        raise NotImplementedError

    def _found_notes(self) -> tuple[str, ...]:
        """What the scan guessed, in words."""
        return ()

    def _parse(self, row: bytes) -> dict[str, Any]:
        """The sample in the bytes of a row. Raises SourceError."""
        raise NotImplementedError

    def _embedded_schema(self, schema: Schema) -> Schema:
        missing = [name for name in self._embed if name not in schema.fields]
        if missing:
            names = ", ".join(map(repr, missing))
            raise SourceError(f"no column named {names} to embed; there are {', '.join(schema)}").at(file=self._path)
        columns = {name: column for name, files in self._embed.items() if (column := files.column())}
        self.pictures = {name: column.kind for name, column in columns.items()}
        self.notes += tuple(note for column in columns.values() for note in column.notes)
        return Schema(dict(schema.fields) | {name: files.field() for name, files in self._embed.items()})

    def with_names(self) -> Source:
        """The same rows with the names in each embedded column as a field more, such as `picture_file`."""
        if not self._embed:
            raise SchemaError("keep_names (--keep-names) keeps the names in columns that are embedded, and none is")
        names = {f"{name}_{NAME}": Text(optional=True) for name in self._embed}
        self.schema = with_name_fields(self.schema, names)
        self._keeps_names = True
        return self

    def _see_files(self, row: Mapping[str, Any]) -> None:
        for name, files in self._embed.items():
            value = row.get(name)
            self._embed_stats.extend(files.see(value if isinstance(value, str) else None))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_rows": None}

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(self.schema)

    def nbytes(self) -> npt.NDArray[np.int64]:
        own = np.diff(self._starts)
        if not self._embed:
            return own
        sizes = np.frombuffer(self._embed_stats, np.int64)[::2].reshape(len(self), -1)
        return np.asarray(own + sizes.sum(axis=1))

    def fingerprint(self) -> Fingerprint:
        own = self._table.fingerprint()
        if self._options != TableOptions():  # the same cells may be read in another way
            content = xxhash.xxh3_128_digest(own.content + repr(self._options).encode("utf-8", "backslashreplace"))
            own = Fingerprint(content, own.state)
        if not self._embed:
            return own
        stats = np.frombuffer(self._embed_stats, np.int64).reshape(-1, 2)
        content = xxhash.xxh3_128_digest(own.content + stats[:, 0].astype("<i8").tobytes())
        return Fingerprint(content, xxhash.xxh3_128_digest(own.state + stats[:, 1].astype("<i8").tobytes()))

    def input_digest(self, indices: npt.NDArray[np.int64]) -> bytes:
        lines = [self.line(index) for index in indices.tolist()]  # the keys
        out = xxhash.xxh3_128(repr((self._name, self._reading(), lines)).encode("utf-8", "backslashreplace"))
        rows = _RowReader(self._file)  # its own: what it has read must not serve for the samples
        for start, end in zip(self._starts[indices].tolist(), self._starts[indices + 1].tolist(), strict=True):
            out.update((end - start).to_bytes(8, "little") + rows.read(start, end))
        if self._embed:
            stats = np.frombuffer(self._embed_stats, np.int64).reshape(len(self), -1)
            out.update(stats[indices].astype("<i8").tobytes())
        return out.digest()

    def _reading(self) -> tuple[Any, ...]:
        """All that decides what the bytes of a row mean, besides the schema."""
        return (self._options,)

    def line(self, index: int) -> int:
        """The line of the file in which a row begins, from 1."""
        return self._first_line + index if self._lines is None else int(self._lines[index])

    def key(self, index: int) -> str:
        return self._at_line(self.line(index))

    def _at_line(self, line: int) -> str:
        return f"{self._name} line {line}"

    def sample(self, index: int) -> Sample:
        if self._rows is None:
            self._rows = _RowReader(self._file)
        sample = self._parse(self._rows.read(int(self._starts[index]), int(self._starts[index + 1])))
        for name, files in self._embed.items():
            if self._keeps_names:
                sample[f"{name}_{NAME}"] = sample.get(name)
            try:
                sample[name] = files.read(sample.get(name))
            except SourceError as error:
                error.at(field=name)
                raise
        return sample
