"""The shards that are open in this process: one limit for all datasets together."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from recordio.reader.open_shard import OpenShard
from recordio.storage.machine import share_of_files

if TYPE_CHECKING:
    from recordio.reader.open_dataset import OpenDataset


def most_open_shards() -> int:
    """Shards that may be open in this process: half of its files, as each takes two, for itself and for its map."""
    return share_of_files(4)


class OpenShards:
    """Keeps the open shards of all datasets within the limit: the oldest is closed for a new one. Thread-safe."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forgets all shards. A forked child starts with this."""
        self._lock = threading.Lock()
        self._kept: weakref.WeakKeyDictionary[OpenShard, tuple[weakref.ref[OpenDataset], int]]
        self._kept = weakref.WeakKeyDictionary()  # the oldest one first; those of a dataset go with it

    def has_room(self, dataset: OpenDataset, datasets: int) -> bool:
        """Whether one of so many datasets may open another shard: without closing any, or because it has few itself."""
        most, own = most_open_shards(), len(dataset.shards)
        return own < dataset.most_open and (len(self._kept) < most or own < most // datasets)

    def keep(self, dataset: OpenDataset, number: int, shard: OpenShard) -> None:
        """Adds a shard to those of its dataset, and closes others as far as there are too many."""
        with self._lock:
            while len(dataset.shards) >= dataset.most_open:
                self._close(next(iter(dataset.shards.values())))
            while len(self._kept) >= most_open_shards() and (oldest := next(iter(self._kept), None)):
                self._close(oldest)
            dataset.shards[number] = shard
            self._kept[shard] = weakref.ref(dataset), number

    def _close(self, shard: OpenShard) -> None:
        """Closes it, unless a running read still has it."""
        dataset, number = self._kept.pop(shard)
        found = dataset()
        if found is not None and found.shards.get(number) is shard:
            del found.shards[number]
