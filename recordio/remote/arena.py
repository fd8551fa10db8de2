"""Memory that the helper writes and this process reads, for ranges that are not kept on disk."""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import threading

_PUNCH_HOLE, _KEEP_SIZE = 2, 1


class Arena:
    """A file in memory. Offsets are never used twice, so nothing is ever overwritten; what was read is given back."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self.descriptor = os.memfd_create("recordio", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                self.descriptor = os.dup(file.fileno())
        self._lock = threading.Lock()
        self._end = 0
        self._live = 0
        self._fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)

    def reserve(self, nbytes: int) -> int:
        """The offset of so many bytes."""
        with self._lock:
            offset = self._end
            self._end += -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
            self._live += nbytes
        return offset

    def free(self, offset: int, nbytes: int) -> None:
        """Gives the memory of a range back to the system."""
        with self._lock:
            self._live -= nbytes
            if self._fallocate is not None:
                size = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
                place = ctypes.c_long(offset), ctypes.c_long(size)
                self._fallocate(self.descriptor, _PUNCH_HOLE | _KEEP_SIZE, *place)
            elif self._live == 0:  # no holes on this system
                os.ftruncate(self.descriptor, 0)

    @property
    def live_nbytes(self) -> int:
        """Bytes that are reserved."""
        return self._live

    def __del__(self) -> None:
        os.close(self.descriptor)
