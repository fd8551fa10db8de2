"""A folder of a cache as a whole: what is in it, whether it is sound, and removing from it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recordio.errors import CorruptError, DatasetError, RecordIOError
from recordio.format.checksum import checksum
from recordio.format.index import Index
from recordio.format.layout import FOOTER, HEADER, padded
from recordio.format.page import Indices
from recordio.format.shard import Footer, ShardHeader
from recordio.remote.cache_budget import CacheBudget
from recordio.remote.cache_files import DATA, MAGIC, MAP, make_folder, shard_sizes
from recordio.remote.cached_datasets import CachedDataset, CachedDatasets
from recordio.remote.shard_cache import CachedShard
from recordio.storage.base import storage_error

Progress = Callable[[int, int], None]


@dataclass
class CacheCheck:
    """What a check of a cache has found.

    Attributes:
        shards: how many were checked.
        pages: how many of their pages were present, with headers and indexes.
        cleared: how many of these were damaged; they will be fetched again.
    """

    shards: int = 0
    pages: int = 0
    cleared: int = 0


class CacheFolder:
    """The cache in a folder; other processes may use it meanwhile.

    Raises StorageError.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shards = folder / "shards"
        self._datasets = CachedDatasets(folder)
        self._budget = CacheBudget(folder / "used", self.nbytes)

    def nbytes(self) -> int:
        """What its shards take on disk."""
        return shard_sizes(self._shards).total()

    def sizes(self) -> dict[str, int]:
        """What each shard takes on disk, by its digest."""
        return dict(shard_sizes(self._shards))

    def datasets(self) -> list[CachedDataset]:
        """That used last first."""
        return self._datasets.all()

    def clear(self, url: str | None = None) -> int:
        """Removes a dataset, or all; what is in use stays. The bytes that were freed. Raises DatasetError."""
        chosen = [one for one in self.datasets() if one.url == url or one.url.startswith(f"{url} at ")]
        if url is not None and not chosen:
            fault = "the cache has nothing of this dataset; `recordio cache list` names what it has"
            raise DatasetError(fault).at(file=url)
        if used := [one for one in chosen if one.in_use]:
            raise DatasetError("the dataset is in use").at(file=used[0].url)
        urls = [None] if url is None else sorted({one.url for one in chosen})
        return self._freed(lambda: sum(map(self._datasets.clear, urls)))

    def prune(self, nbytes: int) -> int:
        """Removes shards that are not in use, the longest unused first, until no more than this is taken. What was
        freed."""
        return self._freed(lambda: self._datasets.drop(max(0, self.nbytes() - nbytes)))

    def _freed(self, remove: Callable[[], int]) -> int:
        try:
            make_folder(self.folder / "datasets")
            freed = remove()
            self._budget.add(-freed)
        except OSError as error:
            raise storage_error("clean the cache", os.fspath(self.folder), error) from error
        return freed

    def verify(self, progress: Progress | None = None) -> CacheCheck:
        """Compares the checksum of every page that is present, and clears those that are damaged."""
        found, done, sizes = CacheCheck(), 0, self.sizes()
        for digest, nbytes in sorted(sizes.items()):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                self._verify_shard(digest, found)
            done += nbytes
            if progress is not None:
                progress(done, sum(sizes.values()))
        return found

    def _verify_shard(self, digest: str, found: CacheCheck) -> None:
        path = self._shards / digest
        try:
            nbytes, parts = (os.stat(f"{path}{suffix}", follow_symlinks=False).st_size for suffix in (DATA, MAP))
            shard = CachedShard(os.fspath(path), nbytes, max(0, parts - len(MAGIC)), create=False)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise storage_error("read the cache", os.fspath(path), error) from error
        present = np.flatnonzero(shard.present(0, parts - len(MAGIC)))
        try:
            bad = _damaged_pages(shard, bytes.fromhex(digest), nbytes, present)
        except RecordIOError:
            bad = present.tolist()
        for number in bad:
            shard.clear(number, number + 1)
        found.shards += 1
        found.pages += len(present)
        found.cleared += len(bad)


def _damaged_pages(shard: CachedShard, digest: bytes, nbytes: int, present: Indices) -> list[int]:
    """The numbers of present pages that are damaged. Raises CorruptError if header or index are."""
    if present[:2].tolist() != [0, 1]:  # what cannot be checked yet is checked when it is read
        return []
    footer = Footer.decode(_read(shard, nbytes - FOOTER.size, FOOTER.size), nbytes)
    if footer.digest != digest:
        raise CorruptError("another shard")
    header = _read(shard, 0, ShardHeader.nbytes(_read(shard, 0, HEADER.size)))
    data = _read(shard, footer.index_offset, footer.index_nbytes)
    index = Index.decode(data, footer, header, ShardHeader.decode(header).schema)
    entries, offsets = index.pages.ravel(), index.page_offsets.ravel()
    if int(present[-1]) >= len(offsets) + 2:
        raise CorruptError("more pages than the shard has")
    sizes = padded(entries["stored_nbytes"].astype(np.int64))
    pages = present[2:] - 2
    facts = present[2:], offsets[pages], sizes[pages], entries["checksum"][pages]
    rows = zip(*(one.tolist() for one in facts), strict=True)
    return [number for number, offset, size, stored in rows if not _is_sound(shard, offset, size, stored)]


def _is_sound(shard: CachedShard, offset: int, nbytes: int, stored: int) -> bool:
    data = bytearray(nbytes)
    return shard.read(memoryview(data), offset) and checksum(data) == stored


def _read(shard: CachedShard, offset: int, nbytes: int) -> bytes:
    data = bytearray(nbytes)
    if offset < 0 or not shard.read(memoryview(data), offset):
        raise CorruptError("the file was cut")
    return bytes(data)
