"""Records in one file or several: where each begins and ends is found in one scan, after which any of them is one read.

A kind says where the records of a file lie, and makes a sample of the bytes of one.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import SourceError
from recordio.format.schema import Sample
from recordio.writer.sources.file_table import named_files
from recordio.writer.sources.files import open_regular, shown
from recordio.writer.sources.plain_files import read_at
from recordio.writer.sources.source import Fingerprint, Source, SourceOptions

_READ_AHEAD = 1 << 20


class FileSet(Source):
    """A source in one file or in several below a folder, in order.

    Attributes:
        files: their names, sizes and stamps.
    """

    def __init__(self, path: str, options: SourceOptions) -> None:
        self._path = path
        names = [os.fsencode(name) for name in options.files]
        root = os.fsencode(path)
        if not names:
            root, name = os.path.split(root)
            names = [name]
        self.files = named_files(root, names)
        self.metadata: dict[str, Any] = {}

    def fingerprint(self) -> Fingerprint:
        return self.files.fingerprint()

    def file_name(self, number: int) -> str:
        """The name of a file for display."""
        return shown(self.files.name(number))


class RecordFiles(FileSet):
    """A source whose samples each lie in a range of bytes of a file.

    A subclass implements `_records` and `_sample`, and sets the schema once `_scan` has been called.
    """

    def _scan(self) -> None:
        """Finds the records of all files. Raises SourceError."""
        self._reader = _Reader()
        starts, ends, counts = array("q"), array("q"), []
        for number in range(len(self.files)):
            before = len(starts)
            try:
                for start, end in self._records(number):
                    starts.append(start)
                    ends.append(end)
            except SourceError as error:
                raise error.at(file=self.file_name(number))
            counts.append(len(starts) - before)
        if not starts:
            raise SourceError("there are no records").at(file=self._path)
        self._starts = np.array(starts, np.int64)
        self._ends = np.array(ends, np.int64)
        self._firsts = np.append(0, np.cumsum(np.array(counts, np.int64)))  # first record of each file

    def _records(self, number: int) -> Iterator[tuple[int, int]]:
        """Where the records of a file begin and end, in order. Raises SourceError."""
        raise NotImplementedError

    def _sample(self, record: bytes) -> Sample:
        """The sample in the bytes of a record. Raises SourceError."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": _Reader()}

    def __len__(self) -> int:
        return len(self._starts)

    def nbytes(self) -> npt.NDArray[np.int64]:
        return self._ends - self._starts

    def input_digest(self, indices: npt.NDArray[np.int64]) -> bytes:
        numbers = np.searchsorted(self._firsts, indices, "right") - 1
        used, of_file = np.unique(numbers, return_inverse=True)
        out = xxhash.xxh3_128(self.files.digest(used))
        for part in (of_file, indices - self._firsts[numbers], self._starts[indices], self._ends[indices]):
            out.update(part.astype("<i8").tobytes())
        return out.digest()

    def place(self, index: int) -> tuple[int, int]:
        """The file of a sample, and its number among the records of that file, from 0."""
        number = bisect_right(self._firsts, index) - 1  # a fifth of what np.searchsorted takes for one number
        return number, index - int(self._firsts[number])

    def key(self, index: int) -> str:
        number, record = self.place(index)
        return f"{self.file_name(number)} record {record}"

    def sample(self, index: int) -> Sample:
        return self._sample(self._bytes(index))

    def _bytes(self, index: int) -> bytes:
        number, _ = self.place(index)
        return self._range(number, int(self._starts[index]), int(self._ends[index]))

    def _range(self, number: int, start: int, end: int) -> bytes:
        """The bytes from `start` to `end` of a file. Raises SourceError."""
        return self._reading(number).read(start, end)

    def _size(self, number: int) -> int:
        """The bytes that can be read of a file. Raises SourceError."""
        return self._reading(number).size

    def _reading(self, number: int) -> _Reader:
        """The reader, with this file open."""
        if self._reader.number != number:
            self._reader.use(number, self._open(number))
        return self._reader

    def _open(self, number: int) -> int:
        """A descriptor of a file, which the caller closes. Raises SourceError."""
        fd = open_regular(next(self.files.paths([number])))
        size, found = int(self.files.sizes[number]), os.fstat(fd).st_size
        if found != size:
            os.close(fd)
            raise SourceError(f"changed while it was converted: it had {size} bytes, now {found}")
        return fd


class _Reader:
    """Reads ranges of a file; ranges that follow each other are read together. The last file stays open.

    Attributes:
        number: the file that is open, -1 for none.
        size: its bytes.
    """

    def __init__(self) -> None:
        self.number = self._fd = -1
        self.size = 0
        self._buffer, self._start = b"", 0

    def use(self, number: int, fd: int) -> None:
        """Goes on with another file, whose descriptor is closed at last."""
        self.close()
        self.number, self._fd, self.size = number, fd, os.fstat(fd).st_size

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`. Raises SourceError."""
        if not self._start <= start <= end <= self._start + len(self._buffer):
            follows = self._start <= start <= self._start + len(self._buffer)
            self._buffer, self._start = read_at(self._fd, start, max(end - start, _READ_AHEAD if follows else 0)), start
        found = self._buffer[start - self._start : end - self._start]
        if len(found) != end - start:
            raise SourceError("changed while it was converted: it is shorter now")
        return found

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self.number = self._fd = -1
        self._buffer, self._start = b"", 0

    def __del__(self) -> None:
        self.close()
