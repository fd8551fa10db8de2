"""JSON Lines: one object per line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recordio.errors import SchemaError, SourceError
from recordio.format import strict_json
from recordio.format.layout import MAX_FIELDS
from recordio.format.schema import Schema
from recordio.writer.sources.tables.json_types import JsonColumn
from recordio.writer.sources.tables.tables import Table
from recordio.writer.sources.tables.text_file import row_text


class JsonLines(Table):
    """One object per line; blank lines are skipped. A key missing from some rows is optional."""

    kind = "jsonl"

    def _scan(self) -> Iterator[tuple[int, int]]:
        self._options.require_encoding_alone()
        self._types: dict[str, JsonColumn] = {}
        self._good = 0
        self._first_fault: SourceError | None = None
        start = self._file.start
        for number, line in enumerate(self._file.lines(), 1):
            self._end = start + len(line)
            if not line.isspace():
                self._see(line, number)
                yield start, number
            start = self._end

    def _see(self, line: bytes, number: int) -> None:
        try:
            row = self._object(line)
        except SourceError as error:  # reading the row raises it again, subject to on_error
            self._first_fault = self._first_fault or error.at(file=self._at_line(number))
            self._see_files({})
            return
        self._good += 1
        for name, value in row.items():
            column = self._types.get(name)
            if column is None:
                if len(self._types) == MAX_FIELDS:
                    text = f"the lines have more than {MAX_FIELDS:,} different keys, the most fields of a dataset"
                    raise SourceError(f"{text}: nest them in one object").at(file=self._at_line(number))
                column = self._types[name] = JsonColumn()
            column.see(value)
        self._see_files(row)

    @staticmethod
    def _object(line: bytes) -> dict[str, Any]:
        try:
            row = strict_json.parse(row_text(line))
        except ValueError as error:
            raise SourceError(f"the line's JSON cannot be read: {error}") from error
        if not isinstance(row, dict):
            raise SourceError(f"the line holds a {type(row).__name__}, not an object")
        return row

    def _find_schema(self, rows: int) -> Schema:
        if not self._good and self._first_fault:
            text = f"JSON Lines has one object a line, and no line here is one; the first: {self._first_fault.fault}"
            raise SourceError(text + self._advice()).at(file=self._first_fault.place.file)
        if not self._types:
            raise SourceError("no object in it has a key").at(file=self._path)
        try:
            return Schema({name: column.field(self._good) for name, column in self._types.items()})
        except SchemaError as error:
            raise SourceError(f"the keys cannot become fields: {error.fault}").at(file=self._path) from error

    def _advice(self) -> str:
        head = self._file.read(self._file.start, 256).lstrip()
        if head.startswith(b"["):
            return "; `jq -c '.[]'` makes lines of one array"
        return "; `jq -c .` makes lines of objects over several" if head.startswith(b"{") else ""

    def _parse(self, row: bytes) -> dict[str, Any]:
        return self._object(row)
