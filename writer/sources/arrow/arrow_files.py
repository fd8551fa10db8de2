"""Parquet and Arrow IPC files: their schema, how many rows each part has, and the rows of a part, step by step.

A *group* is what can be read alone: a row group of Parquet, a record batch of Arrow. Files are read with positioned
reads, so one that is cut off meanwhile is an error and no crash, and are found out when they change.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from recordio.errors import SourceError
from recordio.packages import pyarrow
from recordio.writer.sources.files import open_regular, stamp, status
from recordio.writer.sources.plain_files import read_at

_MAX_DEPTH = 100
MAX_ROWS_PER_BYTE = 1 << 14  # a file of nothing but equal values has some thousand


class Missing(NamedTuple):
    """Whether values of a column may be missing, and whether anything inside of its values may; None: not known."""

    whole: bool | None
    inside: bool | None


class ArrowFile(ABC):
    """An open file.

    Attributes:
        schema: the pyarrow.Schema.
        rows: the rows of each group.
        nbytes: about the bytes of each group.
        notes: what is worth knowing, in words.
    """

    schema: Any
    rows: list[int]
    nbytes: list[int]
    notes: tuple[str, ...] = ()

    def __init__(self, path: bytes, listed: int | None = None) -> None:
        """
        Args:
            path: the file.
            listed: its `stamp` when the source was listed; None takes the file as it is.
        """
        self._raw = open(open_regular(path), "rb", buffering=0)  # noqa: SIM115
        try:
            found = os.fstat(self._raw.fileno())
            self._size = found.st_size
            # What lies in an archive was copied; the listed stamp is that of the archive.
            origin = found if os.path.isfile(path) else status(path)
            if listed is not None and stamp(origin) != listed:
                raise SourceError("changed while it was converted")
            self._stamp = stamp(found)
            self._open()
            rows = sum(self.rows)
            if min(self.rows, default=0) < 0 or rows > MAX_ROWS_PER_BYTE * self._size:
                raise SourceError(f"it says it has {rows:,} rows, in {self._size:,} bytes")
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """Sets schema, rows and nbytes. Raises SourceError."""
        raise NotImplementedError

    @abstractmethod
    def missing(self, column: int) -> Missing:
        """What the file says about the missing values of a column."""

    @abstractmethod
    def missing_child(self, column: int, child: int) -> bool | None:
        """Whether values of a field of a struct, itself not nested, may be missing; None if that is not known."""

    @abstractmethod
    def steps(self, group: int, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """The rows of a group in order, as pyarrow.RecordBatch of bounded size; of some columns, or of all.

        Raises SourceError.
        """

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file, fewer at its end."""
        return read_at(self._raw.fileno(), offset, size)

    def require_same(self) -> None:
        """Raises SourceError if the file was changed since it was listed."""
        if stamp(os.fstat(self._raw.fileno())) != self._stamp:
            raise SourceError("changed while it was converted")

    def close(self) -> None:
        self._raw.close()


def checked_schema(schema: Any) -> Any:
    """The schema, all of whose names are text. Raises SourceError, and what `reading` turns into one."""
    for about in schema:
        for one in all_fields(about):
            one.name.encode("utf-8")
    return schema


def all_fields(about: Any, depth: int = 0) -> Iterator[Any]:
    """A pyarrow.Field and those inside of it. Raises SourceError for more than can be meant."""
    if depth > _MAX_DEPTH:
        raise SourceError(f"its types are nested deeper than {_MAX_DEPTH} levels")
    yield about
    for number in range(about.type.num_fields):
        yield from all_fields(about.type.field(number), depth + 1)


def longest(values: Any) -> int:
    """The bytes of the longest of an array of text or bytes."""
    compute = pyarrow().compute
    return int(compute.max(compute.binary_length(values)).as_py() or 0)


def children(kind: Any) -> list[Any]:
    """The types inside of a type."""
    types = pyarrow().types
    if isinstance(kind, pyarrow().BaseExtensionType):
        return children(kind.storage_type)
    if types.is_map(kind):
        return [kind.key_type, kind.item_type]
    return [kind.field(number).type for number in range(kind.num_fields)]


def ranges(counts: Sequence[int]) -> list[tuple[int, int]]:
    """[2, 1] -> [(0, 2), (2, 3)]."""
    found, start = [], 0
    for count in counts:
        found.append((start, start + count))
        start += count
    return found
