"""A folder on disk. Opens regular files only: follows no symbolic link, waits for no pipe."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from recordio.errors import DatasetError
from recordio.storage.base import File, storage_error

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


class LocalFile(File):
    """A file on disk. Reads are positioned, so threads and forked children may share the descriptor."""

    _fd = -1

    def __init__(self, path: str) -> None:
        self.name = os.path.basename(path)
        try:
            self._fd = os.open(path, _FLAGS)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(path) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise DatasetError("is a symbolic link, not a regular file").at(file=self.name) from error
            raise storage_error("read", self.name, error) from error
        except ValueError as error:
            raise DatasetError(f"no file can have this name: {error}").at(file=repr(path)) from error
        status = os.fstat(self._fd)
        self.nbytes = status.st_size
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise DatasetError("is not a regular file").at(file=self.name)

    def _read(self, offset: int, nbytes: int) -> bytes:
        parts = []
        try:
            while nbytes > 0 and (part := os.pread(self._fd, nbytes, offset)):
                parts.append(part)
                offset, nbytes = offset + len(part), nbytes - len(part)
        except OSError as error:
            raise storage_error("read", self.name, error) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def map(self) -> mmap.mmap | bytes:
        try:
            return mmap.mmap(self._fd, 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
        except OSError as error:
            raise storage_error("read", self.name, error) from error

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close


class LocalStorage:
    """A folder on disk."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def open(self, name: str) -> File:
        return LocalFile(os.path.join(self.folder, name))

    def tails(self, files: Iterable[tuple[str, int]], nbytes: int) -> list[bytes]:
        try:
            folder = os.open(self.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return [b"" for _ in files]
        try:
            return [_tail(folder, name, length, nbytes) for name, length in files]
        finally:
            os.close(folder)

    def names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.folder))
        except OSError as error:
            raise storage_error("read", self.folder, error) from error


def _tail(folder: int, name: str, length: int, nbytes: int) -> bytes:
    """In three calls of the system. A folder, a pipe and a link do not let themselves be read like this."""
    try:
        fd = os.open(name, _FLAGS, dir_fd=folder)
        try:
            return os.pread(fd, nbytes + 1, length - nbytes)  # one byte more, to see that the file ends there
        finally:
            os.close(fd)
    except OSError:
        return b""
