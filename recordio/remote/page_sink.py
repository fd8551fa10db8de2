"""Where a range of a shard arrives: checked page by page, written to its place, and marked as present."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

from recordio.format.checksum import checksum
from recordio.remote.cache_files import DATA, MAGIC, MAP, OPEN_FLAGS
from recordio.remote.request_errors import RequestError

CHECK = struct.Struct("<qqQ")  # where a page begins in its shard, its size there with padding, its checksum
_FLOCK = struct.Struct("hhqqi4x")
_FIRST_WAIT, _LONGEST_WAIT = 0.002, 0.05


class PageSink:
    """A range's place in a file.

    Args:
        target: the descriptor to write to.
        shift: what to add to an offset in the shard for the offset in the target.
        begin: where the range begins in the shard.
        checks: pages to check, packed CHECKs.
        present: (descriptor, offset, count) of the bytes that say "present" on disk; None in memory.
    """

    def __init__(
        self, target: int, shift: int, begin: int, checks: bytes, present: tuple[int, int, int] | None
    ) -> None:
        self._target = target
        self._shift = shift
        self._begin = begin
        self._checks = checks
        self._present = present

    @classmethod
    @contextlib.contextmanager
    def on_disk(cls, path: str, first: int, count: int, begin: int, checks: bytes) -> Iterator[Self]:
        """In the files of a shard in the cache, whose parts of these numbers it brings.

        Raises RequestError "removed", "full": the range is then fetched into memory.
        """
        with contextlib.ExitStack() as files:
            with _disk():
                target = files.enter_context(_opened(f"{path}{DATA}"))
                present = files.enter_context(_opened(f"{path}{MAP}"))
            yield cls(target, 0, begin, checks, (present, len(MAGIC) + first, count))

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[bool]:
        """Whether the range is missing, while no other process fetches it.

        The lock only saves a second fetch: all write the same bytes to the same place. The kernel frees it with its
        holder. Where there are no such locks (macOS, some network disks) there are second fetches.
        """
        if self._present is None or not hasattr(fcntl, "F_OFD_SETLK"):
            yield True
            return
        descriptor, offset, count = self._present
        wait = _FIRST_WAIT
        while not _lock(descriptor, fcntl.F_WRLCK, offset, count):
            await asyncio.sleep(wait)
            wait = min(_LONGEST_WAIT, 2 * wait)
        try:
            with _disk():
                found = os.pread(descriptor, count, offset)
            yield found != b"\1" * count
        finally:
            _lock(descriptor, fcntl.F_UNLCK, offset, count)

    def first_bad(self, data: Any) -> int | None:
        """The first byte of the first page that is not what was written; None if all are."""
        view = memoryview(data)
        for begin, nbytes, expected in CHECK.iter_unpack(self._checks):
            if checksum(view[begin - self._begin : begin - self._begin + nbytes]) != expected:
                return int(begin)
        return None

    def write(self, data: Any) -> None:
        """Writes the range, then says that it is present. Raises RequestError "full"."""
        with _disk():
            _pwrite(self._target, data, self._begin + self._shift)
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
