"""JSON Lines: one object per line, UTF-8."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recordio.errors import SchemaError, SourceError
from recordio.format import strict_json
from recordio.format.schema import Schema
from recordio.writer.sources.table_types import JsonColumn
from recordio.writer.sources.tables import BOM, Table, row_text


class JsonLines(Table):
    """One object per line; blank lines are skipped. A key missing from some rows is optional."""

    kind = "jsonl"

    def _scan(self, file: Any) -> Iterator[tuple[int, int]]:
        self._types: dict[str, JsonColumn] = {}
        self._good = 0
        start = 3 if file.read(3) == BOM else 0
        file.seek(start)
        for number, line in enumerate(file, 1):
            self._end = start + len(line)
            if not line.isspace():
                self._see(line)
                yield start, number
            start = self._end

    def _see(self, line: bytes) -> None:
        try:
            row = self._object(line)
        except SourceError:  # reading the row raises it again, subject to on_error
            self._see_files({})
            return
        self._good += 1
        for name, value in row.items():
            column = self._types.get(name)
            if column is None:
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
        if not self._types:
            raise SourceError("no line holds a JSON object with a key").at(file=self._path)
        try:
            return Schema({name: column.field(self._good) for name, column in self._types.items()})
        except SchemaError as error:
            raise SourceError(f"the keys cannot become fields: {error.fault}").at(file=self._path) from error

    def _parse(self, row: bytes) -> dict[str, Any]:
        return self._object(row)
