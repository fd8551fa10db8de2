"""Where a range of a shard arrives: checked page by page, written to its place, and marked as present."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import struct
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

from recordio.format.checksum import checksum
from recordio.remote.cache_files import DATA, MAGIC, MAP, OPEN_FLAGS
from recordio.remote.request_errors import RequestError

CHECK = struct.Struct("<qqQ")  # where a page begins in its shard, its size there with padding, its checksum
_FLOCK = struct.Struct("hhqqi4x")
_MISSING = re.compile(rb"[^\1]+")
MAX_GAP = 64 << 10  # to fetch a gap up to this size costs less than another request
_FIRST_WAIT, _LONGEST_WAIT = 0.002, 0.05
_PATIENCE = 20.0  # seconds for the holder of a lock: a job that is suspended keeps what it holds


class PageSink:
    """A range's place in a file.

    Args:
        target: the descriptor to write to.
        shift: what to add to an offset in the shard for the offset in the target.
        begin, end: where the range lies in the shard.
        checks: pages to check, packed CHECKs.
        present: (descriptor, offset, count) of the bytes that say "present" on disk; None in memory.
    """

    def __init__(
        self, target: int, shift: int, begin: int, end: int, checks: bytes, present: tuple[int, int, int] | None
    ) -> None:
        self.begin = begin
        self.end = end
        self._target = target
        self._shift = shift
        self._checks = checks
        self._present = present

    @classmethod
    @contextlib.contextmanager
    def on_disk(cls, path: str, first: int, count: int, begin: int, end: int, checks: bytes) -> Iterator[Self]:
        """In the files of a shard in the cache, whose parts of these numbers it brings.

        Raises RequestError "removed", "full": the range is then fetched into memory.
        """
        with contextlib.ExitStack() as files:
            with _disk():
                target = files.enter_context(_opened(f"{path}{DATA}"))
                present = files.enter_context(_opened(f"{path}{MAP}"))
            yield cls(target, 0, begin, end, checks, (present, len(MAGIC) + first, count))

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[list[PageSink]]:
        """The runs of the range that are missing, while no other process fetches it.

        The lock only saves a second fetch: all write the same bytes to the same place. The kernel frees it with its
        holder. Where there are no such locks (macOS, some network disks), or the holder takes long, there are second
        fetches.
        """
        if self._present is None or not hasattr(fcntl, "F_OFD_SETLK"):
            yield [self]
            return
        descriptor, offset, count = self._present
        wait, deadline = _FIRST_WAIT, time.monotonic() + _PATIENCE
        while not _lock(descriptor, fcntl.F_WRLCK, offset, count) and time.monotonic() < deadline:
            await asyncio.sleep(wait)
            wait = min(_LONGEST_WAIT, 2 * wait)
        try:
            with _disk():
                found = os.pread(descriptor, count, offset)
            yield self._missing(found)
        finally:
            _lock(descriptor, fcntl.F_UNLCK, offset, count)

    def _missing(self, present: bytes) -> list[PageSink]:
        """The runs of parts that are not present, joined over small gaps."""
        if 1 not in present:
            return [self]
        pages = list(CHECK.iter_unpack(self._checks))
        if len(pages) != len(present):  # header or index, or all pages while the index is not known
            return [] if present == b"\1" * len(present) else [self]
        runs: list[tuple[int, int]] = []
        for first, behind in (found.span() for found in _MISSING.finditer(present)):
            if runs and pages[first][0] - sum(pages[runs[-1][1] - 1][:2]) <= MAX_GAP:
                first = runs.pop()[0]
            runs.append((first, behind))
        return [self._part(first, behind, pages) for first, behind in runs]

    def _part(self, first: int, behind: int, pages: list[tuple[int, int, int]]) -> PageSink:
        """The place of some of the range's parts, each of which is a page with what lies before and behind it."""
        assert self._present is not None
        descriptor, offset, _ = self._present
        begin = self.begin if first == 0 else sum(pages[first - 1][:2])
        end = self.end if behind == len(pages) else pages[behind][0]
        checks = self._checks[first * CHECK.size : behind * CHECK.size]
        return PageSink(self._target, self._shift, begin, end, checks, (descriptor, offset + first, behind - first))

    def first_bad(self, data: Any) -> int | None:
        """The first byte of the first page that is not what was written; None if all are."""
        view = memoryview(data)
        for begin, nbytes, expected in CHECK.iter_unpack(self._checks):
            if checksum(view[begin - self.begin : begin - self.begin + nbytes]) != expected:
                return int(begin)
        return None

    def write(self, data: Any) -> None:
        """Writes the range, then says that it is present. Raises RequestError "full"."""
        with _disk():
            _pwrite(self._target, data, self.begin + self._shift)
            if self._present is not None:
                descriptor, offset, count = self._present
                _pwrite(descriptor, b"\1" * count, offset)


def _pwrite(descriptor: int, data: Any, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, offset)
        view, offset = view[done:], offset + done


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | OPEN_FLAGS)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    """No disk's error stops a read: what it does not take is fetched into memory."""
    try:
        yield
    except OSError as error:
        kind = "removed" if isinstance(error, FileNotFoundError) else "full"
        raise RequestError(kind, error.strerror or str(error)) from error


def _lock(descriptor: int, kind: int, offset: int, count: int) -> bool:
    """Whether it got the lock; True where the file system has none."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, offset, count, 0))
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True
