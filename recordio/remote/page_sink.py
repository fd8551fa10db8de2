"""Where a range of a shard arrives: checked page by page, written to its place, and marked as present."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import AsyncIterator
from typing import Any

from recordio.format.checksum import checksum

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
            yield os.pread(descriptor, count, offset) != b"\1" * count
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
        """Writes the range, then says that it is present."""
        view, at = memoryview(data), self._begin + self._shift
        while view:
            done = os.pwrite(self._target, view, at)
            view, at = view[done:], at + done
        if self._present is not None:
            descriptor, offset, count = self._present
            os.pwrite(descriptor, b"\1" * count, offset)


def _lock(descriptor: int, kind: int, offset: int, count: int) -> bool:
    """Whether it got the lock; True where the file system has none."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, offset, count, 0))
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True
