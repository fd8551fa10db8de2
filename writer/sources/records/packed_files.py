"""Record files that are compressed as a whole: each is unpacked into a nameless temporary file when it is read.

A process keeps some of them, so that samples in any order do not unpack a file for each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import IO, Any

import numpy as np

from recordio.errors import SourceError
from recordio.writer.sources.archives.compression import harmless, unpacked
from recordio.writer.sources.archives.scratch import written
from recordio.writer.sources.records.record_files import RecordFiles
from recordio.writer.sources.source import Item

_RUN_NBYTES = 1 << 28  # of samples that are held to be given back in a shuffled order
_KEPT_NBYTES = 1 << 31  # of temporary files that a process keeps; one is kept always


class PackedRecordFiles(RecordFiles):
    """A subclass says by `_packing` which files are compressed, and may unpack in its own way."""

    _packed = False  # whether any file is, or lies in an archive

    def _packing(self, number: int) -> str | None:
        """What a file is packed with, gzip, bzip2, xz or zstd; None for a plain file."""
        raise NotImplementedError

    def _unpacked(self, raw: IO[bytes], packing: str, most: int | None) -> Iterator[bytes]:
        """The bytes of an open file, at most so many. Raises SourceError."""
        return _limited(unpacked(raw, packing), most)

    def _as_it_is(self, number: int) -> IO[bytes]:
        """A file as it is on disk. Raises SourceError."""
        return open(super()._open(number), "rb")

    def _most(self, number: int) -> int | None:
        """The most bytes that a packed file may hold, None if nothing says so."""
        return None

    def _open(self, number: int) -> int:
        kept = self._kept.open(number)
        if kept is not None:
            return kept
        packing = self._packing(number)
        fd = super()._open(number)
        in_archive = not os.path.isfile(next(self.files.paths([number])))
        self._packed = self._packed or in_archive or packing is not None
        if packing is None:
            return self._kept.keep(number, fd) if in_archive else fd
        with open(fd, "rb") as raw:
            chunks = self._unpacked(raw, packing, self._most(number))
            return self._kept.keep(number, written(harmless(chunks, int(self.files.sizes[number]))))

    def _scan(self) -> None:
        self._kept = _Kept()
        super()._scan()

    def read(self, indices: Iterable[int]) -> Iterator[Item]:
        """As `Source.read`. A shuffled order is read by file, a run at a time, so that a run unpacks a file once."""
        wanted = np.fromiter(indices, np.int64)
        if not self._packed or (np.diff(wanted) >= 0).all():
            yield from super().read(wanted.tolist())
            return
        runs = np.cumsum(self.nbytes()[wanted]) // _RUN_NBYTES
        for run in np.split(wanted, np.flatnonzero(np.diff(runs)) + 1):
            order = np.argsort(run)
            read = zip(order.tolist(), super().read(run[order].tolist()), strict=True)
            found = dict(read)
            yield from (found.pop(place) for place in range(len(run)))

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_kept": _Kept()}


class _Kept:
    """The temporary files of a process, by the numbers of the packed ones; the one used longest ago goes first."""

    def __init__(self) -> None:
        self._fds: dict[int, int] = {}

    def open(self, number: int) -> int | None:
        """A descriptor for the caller, None if the file is not here."""
        fd = self._fds.pop(number, None)
        if fd is None:
            return None
        self._fds[number] = fd
        return os.dup(fd)

    def keep(self, number: int, fd: int) -> int:
        """Takes a descriptor, and gives the caller one of the same file."""
        self._fds[number] = fd
        nbytes = sum(os.fstat(one).st_size for one in self._fds.values())
        while nbytes > _KEPT_NBYTES and len(self._fds) > 1:
            oldest = self._fds.pop(next(iter(self._fds)))
            nbytes -= os.fstat(oldest).st_size
            os.close(oldest)
        return os.dup(fd)

    def __del__(self) -> None:
        for fd in self._fds.values():
            os.close(fd)


def zstd_pieces(data: bytes, most: int) -> Iterator[bytes]:
    """What zstd packed, at most so many bytes, in pieces of bounded size. Raises SourceError."""
    return _limited(unpacked(BytesIO(data), "zstd"), most)


def unpacked_zstd(data: bytes, most: int) -> bytes:
    """The same as one piece."""
    return b"".join(zstd_pieces(data, most))


def _limited(chunks: Iterable[bytes], most: int | None) -> Iterator[bytes]:
    nbytes = 0
    for chunk in chunks:
        nbytes += len(chunk)
        if most is not None and nbytes > most:
            raise SourceError(f"unpacked it is longer than {most} bytes, the most that it may be")
        yield chunk
