"""The cache on disk: a sparse file for each shard, with the shard's own offsets, and a byte a part that says "present".

    shards/<digest>.rio    the shard, with holes where nothing was fetched
    shards/<digest>.map    magic, then a byte for each part: 1 if it is present
    manifests/             the manifests of datasets, by their digests       cached_datasets.py
    datasets/              which datasets were used, and are in use          cached_datasets.py
    used                   what the shards take on disk                      cache_budget.py

Files are named by the shard's digest, so mirrors and versions of a dataset share them, and the content of a name never
changes. Correct without locks: every writer writes the same bytes to the same place, data first, then the byte. After a
power loss a byte may say "present" of zeros: whoever reads a part for the first time compares its checksum, clears the
byte, and has it fetched again.

Nothing is mapped: a file that is cut, or a hole on a full tmpfs, would kill the process that reads it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.format.checksum import checksum
from recordio.remote.cache_budget import CacheBudget
from recordio.remote.cache_files import DATA, MAGIC, MAP, OPEN_FLAGS, locked, make_folder, read_file, shard_sizes
from recordio.remote.cached_datasets import CachedDatasets, HeldDataset
from recordio.remote.page_sink import CHECK
from recordio.storage.base import storage_error
from recordio.storage.machine import free_nbytes, share_of_files

_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MOST_OPEN = 4096
_SHARE_OF_FREE = 0.8
_MOST_NBYTES = 10**12  # unless the user says more

Present = npt.NDArray[np.bool_]


class CachedShard:
    """The files of a shard in the cache, open until the last reference to them is gone.

    Attributes:
        path: their path without suffix; the helper opens them by it to write.
        is_writable: False in a folder that others have filled.
    """

    _data = _map = -1

    def __init__(self, path: str, nbytes: int, parts: int, create: bool = True) -> None:
        """Opens them, or makes them. Raises OSError."""
        self.path = path
        self.is_writable = True
        self._parts = parts
        try:
            self._open(os.O_RDWR | (os.O_CREAT if create else 0))
            self._prepare(nbytes, parts)
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                raise
            self.is_writable = False
            self._open(os.O_RDONLY)
            if not self._fits(nbytes, parts):
                raise

    def _open(self, flags: int) -> None:
        self.__del__()
        self._map = os.open(f"{self.path}{MAP}", flags | OPEN_FLAGS, 0o600)
        self._data = os.open(f"{self.path}{DATA}", flags | OPEN_FLAGS, 0o600)

    def _fits(self, nbytes: int, parts: int) -> bool:
        sizes = os.fstat(self._data).st_size, os.fstat(self._map).st_size
        return sizes == (nbytes, len(MAGIC) + parts) and os.pread(self._map, len(MAGIC), 0) == MAGIC

    def _prepare(self, nbytes: int, parts: int) -> None:
        """Makes new files empty ones, and those that were cut as well: of one process at a time."""
        with locked(self._map):
            if not self._fits(nbytes, parts):
                os.ftruncate(self._map, 0)
                os.ftruncate(self._data, nbytes)
                os.pwrite(self._map, MAGIC + bytes(parts), 0)  # no hole: to fill one later could fail

    def present(self, begin: int, end: int) -> Present:
        """bool (end - begin,): whether the parts of these numbers are on disk."""
        try:
            found = os.pread(self._map, end - begin, len(MAGIC) + begin)
        except OSError:
            found = b""
        present: Present = np.frombuffer(found.ljust(end - begin, b"\0"), np.uint8) == 1
        return present

    @property
    def is_whole(self) -> bool:
        """Whether every part is on disk."""
        return bool(self.present(0, self._parts).all())

    def clear(self, begin: int, end: int) -> bool:
        """Marks parts as missing. Whether that could be written."""
        try:
            return os.pwrite(self._map, bytes(end - begin), len(MAGIC) + begin) == end - begin
        except OSError:
            return False

    def mark_good(self, checks: bytes) -> None:
        """Marks those pages as present that are there without being marked. `checks`: of all pages, packed CHECKs."""
        good = bytearray()
        for begin, nbytes, expected in CHECK.iter_unpack(checks):
            data = memoryview(bytearray(nbytes))
            good.append(self.read(data, begin) and checksum(data) == expected)
        good = bytearray(map(max, good, self.present(2, len(good) + 2).tobytes()))
        with contextlib.suppress(OSError):  # those that are not marked are fetched again
            os.pwrite(self._map, good, len(MAGIC) + 2)

    def read(self, target: memoryview, offset: int) -> bool:
        """Fills the target. False if the file was cut, or the disk fails."""
        return _read(self._data, target, offset)

    def __del__(self) -> None:
        for descriptor in (self._data, self._map):
            if descriptor >= 0:
                os.close(descriptor)
        self._data = self._map = -1


class WholeShard:
    """The data of a shard of which every part is on disk, open until the last reference to it is gone."""

    _data = -1

    def __init__(self, path: str, nbytes: int) -> None:
        """Raises OSError, also for a file of another length."""
        self._data = os.open(f"{path}{DATA}", os.O_RDONLY | OPEN_FLAGS)
        if os.fstat(self._data).st_size != nbytes:
            raise OSError(f"{path} was cut")

    def read(self, target: memoryview, offset: int) -> bool:
        """Fills the target. False if the file was cut, or the disk fails."""
        return _read(self._data, target, offset)

    def __del__(self) -> None:
        if self._data >= 0:
            os.close(self._data)


def _read(descriptor: int, target: memoryview, offset: int) -> bool:
    done = 0
    with contextlib.suppress(OSError):
        while done < len(target) and (count := os.preadv(descriptor, [target[done:]], offset + done)):
            done += count
    return done == len(target)


class ShardCache:
    """A folder of cached shards, shared by all processes of a machine. Thread-safe.

    Args:
        folder: made if it is not there, for this user alone.
        limit: of its size on disk, in bytes; None for 80 % of what is free, at most 1 TB.

    Attributes:
        is_full: nothing more is written. Once full it stays so: an epoch reads each page once, so what is there serves
            the next one better than what would take its place.
    """

    def __init__(self, folder: Path, limit: int | None) -> None:
        self.folder = folder
        self._shards = folder / "shards"
        try:
            make_folder(folder)
            make_folder(self._shards)
        except OSError as error:
            if error.errno not in _NOT_WRITABLE or not self._shards.is_dir():
                raise storage_error("make the cache", os.fspath(folder), error) from error
        self._budget = CacheBudget(folder / "used", lambda: shard_sizes(self._shards).total())
        self._datasets = CachedDatasets(folder)
        self._limit = self._share_of_free() if limit is None else limit
        self._has_warned = self.is_full = False
        self._holds = 0  # the disk, with what the cache has there, as it was found
        self._whole: set[bytes] = set()
        self.restart()

    def _share_of_free(self) -> int:
        try:
            free = free_nbytes(self._shards)
        except OSError as error:
            raise storage_error("read the cache", os.fspath(self.folder), error) from error
        return min(_MOST_NBYTES, int(_SHARE_OF_FREE * (free + self._budget.used())))

    def restart(self) -> None:
        """A forked child starts with this."""
        self._lock = threading.Lock()
        self._open: OrderedDict[bytes, CachedShard | None] = OrderedDict()
        self._open_whole: OrderedDict[bytes, WholeShard] = OrderedDict()

    def shard(self, digest: bytes, nbytes: int, parts: int) -> CachedShard | None:
        """The files of a shard; None if there are none and none can be made.

        Shards that were not used for long are closed: each takes two descriptors.
        """
        with self._lock:
            if digest not in self._open:
                self._open[digest] = self._opened(digest, nbytes, parts)
                _close_some(self._open)
            self._open.move_to_end(digest)
            return self._open[digest]

    def is_whole(self, digest: bytes) -> bool:
        """Whether every part was there when last looked for: nothing is looked for any more, until it is damaged."""
        return digest in self._whole

    def look_whether_whole(self, digest: bytes) -> None:
        """Notes whether every part of a shard that is open is there."""
        with self._lock:
            if (cached := self._open.get(digest)) is not None and cached.is_whole:
                self._whole.add(digest)
                del self._open[digest]

    def found_damaged(self, digest: bytes) -> None:
        """Whether something of a shard is missing is looked for again."""
        with self._lock:
            self._whole.discard(digest)
            self._open_whole.pop(digest, None)

    def whole(self, digest: bytes, nbytes: int) -> WholeShard | None:
        """The data of a shard of which every part is there; None if that is not known.

        To look for parts is not needed, so a process has one descriptor of it instead of two, and opens it quickly:
        an epoch of thousands of shards opens most of them for each window.
        """
        if digest not in self._whole:
            return None
        with self._lock:
            if digest not in self._open_whole:
                try:
                    self._open_whole[digest] = WholeShard(os.fspath(self._shards / digest.hex()), nbytes)
                except OSError:
                    self._whole.discard(digest)
                    return None
                _close_some(self._open_whole)
            self._open_whole.move_to_end(digest)
            return self._open_whole[digest]

    def _opened(self, digest: bytes, nbytes: int, parts: int) -> CachedShard | None:
        path = os.fspath(self._shards / digest.hex())
        try:
            with contextlib.suppress(FileNotFoundError):
                return CachedShard(path, nbytes, parts, create=False)
            if self.takes(len(MAGIC) + parts):
                return CachedShard(path, nbytes, parts)
        except OSError as error:
            self.refused(error.strerror or str(error), full=error.errno in _FULL)
        return None

    def refused(self, why: str, full: bool) -> None:
        """Notes that the disk does not take something: says so once, and writes no more if it is full."""
        if not self._has_warned:
            self._has_warned = True
            text = f"the cache in {self.folder} takes nothing more ({why}): what is not in it is fetched each time"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        self.is_full = self.is_full or full

    def takes(self, nbytes: int) -> bool:
        """Whether there is room for so many more bytes, which then count as written."""
        return self.taken([nbytes]) == 1

    def taken(self, sizes: Sequence[int]) -> int:
        """How many of these, from the first one on, there is room for; they then count as written.

        Room is made of datasets that nobody uses, those first that were not used for longest. A disk with less room
        than the limit is full too: what it does not take would be fetched a second time.
        """
        if self.is_full or not sizes:
            return 0
        try:
            while not self._budget.add(*sizes, limit=self._most()):
                if not self._make_room(sum(sizes)):
                    if len(sizes) > 1:
                        return sum(1 for _ in takewhile(self.takes, sizes))
                    if self._most() < self._limit:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    self.is_full = True
                    return 0
        except OSError as error:
            self.refused(error.strerror or str(error), full=True)
            return 0
        return len(sizes)

    def has_room(self, nbytes: int) -> bool:
        """Whether so many bytes would fit; nothing is counted. Room is made as for those that are."""
        while not self.is_free(nbytes):
            if self.is_full or not self._make_room(nbytes):
                return False
        return True

    def is_free(self, nbytes: int) -> bool:
        """Whether so many bytes fit without removing anything. Nothing is counted."""
        return not self.is_full and self._budget.used() + nbytes <= self._most()

    def _most(self) -> int:
        """The limit, or less if the disk holds less: what is on its way there counts as written already."""
        with contextlib.suppress(OSError):  # whoever writes finds out
            found = free_nbytes(self._shards) + self._budget.used()
            self._holds = self._holds or found
            return min(self._limit, self._holds, found)
        return self._limit

    def gives_back(self, nbytes: int) -> None:
        """So many bytes were not written after all."""
        with contextlib.suppress(OSError):
            self._budget.add(-nbytes)

    def kept_nbytes(self, digest: bytes, nbytes: int) -> int:
        """How many of a shard's bytes are on disk: all of them only if every part is."""
        path = self._shards / digest.hex()
        try:
            on_disk = os.stat(f"{path}{DATA}", follow_symlinks=False).st_blocks * 512
        except OSError:
            return 0
        parts = read_file(path.with_suffix(MAP), len(MAGIC) + nbytes)[len(MAGIC) :]
        return nbytes if parts and parts.count(1) == len(parts) else min(nbytes - 1, on_disk)

    def hold(self, url: str, manifest: bytes) -> HeldDataset | None:
        """Keeps a dataset's shards from being removed for others. None in a folder of others."""
        return self._datasets.hold(url, manifest, when_alone=self._budget.measure)

    def manifest(self, url: str) -> bytes | None:
        """The manifest of a dataset as it was used last."""
        return self._datasets.latest(url)

    def _make_room(self, nbytes: int) -> bool:
        """Whether there is more room than before."""
        freed = self._datasets.drop(max(nbytes, self._limit // 64))
        self._budget.add(-freed)
        return freed > 0


def _close_some(shards: OrderedDict[bytes, Any]) -> None:
    """Closes those that were not used for long, down to a part of the files that this process may have open."""
    while len(shards) > min(_MOST_OPEN, share_of_files(8)):
        shards.popitem(last=False)
