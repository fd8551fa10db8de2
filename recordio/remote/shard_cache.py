"""The cache on disk: a sparse file for each shard, with the shard's own offsets, and a byte a page that says "present".

Files are named by the shard's digest, so mirrors and versions of a dataset share them, and the content of a name never
changes. Correct without locks: every writer writes the same bytes to the same place, data first, then the byte.
"""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.storage.base import storage_error

_MAGIC = b"recordio-cache-1"
_HEAD = len(_MAGIC)
_RECOUNT_NBYTES = 64 << 20  # written by this process, until the use of all processes is counted anew
_SHARE_OF_FREE = 0.8

Flags = npt.NDArray[np.uint8]


class CachedShard:
    """The files of a shard in the cache.

    Attributes:
        data: descriptor of the sparse file.
        flags_file: descriptor of the bytes that say what is present.
    """

    def __init__(self, path: Path, nbytes: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self.data = os.open(path.with_suffix(".rio"), flags, 0o600)
        self.flags_file = os.open(path.with_suffix(".map"), flags, 0o600)
        if os.fstat(self.data).st_size != nbytes or os.pread(self.flags_file, _HEAD, 0) != _MAGIC:
            os.ftruncate(self.flags_file, 0)
            os.ftruncate(self.data, nbytes)
            os.pwrite(self.flags_file, _MAGIC, 0)

    def flags(self, count: int) -> Flags:
        """uint8 (count,): 1 for each part that is present, shared with all processes."""
        if os.fstat(self.flags_file).st_size < _HEAD + count:
            os.ftruncate(self.flags_file, _HEAD + count)
        return np.frombuffer(mmap.mmap(self.flags_file, _HEAD + count), np.uint8)[_HEAD:]

    @staticmethod
    def flag_offset(number: int) -> int:
        """Where a part's byte lies in the file."""
        return _HEAD + number

    def close(self) -> None:
        os.close(self.data)
        os.close(self.flags_file)


class ShardCache:
    """A folder of cached shards, shared by all processes of a machine.

    Args:
        folder: made if it is not there.
        limit: of its size on disk, in bytes; None for 80 % of what is free.
    """

    def __init__(self, folder: Path, limit: int | None) -> None:
        self._shards = folder / "shards"
        try:
            self._shards.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error("make the cache", os.fspath(folder), error) from error
        self._lock = threading.Lock()
        self._used = used_nbytes(self._shards)
        free = os.statvfs(self._shards)
        self._limit = int(_SHARE_OF_FREE * (free.f_bavail * free.f_frsize + self._used)) if limit is None else limit
        self._written = 0
        self.is_full = False

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self._shards.parent, "limit": self._limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def shard(self, digest: bytes, nbytes: int) -> CachedShard:
        """Raises OSError."""
        return CachedShard(self._shards / digest.hex(), nbytes)

    def takes(self, nbytes: int) -> bool:
        """Whether there is room for so many more bytes, which are counted as written. Once full it stays so: an epoch
        reads each page once, so what is there serves the next one better than what would take its place."""
        with self._lock:
            if self.is_full:
                return False
            self._written += nbytes
            if self._written > _RECOUNT_NBYTES:
                self._used, self._written = used_nbytes(self._shards), nbytes
            self.is_full = self._used + self._written > self._limit
            return not self.is_full


def used_nbytes(folder: Path) -> int:
    """What the files of a folder take on the disk."""
    with os.scandir(folder) as entries:
        return sum(entry.stat(follow_symlinks=False).st_blocks * 512 for entry in entries)
