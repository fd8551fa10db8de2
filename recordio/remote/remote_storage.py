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
from recordio.format.manifest import FILE_NAME as MANIFEST, Manifest
from recordio.remote.arena import Arena
from recordio.remote.cached_datasets import HeldDataset
from recordio.remote.helper_process import HelperDied, HelperProcess, RemoteError, asked, helper
from recordio.remote.options import StorageOptions
from recordio.remote.page_sink import MAX_GAP
from recordio.remote.remote_shard import RemoteShard, RemoteShardFile
from recordio.remote.shard_cache import ShardCache
from recordio.remote.shard_parts import MAX_RANGE
from recordio.remote.urls import checked_url, shown
from recordio.storage.base import File, ShardPlace
from recordio.storage.memory import MemoryFile

_KEPT_SHARDS = 512

_storages: weakref.WeakSet[RemoteStorage] = weakref.WeakSet()


class RemoteStorage:
    """A folder of an object store. Thread-safe, and usable after a fork.

    Args:
        url: where the dataset lies.
        options: how the store is reached.
        cache: where shards are kept on disk; None keeps what is fetched in memory until it is read.
        is_offline: nothing is asked of the network.
    """

    is_remote = True
    _attached: tuple[HelperProcess, int] | None = None  # of the memory

    def __init__(
        self, url: str, options: StorageOptions, cache: ShardCache | None = None, is_offline: bool = False
    ) -> None:
        self.url = checked_url(url)
        self.options = options
        self.max_gap = MAX_RANGE if self.url.startswith("hf:") else MAX_GAP  # the hub counts requests, not bytes
        self.cache = cache
        self.is_offline = is_offline
        self._held: dict[bytes, HeldDataset | None] = {}
        self.restart()
        _storages.add(self)

    def restart(self) -> None:
        """A forked child starts with this: what its parent has asked for arrives there."""
        self._lock = threading.Lock()
        self._shards: OrderedDict[str, RemoteShard] = OrderedDict()
        self.arena: Arena | None = None
        self._attached = None
        if self.cache is not None:
            self.cache.restart()

    def __del__(self) -> None:
        if self._attached is not None:
            self._attached[0].detach(self._attached[1])

    def open(self, name: str, place: ShardPlace | None = None) -> File:
        """A shard of which the place is known, or any other file, which is read as a whole.

        Raises FileNotFoundError, StorageError.
        """
        if place is not None:
            return RemoteShardFile(self.shard(name, place))
        if name == MANIFEST and self.is_offline:
            data, etag = self._kept_manifest(), None
        else:
            data, etag, _ = self.ask("get", name, 0, None, MAX_MANIFEST_NBYTES)
        if name == MANIFEST:
            self.hold(data)
        return MemoryFile(name, data, etag or data)

    def hold(self, manifest: bytes) -> None:
        """Keeps the shards of this version of the dataset in the cache while it is open."""
        digest = Manifest.digest(manifest)
        if self.cache is not None and digest not in self._held:
            self._held[digest] = self.cache.hold(self._name, manifest)

    @property
    def _name(self) -> str:
        """What tells this dataset from others, and holds no secret."""
        return shown(self.url) + (f" at {shown(self.options.endpoint)}" if self.options.endpoint else "")

    def kept_nbytes(self, manifest: Manifest) -> int:
        """How much of the dataset's shards is in the cache."""
        if self.cache is None:
            return 0
        table = manifest.table
        digests = (one.tobytes() for one in table.digests)
        return sum(map(self.cache.kept_nbytes, digests, table.nbytes.tolist()))

    def _kept_manifest(self) -> bytes:
        found = None if self.cache is None else self.cache.manifest(self._name)
        if found is None:
            text = "the dataset is not in the cache, and offline=True asks nothing of the network"
            raise StorageError(text).at(file=shown(self.url))
        return found

    def shard(self, name: str, place: ShardPlace) -> RemoteShard:
        """What is known of a shard, and kept of it."""
        with self._lock:
            shard = self._shards.get(name)
            if shard is None or shard.place.digest != place.digest:
                shard = self._shards[name] = RemoteShard(self, name, place)
            self._shards.move_to_end(name)
            for _ in range(len(self._shards) - _KEPT_SHARDS):
                oldest, other = next(iter(self._shards.items()))
                if not other.is_idle:
                    break
                del self._shards[oldest]
            return shard

    def ask(self, what: str, name: str, *args: Any) -> Any:
        """What the helper answers about an object. Raises FileNotFoundError, StorageError, MissingPackageError."""
        if self.is_offline:
            raise FileNotFoundError(f"{shown(self.url)}/{name}")
        try:
            return asked(lambda helper: helper.submit(what, helper.store(self.url, self.options), name, *args).result())
        except RemoteError as error:
            if error.kind == "missing":
                raise FileNotFoundError(f"{shown(self.url)}/{name}") from error
            raise self.explained(error, name) from error

    def attached(self, helper: HelperProcess, arena: Arena) -> int:
        """The helper's number of the memory."""
        found = self._attached
        if found is None or found[0] is not helper:
            found = self._attached = helper, helper.attach(arena.descriptor)
        return found[1]

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
        found = StorageError(f"cannot read from {shown(self.url)}: {text}").at(file=name)
        if error.kind == "network" and self.cache is not None and self.cache.manifest(self._name) is not None:
            found.add_note("the dataset is in the cache: offline=True reads what is there without the network")
        return found

    def file_system(self) -> str:
        return "object store"

    def tails(self, files: Iterable[tuple[str, int]], nbytes: int) -> list[bytes]:
        return [b"" for _ in files]

    def read_whole(self, files: Sequence[tuple[str, int]], target: memoryview) -> list[Hashable]:
        return [None for _ in files]

    def names(self) -> list[str]:
        """Nothing: a bucket is never listed to open a dataset."""
        return []


def _restart_all() -> None:
    for storage in list(_storages):
        storage.restart()


os.register_at_fork(after_in_child=_restart_all)
