"""Places that datasets are copied between: folders of this machine or of an object store, file by file."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from recordio.errors import CorruptError, DatasetError, RecordIOError, StorageError
from recordio.format.manifest import FILE_NAME, Manifest
from recordio.format.parity import ParityEntry
from recordio.format.shard_table import ShardEntry
from recordio.format.signature import FILE_NAME as SIGNATURE
from recordio.remote.download import download
from recordio.remote.opening import StorageArgument, dataset_access
from recordio.remote.urls import is_url
from recordio.remote.write_target import Listed, RemoteTarget
from recordio.storage.atomic import FolderLock, NewFile, remove, sync_folder, write_file
from recordio.storage.dataset_files import find_file, open_shard_file, read_manifest
from recordio.storage.local import LocalStorage
from recordio.storage.scratch import ScratchFolder
from recordio.writer.destination import put_manifest
from recordio.writer.publish import clear_remains, readable_manifest
from recordio.writer.remote_shards import TAIL_NBYTES, all_hold, holds, is_tail_of
from recordio.writer.shard_sink import rename

Report = Callable[[int], None]
FileEntry = ShardEntry | ParityEntry
_PIECE = 8 << 20
_TAKEN = "there is another file under this name: copy to a folder of its own"


class CopyEnd(Protocol):
    """A place that datasets are copied from, or to.

    Attributes:
        location: the place, for people.
        folder: while it is held, where files wait on this machine until they are proven.
        keeps: whether such a file becomes the shard, by a change of its name.
    """

    location: str
    folder: Path
    keeps: bool

    def manifest(self) -> bytes | None:
        """The bytes of the manifest; None if there is none. Raises DatasetError, StorageError."""

    def path(self, entry: FileEntry) -> Path | None:
        """Where a shard is a file of this machine."""

    def write(self, entry: FileEntry, file: NewFile, report: Report) -> None:
        """Writes a shard into a file, telling of the bytes of each piece. Raises CorruptError, StorageError."""

    def held(self) -> AbstractContextManager[None]:
        """For the time of the work. Raises DatasetError if another writer is seen to be at work."""

    def missing(self, entries: Sequence[FileEntry]) -> list[FileEntry]:
        """Those of the shards that are not there. Raises DatasetError if another has the name of one."""

    def put(self, entry: FileEntry, path: Path) -> None:
        """Makes a proven file the shard. Raises DatasetError, StorageError."""

    def publish(self, data: bytes) -> None:
        """Makes these bytes the manifest. Raises DatasetError if another writer was faster."""

    def signature(self) -> bytes | None:
        """The bytes of the signature; None if there is none. Raises StorageError."""

    def require_writable(self) -> None:
        """Raises StorageError if a signature cannot be written there, as far as that can be seen."""

    def put_signature(self, data: bytes) -> None:
        """Writes a signature. Raises StorageError."""

    def listed(self) -> Iterable[Listed]:
        """The files there. Raises StorageError."""

    def delete(self, names: Sequence[str]) -> None:
        """Removes files. Raises DatasetError if a writer is seen to be at work, StorageError."""


class LocalEnd:
    """A folder of this machine."""

    keeps = True

    def __init__(self, folder: Path) -> None:
        self.location = os.fspath(folder)
        self.folder = folder
        self._storage = LocalStorage(folder)

    def manifest(self) -> bytes | None:
        with contextlib.suppress(FileNotFoundError), contextlib.closing(self._storage.open(FILE_NAME)) as file:
            return file.read(0, file.nbytes)
        return None

    def signature(self) -> bytes | None:
        return find_file(self._storage, self.location, SIGNATURE, "signature", bytes)

    def require_writable(self) -> None:
        if self.folder.is_dir() and not os.access(self.folder, os.W_OK):
            raise StorageError("cannot write: the folder is read-only").at(file=self.location)

    def put_signature(self, data: bytes) -> None:
        write_file(self.folder / SIGNATURE, data)

    def path(self, entry: FileEntry) -> Path | None:
        return self.folder / entry.name

    def write(self, entry: FileEntry, file: NewFile, report: Report) -> None:
        with contextlib.closing(open_shard_file(self._storage, entry.name)) as shard:
            for begin in range(0, entry.nbytes, _PIECE):
                piece = shard.read(begin, min(_PIECE, entry.nbytes - begin))
                file.write([piece])
                report(len(piece))

    @contextmanager
    def held(self) -> Iterator[None]:
        with FolderLock(self.folder):
            clear_remains(self.folder)
            yield

    def missing(self, entries: Sequence[FileEntry]) -> list[FileEntry]:
        return [entry for entry in entries if not self._holds(entry)]

    def _holds(self, entry: FileEntry) -> bool:
        if not os.path.lexists(self.folder / entry.name):
            return False
        with contextlib.suppress(CorruptError), contextlib.closing(open_shard_file(self._storage, entry.name)) as file:
            tail = file.read(max(0, file.nbytes - TAIL_NBYTES), min(file.nbytes, TAIL_NBYTES))
            if is_tail_of(entry, tail, file.nbytes):
                return True
        raise DatasetError(_TAKEN).at(file=os.fspath(self.folder / entry.name))

    def put(self, entry: FileEntry, path: Path) -> None:
        rename(path, self.folder / entry.name)

    def publish(self, data: bytes) -> None:
        old, kept = readable_manifest(self.folder), Manifest.decode(data).files
        sync_folder(self.folder)
        write_file(self.folder / FILE_NAME, data)
        remove(self.folder / name for name in (old.files if old else ()) if name not in kept)

    def listed(self) -> Iterable[Listed]:
        for name in self._storage.names():
            with contextlib.suppress(FileNotFoundError):
                status = (self.folder / name).lstat()
                if stat.S_ISREG(status.st_mode):
                    yield Listed(name, status.st_size, status.st_mtime)

    def delete(self, names: Sequence[str]) -> None:
        with FolderLock(self.folder):
            remove(self.folder / name for name in names)


class RemoteEnd:
    """A folder of an object store."""

    keeps = False

    def __init__(self, target: RemoteTarget) -> None:
        self.location = target.location
        self._target = target
        self._before: Any = None

    def manifest(self) -> bytes | None:
        self._before = self._target.read(FILE_NAME)
        return self._before and self._before[0]  # type: ignore[no-any-return]

    def signature(self) -> bytes | None:
        with contextlib.suppress(StorageError):  # who may not list is denied what is not there
            return (self._target.read(SIGNATURE) or (None,))[0]
        return None

    def require_writable(self) -> None:
        self._target.require_writable()

    def put_signature(self, data: bytes) -> None:
        self._target.put(SIGNATURE, data)

    def path(self, entry: FileEntry) -> Path | None:
        return None

    def write(self, entry: FileEntry, file: NewFile, report: Report) -> None:
        download(self._target, entry.name, entry.nbytes, file.descriptor, report)

    @contextmanager
    def held(self) -> Iterator[None]:
        self._target.require_conditions()
        scratch = ScratchFolder()
        self.folder = scratch.path
        try:
            yield
        finally:
            scratch.remove()

    def missing(self, entries: Sequence[FileEntry]) -> list[FileEntry]:
        names = {one.name for one in self._target.list()}
        there = [entry for entry in entries if entry.name in names]
        for entry, same in zip(there, all_hold(self._target, there), strict=True):
            if not same:
                raise DatasetError(_TAKEN).at(file=f"{self.location}/{entry.name}")
        return [entry for entry in entries if entry.name not in names]

    def put(self, entry: FileEntry, path: Path) -> None:
        while not (self._target.put_new(entry.name, path) or holds(self._target, entry)):
            if self._target.version(entry.name) is not None:
                raise DatasetError(_TAKEN).at(file=f"{self.location}/{entry.name}")

    def publish(self, data: bytes) -> None:
        put_manifest(self._target, data, self._before)

    def listed(self) -> Iterable[Listed]:
        return self._target.list()

    def delete(self, names: Sequence[str]) -> None:
        self._target.delete(names)


def open_end(name: str, path: object, storage: StorageArgument) -> CopyEnd:
    """The place at a path or URL, the argument `name`. Raises SchemaError, DatasetError."""
    location, options = dataset_access(name, path, storage)
    return RemoteEnd(RemoteTarget(location, options)) if is_url(location) else LocalEnd(Path(location))


def source_manifest(end: CopyEnd) -> bytes:
    """The manifest of a dataset that is there. Raises DatasetError, CorruptError, StorageError."""
    try:
        data = end.manifest()
    except RecordIOError as error:
        raise error.at(file=end.location)
    if data is None and isinstance(end, LocalEnd):
        read_manifest(LocalStorage(end.folder), end.location)  # says why there is none
    if data is None:
        raise DatasetError(f"not a recordio dataset: there is no {FILE_NAME}").at(file=end.location)
    return data
