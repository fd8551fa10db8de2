"""Atomic files, and the lock of a folder.

Every write that must survive a crash goes through here: write to a hidden name made with O_EXCL, fsync, rename, fsync
the folder. A failed fsync abandons the file: the kernel may have dropped its pages, and a second fsync would lie.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from recordio.errors import DatasetError
from recordio.format.checksum import Buffer
from recordio.storage.base import storage_error

TEMPORARY = ".tmp"
_IOV_MAX = 512
_EARLY_NBYTES = 16 << 20
_START_WRITING = 2  # SYNC_FILE_RANGE_WRITE


class NewFile:
    """A file under construction: `finish` makes it durable, `abandon` removes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nbytes = 0
        self._begun = 0
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise storage_error("create the file", path, error) from error
        except ValueError as error:
            raise DatasetError(f"no file can have this name: {error}").at(file=repr(os.fspath(path))) from error

    @property
    def descriptor(self) -> int:
        """For writing at offsets; `nbytes` does not count what is written so."""
        return self._fd

    def write(self, parts: Sequence[Buffer]) -> None:
        """Appends all parts, despite short writes. Raises StorageError."""
        rest = [memoryview(part).cast("B") for part in parts if len(part)]
        try:
            at = 0
            while at < len(rest):
                count = os.writev(self._fd, rest[at : at + _IOV_MAX])
                self.nbytes += count
                while at < len(rest) and count >= len(rest[at]):
                    count -= len(rest[at])
                    at += 1
                if count:
                    rest[at] = rest[at][count:]
        except OSError as error:
            raise storage_error("write", self.path, error) from error
        if self.nbytes - self._begun >= _EARLY_NBYTES:
            self._begin_early()

    def _begin_early(self) -> None:
        """Lets the device write while more is made, instead of all at the end, in `finish`, which tells of failures."""
        if (sync_file_range := _sync_file_range()) is not None:
            sync_file_range(self._fd, self._begun, self.nbytes - self._begun, _START_WRITING)
        self._begun = self.nbytes

    def finish(self) -> None:
        """Syncs and closes the file; on failure removes it and raises StorageError."""
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


@cache
def _sync_file_range() -> Any:
    """The system's function, which Python does not have; None where there is none, as on macOS."""
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function


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
    """Writes a durable file that replaces any file of its name atomically. Raises StorageError."""
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    temporary.unlink(missing_ok=True)
    write_new(temporary, data)
    try:
        os.replace(temporary, path)
    except OSError as error:
        remove([temporary])
        raise storage_error("rename", path, error) from error
    sync_folder(path.parent)


class FolderLock:
    """An exclusive lock for writing in a folder; the system releases it if the writer dies.

    The folder itself is locked, so no lock file is left behind.
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


def write_new(path: Path, data: bytes) -> None:
    """Writes a durable file under a new name; on failure removes it and raises StorageError."""
    file = NewFile(path)
    try:
        file.write([data])
        file.finish()
    except OSError:
        file.abandon()
        raise


def remove(paths: Iterable[Path]) -> None:
    """Removes the files that exist. Raises StorageError."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error("remove", path, error) from error
