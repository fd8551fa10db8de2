"""A folder on disk. Opens regular files only: follows no symbolic link, waits for no pipe."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

from recordio.errors import DatasetError
from recordio.storage.base import DIRECT_ALIGNMENT, File, Range, ShardPlace, storage_error
from recordio.storage.machine import file_system, share_of_files

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
_FOLDER = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)  # Linux needs no right to list it
_AHEAD = 32  # files that are read at a time, if so many may be open


class LocalFile(File):
    """A file on disk. Reads are positioned, so threads and forked children may share the descriptor."""

    _fd = -1

    def __init__(self, folder: str, name: str) -> None:
        self.name = name
        self._direct_fds: list[int] = []  # one, or more if threads opened it at the same moment
        path = f"{folder}/{name}"
        try:
            self._fd = os.open(path, _FLAGS)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(path) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise DatasetError("is a symbolic link, not a regular file").at(file=name) from error
            raise storage_error("read", name, error) from error
        except ValueError as error:
            raise DatasetError(f"no file can have this name: {error}").at(file=repr(path)) from error
        status = os.fstat(self._fd)
        self.nbytes = status.st_size
        self.identity = _identity(status)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise DatasetError("is not a regular file").at(file=name)

    def _read(self, offset: int, nbytes: int) -> bytes:
        try:
            data = os.pread(self._fd, nbytes, offset)
            if len(data) == nbytes or not data:
                return data
            parts, offset, nbytes = [data], offset + len(data), nbytes - len(data)
            while nbytes > 0 and (part := os.pread(self._fd, nbytes, offset)):
                parts.append(part)
                offset, nbytes = offset + len(part), nbytes - len(part)
        except OSError as error:
            raise storage_error("read", self.name, error) from error
        return b"".join(parts)

    def _read_into(self, target: memoryview, offset: int, direct: bool) -> int:
        try:
            done = self._read_direct(target, offset) if direct else 0
            while done < len(target) and (count := os.preadv(self._fd, [target[done:]], offset + done)):
                done += count
        except OSError as error:
            raise storage_error("read", self.name, error) from error
        return done

    def _read_direct(self, target: memoryview, offset: int) -> int:
        """Reads past the page cache as far as the file system can: the number of bytes."""
        if (fd := self._direct()) < 0:
            return 0
        done = 0
        try:
            while done < len(target) and (count := os.preadv(fd, [target[done:]], offset + done)):
                done += count
                if count % DIRECT_ALIGNMENT:  # the end of the file
                    break
        except OSError as error:
            if error.errno != errno.EINVAL:  # the device asks for a larger alignment
                raise
        return done

    def _direct(self) -> int:
        """A descriptor of the same file for direct reads; -1 if there is none."""
        found = self._direct_fds
        if not found and hasattr(os, "O_DIRECT"):
            with contextlib.suppress(OSError):
                found.append(os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT))
        if not found:
            found.append(-1)
        return found[0]

    def will_need(self, ranges: Iterable[Range]) -> None:
        self._advise(ranges, "POSIX_FADV_WILLNEED")

    def wont_need(self, offset: int, nbytes: int) -> None:
        self._advise([(offset, nbytes)], "POSIX_FADV_DONTNEED")

    def _advise(self, ranges: Iterable[Range], advice: str) -> None:
        if hasattr(os, advice):
            with contextlib.suppress(OSError):
                for offset, nbytes in ranges:
                    os.posix_fadvise(self._fd, offset, nbytes, getattr(os, advice))

    def map(self) -> mmap.mmap | bytes:
        try:
            return mmap.mmap(self._fd, 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
        except OSError as error:
            raise storage_error("read", self.name, error) from error

    def close(self, close: Callable[[int], None] = os.close) -> None:  # `os` is gone when the interpreter ends
        for fd in (self._fd, *self._direct_fds):
            if fd >= 0:
                close(fd)
        self._fd, self._direct_fds = -1, []

    __del__ = close


class LocalStorage:
    """A folder on disk."""

    is_remote = False

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._name = os.fspath(self.folder)

    def open(self, name: str, place: ShardPlace | None = None) -> File:
        return LocalFile(self._name, name)

    def file_system(self) -> str:
        return file_system(self._name)

    def tails(self, files: Iterable[tuple[str, int]], nbytes: int) -> list[bytes]:
        try:
            folder = os.open(self.folder, _FOLDER)
        except OSError:
            return [b"" for _ in files]
        try:
            return [_tail(folder, name, length, nbytes) for name, length in files]
        finally:
            os.close(folder)

    def read_whole(self, files: Sequence[tuple[str, int]], target: memoryview) -> list[Hashable]:
        try:
            folder = os.open(self.folder, _FOLDER)
        except OSError:
            return [None for _ in files]
        found: list[Hashable] = []
        ahead = min(_AHEAD, share_of_files(64))
        try:
            for begin in range(0, len(files), ahead):
                some = files[begin : begin + ahead]
                end = sum(length for _, length in some)
                found += _read_some(folder, some, target[:end])
                target = target[end:]
        finally:
            os.close(folder)
        return found

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


def _read_some(folder: int, files: Sequence[tuple[str, int]], target: memoryview) -> list[Hashable]:
    """The identities of files that are read one after the other, once the system has been asked for all of them."""
    fds: list[int] = []
    found: list[Hashable] = []
    try:
        for name, length in files:
            fd, identity = _opened(folder, name, length)
            fds.append(fd)
            found.append(identity)
        at = 0
        for k, (_, length) in enumerate(files):
            if found[k] is not None and not _fill(fds[k], target[at : at + length]):
                found[k] = None
            at += length
    finally:
        for fd in fds:
            if fd >= 0:
                os.close(fd)
    return found


def _opened(folder: int, name: str, length: int) -> tuple[int, Hashable]:
    """A descriptor, and the identity of a regular file of this length, which the system is asked to read; else None."""
    try:
        fd = os.open(name, _FLAGS, dir_fd=folder)
    except (OSError, ValueError):
        return -1, None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_size != length:
        return fd, None
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
    return fd, _identity(status)


def _fill(fd: int, target: memoryview) -> bool:
    """Whether the file has enough bytes, and can be read."""
    done = 0
    try:
        while done < len(target) and (count := os.preadv(fd, [target[done:]], done)):
            done += count
    except OSError:
        return False
    return done == len(target)


def _identity(status: os.stat_result) -> Hashable:
    return status.st_dev, status.st_ino, status.st_ctime_ns
