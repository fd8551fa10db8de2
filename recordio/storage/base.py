"""The interface to storage: a folder of named files, read at offsets or mapped.

A read is exact: all the requested bytes, or an error. Only this package turns errors of the system into ours.
"""

from __future__ import annotations

import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Protocol

from recordio.errors import CorruptError, StorageError

Range = tuple[int, int]  # offset and number of bytes
_MAX_GAP = 16 << 10  # a gap up to this size costs less to read than a second read


def storage_error(action: str, path: str | os.PathLike[str], error: OSError) -> StorageError:
    """An error of the operating system as one of ours, with the name of the file."""
    return StorageError(f"cannot {action}: {error.strerror or error}").at(file=os.fspath(path))


class File(ABC):
    """An open file of fixed length."""

    name: str
    nbytes: int

    def read(self, offset: int, nbytes: int) -> bytes:
        """Exactly these bytes.

        Raises CorruptError if the file is shorter: it was cut. Raises StorageError if the system fails to read, and for
        a negative offset or length.
        """
        if offset < 0 or nbytes < 0:  # a slice would count a negative offset from the end of the file
            text = f"cannot read {nbytes} bytes at offset {offset}: neither may be negative"
            raise StorageError(text).at(file=self.name)
        data = self._read(offset, nbytes)
        if len(data) != nbytes:
            raise CorruptError(f"the file was cut: {len(data)} of {nbytes} bytes").at(file=self.name, byte=offset)
        return data

    def read_ranges(self, ranges: Sequence[Range]) -> list[memoryview]:
        """The bytes of each range, in the order of the ranges; near ranges share a read. Raises as `read` does."""
        out: list[memoryview] = [memoryview(b"")] * len(ranges)
        for start, end, members in coalesced(ranges):
            data = memoryview(self.read(start, end - start))
            for k in members:
                offset, nbytes = ranges[k]
                out[k] = data[offset - start : offset - start + nbytes]
        return out

    @abstractmethod
    def _read(self, offset: int, nbytes: int) -> bytes:
        """These bytes, fewer only where the file ends. Raises StorageError."""

    @abstractmethod
    def map(self) -> mmap.mmap | bytes:
        """The whole file as memory; a slice of it is bytes. Raises StorageError."""

    @abstractmethod
    def close(self) -> None: ...


def coalesced(ranges: Sequence[Range], gap: int = _MAX_GAP) -> list[tuple[int, int, list[int]]]:
    """(start, end, positions of its ranges) of each read: ranges at most `gap` bytes apart share a read."""
    out: list[tuple[int, int, list[int]]] = []
    for k in sorted(range(len(ranges)), key=ranges.__getitem__):
        offset, nbytes = ranges[k]
        if out and offset <= out[-1][1] + gap:
            start, end, members = out[-1]
            members.append(k)
            out[-1] = start, max(end, offset + nbytes), members
        else:
            out.append((offset, offset + nbytes, [k]))
    return out


class Storage(Protocol):
    """A folder."""

    def open(self, name: str) -> File:
        """Raises FileNotFoundError, StorageError, and DatasetError for anything but a regular file."""

    def tails(self, files: Iterable[tuple[str, int]], nbytes: int) -> list[bytes]:
        """The last `nbytes` bytes of each of these files, (name, length) pairs: a quick look at many of them.

        Of a file that cannot be read, is not regular or has another length, it is not `nbytes` bytes but fewer or more:
        `open` tells why. Follows no symbolic link, waits for no pipe.
        """

    def names(self) -> list[str]:
        """The names in the folder, sorted. Raises StorageError."""
