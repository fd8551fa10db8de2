"""A folder of an object store as a `Storage`: what is asked for is fetched by the helper, once.

Shards are known by the manifest before they are opened: opening one asks nothing.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from recordio.errors import CorruptError, MissingPackageError, RecordIOError, StorageError
from recordio.format.layout import MAX_MANIFEST_NBYTES
from recordio.remote.arena import Arena
from recordio.remote.helper_process import HelperDied, HelperProcess, RemoteError, asked, helper
from recordio.remote.options import StorageOptions
from recordio.remote.remote_shard import RemoteShard, RemoteShardFile
from recordio.remote.shard_cache import ShardCache
from recordio.remote.urls import checked_url, shown
from recordio.storage.base import File, ShardPlace
from recordio.storage.memory import MemoryFile

_KEPT_SHARDS = 512  # of which the cache's files stay open
_MOST_BYTES = MAX_MANIFEST_NBYTES


_storages: weakref.WeakSet[RemoteStorage] = weakref.WeakSet()


class RemoteStorage:
    """A folder of an object store. Thread-safe, and usable after a fork.

    Args:
        url: where the dataset lies.
        options: how the store is reached.
        cache: where shards are kept on disk; None keeps what is fetched in memory until it is read.
    """

    is_remote = True

    def __init__(self, url: str, options: StorageOptions, cache: ShardCache | None) -> None:
        self.url = checked_url(url)
        self.options = options
        self.cache = cache
        self.restart()
        _storages.add(self)

    def restart(self) -> None:
        """A forked child starts with this: what its parent has asked for arrives there."""
        self._lock = threading.Lock()
        self._shards: OrderedDict[str, RemoteShard] = OrderedDict()
        self.arena: Arena | None = None
        self._attached: dict[int, tuple[HelperProcess, int]] = {}

    def open(self, name: str, place: ShardPlace | None = None) -> File:
        """A shard of which the place is known, or any other file, which is read as a whole.

        Raises FileNotFoundError, StorageError.
        """
        if place is not None:
            return RemoteShardFile(self.shard(name, place))
        data, etag, _ = self.ask("get", name, 0, None, _MOST_BYTES)
        return MemoryFile(name, data, etag or data)

    def shard(self, name: str, place: ShardPlace) -> RemoteShard:
        """What is known of a shard, and kept of it."""
        with self._lock:
            shard = self._shards.get(name)
            if shard is None or shard.place.digest != place.digest:
                shard = self._shards[name] = RemoteShard(self, name, place)
            self._shards.move_to_end(name)
            idle = [one for one in list(self._shards)[: len(self._shards) - _KEPT_SHARDS] if self._shards[one].is_idle]
            for one in idle:
                self._shards.pop(one).close()
            return shard

    def ask(self, what: str, name: str, *args: Any) -> Any:
        """What the helper answers about an object. Raises FileNotFoundError, StorageError, MissingPackageError."""
        try:
            return asked(lambda helper: helper.submit(what, helper.store(self.url, self.options), name, *args).result())
        except RemoteError as error:
            if error.kind == "missing":
                raise FileNotFoundError(f"{shown(self.url)}/{name}") from error
            raise self.explained(error, name) from error

    def attached(self, helper: HelperProcess, descriptor: int) -> int:
        """The helper's number of a file of this process."""
        found = self._attached.get(descriptor)
        if found is None or found[0] is not helper:
            found = self._attached[descriptor] = helper, helper.attach(descriptor)
        return found[1]

    def detach(self, descriptor: int) -> None:
        """The helper may close this file."""
        if (found := self._attached.pop(descriptor, None)) is not None:
            found[0].detach(found[1])

    def memory(self) -> Arena:
        """Where what is not kept on disk arrives."""
        with self._lock:
            self.arena = self.arena or Arena()
            return self.arena

    def explained(self, error: RemoteError, name: str) -> RecordIOError:
        """An error of the helper as one of ours."""
        text = str(error)
        if error.kind == "package":
            return MissingPackageError(text)
        if error.kind in ("missing", "wrong"):
            fault = "the shard is missing" if error.kind == "missing" else text
            return CorruptError(fault).at(file=name, byte=error.byte, dataset=shown(self.url))
        with suppress(HelperDied, StorageError):
            helper().forget_store(self.url, self.options)
        return StorageError(f"cannot read from {shown(self.url)}: {text}").at(file=name)

    def file_system(self) -> str:
        return "object store"

    def tails(self, files: Iterable[tuple[str, int]], nbytes: int) -> list[bytes]:
        return [b"" for _ in files]

    def read_whole(self, files: Sequence[tuple[str, int]], target: memoryview) -> list[Hashable]:
        return [None for _ in files]

    def names(self) -> list[str]:
        """Nothing: a bucket is never listed to open a dataset."""
        return []

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "options": self.options, "cache": self.cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _restart_all() -> None:
    for storage in list(_storages):
        storage.restart()


os.register_at_fork(after_in_child=_restart_all)
