"""Bagz files: records, then an index of where each ends. A file named .bagz has each record compressed with zstd.

https://github.com/google-deepmind/bagz: the last of the index is where the index begins. There are no checksums.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from recordio.errors import SourceError
from recordio.format.fields import Bytes
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.files import exists, shown
from recordio.writer.sources.records.packed_files import unpacked_zstd
from recordio.writer.sources.records.record_files import RecordFiles
from recordio.writer.sources.source import SourceOptions

FIELD = "data"
_LIMIT_NBYTES = 8  # of an entry of the index
_MAX_RECORD_NBYTES = 1 << 30
_CHUNK = 1 << 16  # entries that are read at a time


class Bagz(RecordFiles):
    """A sample is the bytes of a record, as the field `data`."""

    kind = "bagz"

    def __init__(self, path: str, options: SourceOptions) -> None:
        super().__init__(path, options)
        self.schema = Schema({FIELD: Bytes()})
        self._scan()

    def _records(self, number: int) -> Iterator[tuple[int, int]]:
        size = self._size(number)
        if not size:
            return
        start = self._index_start(number, size)
        before = 0
        for at in range(start, size, _CHUNK * _LIMIT_NBYTES):
            limits = self._range(number, at, min(at + _CHUNK * _LIMIT_NBYTES, size))
            for end in np.frombuffer(limits, "<u8").tolist():
                if not before <= end <= start:
                    raise SourceError(f"its index is damaged: a record from byte {before} to {end} of {start}")
                yield before, end
                before = end

    def _index_start(self, number: int, size: int) -> int:
        """Where the index begins. Raises SourceError for a file without one."""
        name = self.files.name(number)
        folder, base = os.path.split(os.path.join(self.files.root, name))
        if base.startswith(b"limits.") or exists(os.path.join(folder, b"limits." + base)):
            text = f"the index of {shown(name)} is a file of its own: write it with LimitsPlacement.TAIL"
            raise SourceError(text)
        tail = self._range(number, max(0, size - _LIMIT_NBYTES), size)
        start = int.from_bytes(tail, "little")
        if len(tail) < _LIMIT_NBYTES or start > size - _LIMIT_NBYTES or (size - start) % _LIMIT_NBYTES:
            raise SourceError("there is no index at its end: it was cut off, or it is no Bagz file")
        return start

    def sample(self, index: int) -> Sample:
        number, _ = self.place(index)
        nbytes = int(self._ends[index] - self._starts[index])
        if nbytes > _MAX_RECORD_NBYTES:
            raise SourceError(f"a record of {nbytes} bytes is over the limit of {_MAX_RECORD_NBYTES}")
        data = self._bytes(index)
        packed = data and self.files.name(number).lower().endswith(b".bagz")
        return {FIELD: unpacked_zstd(data, _MAX_RECORD_NBYTES) if packed else data}
