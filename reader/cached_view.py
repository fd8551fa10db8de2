"""How much of a dataset in an object store is on this machine, and bringing it here before it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from recordio.errors import SchemaError, StorageError

if TYPE_CHECKING:
    from recordio.reader.dataset import ShardDataset
    from recordio.reader.open_dataset import OpenDataset
    from recordio.remote.remote_shard import RemoteShard
    from recordio.remote.remote_storage import RemoteStorage

_INDEXES_AT_A_TIME = 64


class CachedView:
    """What a view says and does of the cache. Datasets on this machine need none."""

    parts: tuple[ShardDataset, ...]

    @property
    def cached(self) -> float:
        """The share of the bytes of the datasets' shards that is on this machine, from 0 to 1."""
        found = every = 0
        for store in self._stores():
            found += store.nbytes if not store.storage.is_remote else _storage_of(store).kept_nbytes(store.manifest)
            every += store.nbytes
        return found / every if every else 1.0

    def predownload(self, fraction: float = 1.0, progress: Callable[[int, int], None] | None = None) -> None:
        """Brings a dataset of an object store to the cache, before it is read.

        Whole shards come, in their order, until so large a share of the bytes is there; what is there already is not
        fetched again, so a second call goes on where the first was stopped. The order of samples does not change.

        Args:
            fraction: the share of each dataset's bytes, from 0 to 1.
            progress: called with the bytes that are there and those that are wanted.

        Raises:
            SchemaError: there is no cache, or the fraction is out of range.
            StorageError: the cache is full, or the store cannot be reached.
            CorruptError: the bytes in the store are not those that were written.
        """
        if not 0 <= fraction <= 1:
            raise SchemaError(f"fraction is {fraction!r}: expected a number from 0 to 1")
        stores = [store for store in self._stores() if store.storage.is_remote]
        chosen = [_first_shards(store, fraction) for store in stores]
        total = sum(int(store.manifest.table.nbytes[:count].sum()) for store, count in zip(stores, chosen, strict=True))
        done = 0

        def report(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            if progress is not None:
                progress(done, total)

        for store, count in zip(stores, chosen, strict=True):
            _bring(store, count, report)

    def _stores(self) -> list[OpenDataset]:
        """The open datasets, each once."""
        return list({id(part.store): part.store for part in self.parts}.values())


def _first_shards(store: OpenDataset, fraction: float) -> int:
    """How many shards hold so large a share of the bytes."""
    ends = np.cumsum(store.manifest.table.nbytes.astype(np.float64))
    return int(np.searchsorted(ends, fraction * ends[-1])) + 1 if len(ends) and fraction > 0 else 0


def _bring(store: OpenDataset, count: int, report: Callable[[int], None]) -> None:
    from recordio.remote.predownload import predownload

    storage = _storage_of(store)
    if storage.cache is None:
        raise SchemaError("there is no cache to bring the dataset to: give a folder as `cache`")
    if storage.is_offline:
        raise StorageError("offline=True asks nothing of the network: open the dataset without it")
    predownload(_shards(store, count), report)


def _shards(store: OpenDataset, count: int) -> Iterator[RemoteShard]:
    """The first shards, with their indexes known."""
    from recordio.remote.remote_shard import RemoteShardFile

    for first in range(0, count, _INDEXES_AT_A_TIME):
        numbers = np.arange(first, min(count, first + _INDEXES_AT_A_TIME))
        store.ask_for_indexes(numbers)
        for number in numbers.tolist():
            store.indexes.of(number)
            file = store.unkept_file(number)
            assert isinstance(file, RemoteShardFile)
            yield file.shard


def _storage_of(store: OpenDataset) -> RemoteStorage:
    from recordio.remote.remote_storage import RemoteStorage

    assert isinstance(store.storage, RemoteStorage)
    return store.storage
