"""Files that appear whole or not at all, and a dataset that changes in one step.

Every effect that must survive a crash goes through here: write to a hidden name made with O_EXCL, fsync, rename, fsync
the folder. A file whose fsync failed is abandoned: the kernel may have dropped its pages, and a second fsync would lie.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from recordio.errors import CorruptError, DatasetError, RecordIOError, StorageError, UnsupportedError
from recordio.format.checksum import Buffer
from recordio.format.layout import MAX_MANIFEST_NBYTES
from recordio.format.manifest import FILE_NAME, Manifest

PENDING = f".{FILE_NAME}.pending"
REPLACED = f".{FILE_NAME}.replaced"
TEMPORARY = ".tmp"
_IOV_MAX = 512


def storage_error(action: str, path: Path | str, error: OSError) -> StorageError:
    """The operating system's error as one of ours; the file's name is its place."""
    return StorageError(f"cannot {action}: {error.strerror or error}").at(file=os.fspath(path))


class NewFile:
    """A file under construction. `finish` makes it durable; leaving it unfinished and calling `abandon` removes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nbytes = 0
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise storage_error("create the file", path, error) from error
        except ValueError as error:
            raise DatasetError(f"no file can have this name: {error}").at(file=repr(os.fspath(path))) from error

    def write(self, parts: Sequence[Buffer]) -> None:
        """Appends all of the parts, however the system splits the work. Raises StorageError."""
        rest = [memoryview(part).cast("B") for part in parts if len(part)]
        try:
            while rest:
                count = os.writev(self._fd, rest[:_IOV_MAX])
                self.nbytes += count
                while rest and count >= len(rest[0]):
                    count -= len(rest.pop(0))
                if count:
                    rest[0] = rest[0][count:]
        except OSError as error:
            raise storage_error("write", self.path, error) from error

    def finish(self) -> None:
        """fsync and close. Raises StorageError, and the file is gone."""
        try:
            os.fsync(self._fd)
            fd, self._fd = self._fd, -1
            os.close(fd)
        except OSError as error:
            self.abandon()
            raise storage_error("make the file durable (fsync)", self.path, error) from error

    def abandon(self) -> None:
        """Closes and removes the file."""
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            if fd >= 0:
                os.close(fd)
        with contextlib.suppress(OSError):
            self.path.unlink()


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable. Raises StorageError."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise storage_error("make the folder durable (fsync)", folder, error) from error


def write_file(path: Path, data: bytes) -> None:
    """A whole file, durable, appearing in one step and replacing what had its name. Raises StorageError."""
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    temporary.unlink(missing_ok=True)
    _write_new(temporary, data)
    try:
        os.replace(temporary, path)
    except OSError as error:
        _remove([temporary])
        raise storage_error("rename", path, error) from error
    sync_folder(path.parent)


class FolderLock:
    """The right to write in a folder, held by one writer at a time and given back by the system if the writer dies.

    The lock is on the folder itself, so no lock file is ever left behind.
    """

    _fd = -1

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise storage_error("open the folder", folder, error) from error
        except ValueError as error:
            raise DatasetError(f"no folder can have this name: {error}").at(file=repr(os.fspath(folder))) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            raise DatasetError("another writer is at work in this folder").at(file=os.fspath(folder)) from error

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    __del__ = release


def read_manifest(folder: Path, name: str = FILE_NAME) -> Manifest | None:
    """The manifest in a folder, None when there is none. Raises CorruptError, UnsupportedError, StorageError."""
    try:
        fd = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error("read", folder / name, error) from error
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_MANIFEST_NBYTES:
            raise DatasetError("is not a regular file, or too large for a manifest").at(file=os.fspath(folder / name))
        data = file.read()
    try:
        return Manifest.decode(data)
    except RecordIOError as error:
        raise error.at(file=os.fspath(folder / name))


def readable_manifest(folder: Path, name: str = FILE_NAME) -> Manifest | None:
    """The manifest in a folder, None when there is none or it is damaged."""
    try:
        return read_manifest(folder, name)
    except (CorruptError, UnsupportedError):
        return None


def clear_remains(folder: Path) -> None:
    """Removes what a writer that died left in a folder that is now locked. Published shards are never touched.

    The pending manifest names shards that were on their way in, the replaced one shards that were on their way out. A
    torn one says nothing: its shards had not been touched yet. Where a manifest was to be replaced and there is none,
    it was lost since: then every shard may be part of the dataset, and all of them stay.
    """
    published = readable_manifest(folder)
    kept = {shard.number for shard in published.shards} if published else set()
    lost = published is None and (os.path.lexists(folder / REPLACED) or os.path.lexists(folder / FILE_NAME))
    for name in () if lost else (PENDING, REPLACED):
        other = readable_manifest(folder, name)
        _remove(folder / shard.name for shard in (other.shards if other else ()) if shard.number not in kept)
    _remove([folder / PENDING, folder / REPLACED, *folder.glob(f".shard-*{TEMPORARY}")])


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error("remove", path, error) from error


def commit(folder: Path, manifest: Manifest, staged: Mapping[Path, str], as_of: int | None = None) -> None:
    """Publishes finished, synced shard files under their names, and the manifest last.

    Raises StorageError, and SchemaError for a manifest that no reader would accept; then nothing was touched.

    A reader sees the old dataset or the new one, never between. Shards that only the old manifest lists are removed
    once the new one stands. `clear_remains` finishes this, or undoes it, for a writer that died on the way.
    `as_of` is the manifest's modification time, in nanoseconds since the epoch, if the file system can set it.
    """
    old = readable_manifest(folder)
    kept = {shard.number for shard in manifest.shards}
    obsolete = [shard.name for shard in (old.shards if old else ()) if shard.number not in kept]
    data = manifest.encode()
    try:
        if old is not None:
            _write_new(folder / REPLACED, old.encode())
        _write_new(folder / PENDING, data)
        if as_of is not None:
            _set_time(folder / PENDING, as_of)
        sync_folder(folder)
        for path, name in staged.items():
            os.rename(path, folder / name)
        sync_folder(folder)
        os.rename(folder / PENDING, folder / FILE_NAME)
    except OSError as error:
        with contextlib.suppress(StorageError):
            _remove([*(folder / name for name in staged.values()), folder / PENDING, folder / REPLACED])
        raise (
            error if isinstance(error, StorageError) else storage_error("publish the dataset", folder, error)
        ) from error
    sync_folder(folder)
    _remove([*(folder / name for name in obsolete), folder / REPLACED])


def _set_time(path: Path, time: int) -> None:
    """Never earlier than `time`, also where a file system keeps whole seconds, or two of them."""
    with contextlib.suppress(OSError):
        os.utime(path, ns=(time, time))
        if path.stat().st_mtime_ns < time:
            os.utime(path, ns=(time + 2 * 10**9, time + 2 * 10**9))


def _write_new(path: Path, data: bytes) -> None:
    file = NewFile(path)
    try:
        file.write([data])
        file.finish()
    except OSError:
        file.abandon()
        raise
