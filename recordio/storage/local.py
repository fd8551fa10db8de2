"""The seam between reading and the world: a folder of named files, read at offsets or mapped.

`LocalStorage` is a folder on a disk; `MemoryStorage` is its twin for tests. Neither follows a symbolic link out of the
dataset, waits at a pipe, or trusts a name: only regular files are opened.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from recordio.errors import DatasetError, StorageError


class File(Protocol):
    """An open file of fixed length."""

    nbytes: int

    def read(self, offset: int, nbytes: int) -> bytes:
        """Those bytes, fewer only where the file ends. Raises StorageError, for a negative offset or length too."""

    def map(self) -> mmap.mmap | bytes:
        """The whole file as memory; a slice of it is bytes. Raises StorageError."""

    def close(self) -> None: ...


class Storage(Protocol):
    """A folder."""

    def open(self, name: str) -> File:
        """Raises FileNotFoundError, DatasetError for what is no regular file, StorageError."""

    def names(self) -> list[str]:
        """The names in the folder, sorted. Raises StorageError."""


def _storage_error(name: str, error: OSError) -> StorageError:
    return StorageError(f"cannot read: {error.strerror or error}").at(file=name)


def _require_range(name: str, offset: int, nbytes: int) -> None:
    """Raises StorageError. A slice would count a negative offset from the end of the file."""
    if offset < 0 or nbytes < 0:
        raise StorageError(f"cannot read {nbytes} bytes at offset {offset}: neither may be negative").at(file=name)


class LocalFile:
    """A file on a disk. Its descriptor is shared by threads, and safe to share with a forked child: reads say where."""

    _fd = -1

    def __init__(self, path: Path) -> None:
        self._name = path.name
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(str(path)) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise DatasetError("is a symbolic link, not a regular file").at(file=self._name) from error
            raise _storage_error(self._name, error) from error
        except ValueError as error:
            raise DatasetError(f"no file can have this name: {error}").at(file=repr(os.fspath(path))) from error
        status = os.fstat(self._fd)
        self.nbytes = status.st_size
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise DatasetError("is not a regular file").at(file=self._name)

    def read(self, offset: int, nbytes: int) -> bytes:
        _require_range(self._name, offset, nbytes)
        parts = []
        try:
            while nbytes > 0 and (part := os.pread(self._fd, nbytes, offset)):
                parts.append(part)
                offset, nbytes = offset + len(part), nbytes - len(part)
        except OSError as error:
            raise _storage_error(self._name, error) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def map(self) -> mmap.mmap | bytes:
        try:
            return mmap.mmap(self._fd, 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
        except OSError as error:
            raise _storage_error(self._name, error) from error

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close


class LocalStorage:
    """A folder on a disk."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def open(self, name: str) -> File:
        return LocalFile(self.folder / name)

    def names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.folder))
        except OSError as error:
            raise _storage_error(os.fspath(self.folder), error) from error


class MemoryFile:
    """Bytes as a file."""

    def __init__(self, data: bytes, name: str = "memory") -> None:
        self._name = name
        self._data = data
        self.nbytes = len(data)

    def read(self, offset: int, nbytes: int) -> bytes:
        _require_range(self._name, offset, nbytes)
        return self._data[offset : offset + nbytes]

    def map(self) -> bytes:
        return self._data

    def close(self) -> None:
        pass


class MemoryStorage:
    """A dict of bytes as a folder."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    def open(self, name: str) -> File:
        if name not in self.files:
            raise FileNotFoundError(name)
        return MemoryFile(self.files[name], name)

    def names(self) -> list[str]:
        return sorted(self.files)
