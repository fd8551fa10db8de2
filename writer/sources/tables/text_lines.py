"""Plain text with a document a line: the field `text`. Blank lines are left out, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recordio.format.fields import Text
from recordio.format.schema import Schema
from recordio.writer.sources.leftovers import counted
from recordio.writer.sources.tables.tables import Table
from recordio.writer.sources.tables.text_file import row_text


class TextLines(Table):
    """A sample a line, without what ends the line."""

    kind = "text_lines"

    def _scan(self) -> Iterator[tuple[int, int]]:
        self._options.require_encoding_alone()
        self._blank = 0
        start = self._file.start
        for number, line in enumerate(self._file.lines(), 1):
            self._end = start + len(line)
            if line.isspace():
                self._blank += 1
            else:
                yield start, number
            start = self._end

    def _find_schema(self, rows: int) -> Schema:
        return Schema({"text": Text()})

    def _found_notes(self) -> tuple[str, ...]:
        return (f"left out: {counted(self._blank, 'blank line')}",) if self._blank else ()

    def _parse(self, row: bytes) -> dict[str, Any]:
        line, *_ = row.splitlines()  # blank ones may follow
        return {"text": row_text(line)}
