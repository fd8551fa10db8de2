"""Where a dataset is published: a folder of this machine, or one of an object store.

Both see to it that a reader finds the old dataset or the new one. In a folder a lock keeps other writers out. In an
object store nothing does: shards are put where nothing was, and the manifest replaces the one that was read, or none.
Whoever comes second is told so, and the dataset of the first is whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from recordio.errors import CorruptError, DatasetError, StorageError, UnsupportedError
from recordio.format.manifest import FILE_NAME, Manifest, ShardEntry
from recordio.format.parity import Parity
from recordio.process_guard import ThreadPool
from recordio.remote.opening import StorageArgument, dataset_access
from recordio.remote.urls import is_url
from recordio.remote.write_target import RemoteTarget, Version
from recordio.storage.atomic import FolderLock, remove
from recordio.storage.scratch import ScratchFolder
from recordio.writer.parity import with_parity
from recordio.writer.publish import clear_remains, commit, read_manifest, readable_manifest
from recordio.writer.remote_shards import put_shard
from recordio.writer.shard_sink import shard_numbers

_UPLOADS = 2  # at a time; one more shard is being made meanwhile
_PUT_TRIES = 5


class Destination(Protocol):
    """What a writer needs of the place where its dataset is to be.

    Attributes:
        location: the path or the URL, for people.
        folder: where shards are made, from `begin` on.
    """

    location: str
    folder: Path

    def begin(self) -> None:
        """Makes ready. Raises DatasetError if another writer is seen to be at work, StorageError."""

    def read(self, damaged: bool = False) -> Manifest | None:
        """The manifest that is there, which `publish` replaces; None without one, or, if `damaged`, for a bad one."""

    def numbers(self) -> list[int]:
        """The numbers of shards that are not free."""

    def take(self, path: Path, entry: ShardEntry) -> None:
        """A finished shard is here; may wait until an earlier one is out of the way. Raises StorageError."""

    def publish(self, manifest: Manifest, staged: Mapping[Path, ShardEntry]) -> Manifest:
        """Publishes the manifest with these shards, which it names, and with the parity that it asks for.

        Returns the manifest as it was published. Raises DatasetError, StorageError.
        """

    def end(self) -> None:
        """Leaves. A second call does nothing."""


class LocalDestination:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.location = os.fspath(folder)
        self.folder = folder
        self._lock: FolderLock | None = None

    def begin(self) -> None:
        self._lock = FolderLock(self.folder)
        clear_remains(self.folder)

    def read(self, damaged: bool = False) -> Manifest | None:
        return readable_manifest(self.folder) if damaged else read_manifest(self.folder)

    def numbers(self) -> list[int]:
        return shard_numbers(self.folder)

    def take(self, path: Path, entry: ShardEntry) -> None:
        pass

    def publish(self, manifest: Manifest, staged: Mapping[Path, ShardEntry]) -> Manifest:
        shards = {path: entry.name for path, entry in staged.items()}
        manifest, parity = with_parity(self.folder, manifest, shards)
        try:
            commit(self.folder, manifest, shards | parity)
        except BaseException:
            with contextlib.suppress(StorageError):
                remove(parity)
            raise
        return manifest

    def end(self) -> None:
        if self._lock is not None:
            self._lock.release()


class RemoteDestination:
    """A folder of an object store: finished shards are sent while the next is made.

    Shards of a writer that was stopped stay there, and so do those of a dataset that was replaced, as others may read
    them: `recordio clean` removes them.

    Attributes:
        before: the manifest that was read, and its version; None for none.
    """

    def __init__(self, target: RemoteTarget) -> None:
        self.target = target
        self.location = target.location
        self._scratch: ScratchFolder | None = None
        self.before: tuple[bytes, Version] | None = None
        self._numbers: list[int] = []
        self._uploads: dict[Any, Future[Any]] = {}

    def begin(self) -> None:
        self.target.require_conditions()
        self._scratch = ScratchFolder()
        self.folder = self._scratch.path
        self._pool = ThreadPool(_UPLOADS, "recordio-upload")

    def read(self, damaged: bool = False) -> Manifest | None:
        self.before = self.target.read(FILE_NAME)
        if self.before is None:
            return None
        try:
            manifest = Manifest.decode(self.before[0])
        except (CorruptError, UnsupportedError) as error:
            if damaged:
                return None
            raise error.at(file=f"{self.location}/{FILE_NAME}")
        self._numbers = manifest.table.numbers.tolist()
        return manifest

    def numbers(self) -> list[int]:
        return self._numbers

    def take(self, path: Path, entry: ShardEntry) -> None:
        self.start(path, partial(put_shard, self.target, path, entry))

    def start(self, key: Any, send: Callable[[], Any]) -> None:
        """Sends something in a thread; may wait until something else is sent. Raises the error of one that failed."""
        self._uploads[key] = self._pool.submit(send)
        running = [upload for upload in self._uploads.values() if not upload.done()]
        if len(running) > _UPLOADS:
            wait(running, return_when=FIRST_COMPLETED)
        for upload in self._uploads.values():
            if upload.done():
                upload.result()

    def results(self) -> dict[Any, Any]:
        """What was sent, by its key, once all is."""
        return {key: upload.result() for key, upload in self._uploads.items()}

    def publish(self, manifest: Manifest, staged: Mapping[Path, ShardEntry]) -> Manifest:
        sent = self.results()
        entries = {entry.number: sent[path] for path, entry in staged.items()}
        manifest = replace(manifest, shards=[entries.get(entry.number, entry) for entry in manifest.shards])
        put_manifest(self.target, manifest.encode(), self.before)
        return manifest

    def end(self) -> None:
        if self._scratch is not None:
            self._pool.shutdown(cancel_futures=True)
            self._scratch.remove()
            self._scratch = None


def refuse_parity(destination: Destination, parity: Parity | None) -> None:
    """Raises DatasetError where none can be made: the shards of a store would have to be read again."""
    if parity is not None and isinstance(destination, RemoteDestination):
        text = "parity is made in a folder of this machine: write there, and `recordio copy` takes all of it to a store"
        raise DatasetError(text).at(file=destination.location)


def put_manifest(target: RemoteTarget, data: bytes, before: tuple[bytes, Version] | None) -> None:
    """Publishes a manifest in place of the one that was read, or of none.

    Raises DatasetError if another writer was faster.
    """
    for _ in range(_PUT_TRIES):
        if target.put_if(FILE_NAME, data, before and before[1]):
            return
        found = target.read(FILE_NAME)
        if found is not None and found[0] == data:
            return  # it is ours: the answer was lost
        if (found and found[0]) != (before and before[0]):
            break
        before = found  # a store may refuse when two ask at a time, and both fail
    raise DatasetError(
        "another writer has published there meanwhile, and its dataset is whole; what this one has written is not in it"
    ).at(file=target.location)


def open_destination(name: str, path: Any, storage: StorageArgument) -> Destination:
    """The destination at a path or URL, the argument `name`. Raises SchemaError, DatasetError."""
    location, options = dataset_access(name, path, storage)
    return RemoteDestination(RemoteTarget(location, options)) if is_url(location) else LocalDestination(Path(location))
