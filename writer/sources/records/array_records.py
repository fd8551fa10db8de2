"""ArrayRecord files, read with their own library: they are Riegeli files with an index, and it checks their hashes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import SourceError
from recordio.format.fields import Bytes
from recordio.format.schema import Sample, Schema
from recordio.packages import optional
from recordio.writer.sources.records.record_files import RecordFiles
from recordio.writer.sources.source import SourceOptions

FIELD = "data"
_MAX_RECORDS = 1 << 28  # in a file: each takes 16 bytes of memory


class ArrayRecords(RecordFiles):
    """A sample is the bytes of a record, as the field `data`. The place of a record is its number in its file."""

    kind = "array_record"

    def __init__(self, path: str, options: SourceOptions) -> None:
        super().__init__(path, options)
        self.schema = Schema({FIELD: Bytes()})
        self._library = _Library()
        self._scan()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_library": _Library()}

    def _records(self, number: int) -> Iterator[tuple[int, int]]:
        count = self._opened(number).count
        if count > _MAX_RECORDS:
            raise SourceError(f"it says it has {count} records, more than the {_MAX_RECORDS} that are read")
        yield from ((record, record + 1) for record in range(count))

    def nbytes(self) -> npt.NDArray[np.int64]:
        """The size of its file, divided by the records in it."""
        counts = np.diff(self._firsts)
        return np.repeat(self.files.sizes // np.maximum(counts, 1), counts)

    def _opened(self, number: int) -> _Library:
        if self._library.number != number:
            self._library.open(number, self._open(number))
        return self._library

    def sample(self, index: int) -> Sample:
        number, record = self.place(index)
        return {FIELD: self._opened(number).read(record)}


class _Library:
    """One file, open in the library. Records that follow each other are read ahead.

    Attributes:
        number: that of the file, -1 for none.
        count: its records.
    """

    def __init__(self) -> None:
        self.number, self.count = -1, 0
        self._reader: Any = None
        self._next: int | None = None  # the record after the last one
        self._streaming = False

    def open(self, number: int, fd: int) -> None:
        """Takes a descriptor, of a temporary file for one in an archive.

        Raises SourceError, MissingPackageError without the extra arrayrecord.
        """
        self.number, self._next, self._streaming = -1, None, False
        try:
            self._reader = _reader_class()(f"/dev/fd/{fd}")  # opened anew, so it is its own
            self.count = self._reader.num_records()
            sound = self._reader.ok()
        except (RuntimeError, ValueError, OSError) as error:
            raise SourceError(f"not an ArrayRecord file that its library can read: {error}") from error
        finally:
            os.close(fd)
        if not sound:
            raise SourceError("it has no index that is whole: it was cut off, or it is no ArrayRecord file")
        self.number = number

    def read(self, record: int) -> bytes:
        """The bytes of a record. Raises SourceError."""
        try:
            return self._read(record)
        except (RuntimeError, ValueError, IndexError) as error:
            self.number = -1  # the library's reader does not go on after an error
            raise SourceError(f"its library cannot read this record: {error}") from error

    def _read(self, record: int) -> bytes:
        follows, self._next = record == self._next, record + 1
        if not follows:
            self._streaming = False
            (found,) = self._reader.read([record])
            return bytes(found)
        if not self._streaming:
            self._reader.seek(record)
            self._streaming = True
        return bytes(self._reader.read())


def _reader_class() -> Any:
    module = optional("array_record.python.array_record_module", "ArrayRecord files", "arrayrecord")
    return module.ArrayRecordReader
