"""The options of a table."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from recordio.arguments import flag, integer
from recordio.errors import SchemaError


@dataclass(frozen=True, slots=True)
class TableOptions:
    """How a table is read, where its content does not tell; `recordio.convert` documents them. Raises SchemaError."""

    encoding: str | None = None
    delimiter: str | None = None
    quotes: bool | None = None
    header: bool | None = None
    columns: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    skip_lines: int = 0

    def __post_init__(self) -> None:
        if self.encoding is not None:
            object.__setattr__(self, "encoding", _encoding(self.encoding))
        mark = self.delimiter
        if mark is not None and (not isinstance(mark, str) or len(mark) != 1 or mark in '"\r\n\0'):
            raise SchemaError(f"delimiter is {mark!r}: expected one character, and no quote or newline")
        for name in ("quotes", "header"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, flag(name, getattr(self, name)))
        integer("skip_lines", self.skip_lines, 0)
        for name in ("columns", "missing"):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))
            if not all(isinstance(text, str) for text in getattr(self, name)):
                raise SchemaError(f"{name} is {given!r}: expected texts")
        if len(set(self.columns)) < len(self.columns) or "" in self.columns:
            raise SchemaError("columns holds a name twice, or an empty one")

    def require_encoding_alone(self) -> None:
        """Raises SchemaError for what says how lines are cut into cells."""
        if self != TableOptions(self.encoding):
            raise SchemaError("delimiter, quotes, header, columns, missing and skip_lines are for CSV and TSV")


DEFAULT = TableOptions()


def _encoding(name: str) -> str:
    try:
        found = codecs.lookup(name)
        "".encode(found.name)  # refuses codecs that are no encodings of text
    except (LookupError, TypeError, ValueError) as error:
        raise SchemaError(f"encoding is {name!r}: expected one of text, such as utf-8, cp1252, utf-16") from error
    return "utf-8" if found.name in ("utf-8-sig", "ascii") else found.name
