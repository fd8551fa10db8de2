"""Files of the file system as they are: opened if they are regular, told apart, and named in messages.

What may lie in an archive is opened by files.py, which stands on this.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from itertools import starmap
from operator import attrgetter
from typing import Protocol

import numpy as np
import numpy.typing as npt
import xxhash

from recordio import kernels
from recordio.errors import SourceError
from recordio.writer.sources.foreign_errors import refused as refused

# O_NONBLOCK: opening a FIFO must not wait for a writer.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_CHUNK = 1 << 20
MAX_VALUE = 1 << 32  # bytes of a file that is read whole
_STAMP = struct.Struct("<Qqq").pack
_TIMES = attrgetter("st_ino", "st_ctime_ns", "st_mtime_ns")
Int64 = npt.NDArray[np.int64]


def shown(name: bytes) -> str:
    """A file name for display; bytes that are not UTF-8 are escaped."""
    return name.decode("utf-8", "backslashreplace")


def open_plain(path: bytes | str) -> int:
    """Opens a regular file, returns its descriptor.

    Raises SourceError for anything else, NotADirectoryError where a file stands on the way, which may be an archive.
    """
    return _opened(path)[0]


def _opened(path: bytes | str) -> tuple[int, os.stat_result]:
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except NotADirectoryError:
        raise
    except OSError as error:
        raise refused(error).at(file=shown(os.fsencode(path))) from error
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise SourceError("not a regular file").at(file=shown(os.fsencode(path)))
    return fd, found


def require_size(nbytes: int, most: int = MAX_VALUE) -> None:
    """Raises SourceError for more bytes than are read as one value."""
    if nbytes > most:
        raise SourceError(f"it has {nbytes >> 20:,} MiB, and at most {most >> 20:,} are read as one: cut it into parts")


def read_plain(path: bytes | str, most: int = MAX_VALUE) -> bytes:
    """The bytes of a regular file, in half the system calls that a file object makes.

    Raises SourceError for more than `most`, what `open_plain` raises, and OSError where reading fails.
    """
    fd, found = _opened(path)
    try:
        require_size(found.st_size, most)
        data = os.read(fd, found.st_size + 1)
        if len(data) == found.st_size:
            return data
        parts = [data]
        while part := os.read(fd, _CHUNK):  # a short read, or a file that grows
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def read_files(folder: int, names: bytes, starts: Int64, ends: Int64, sizes: Int64) -> list[bytes | None]:
    """The bytes of files that were regular and had so many when they were listed.

    None for each that has to be looked at again: it has another size by now, or cannot be read in one call.

    Args:
        folder: the open folder that the paths count from.
        names: bytes that hold the paths.
        starts, ends: of each path in `names`.
        sizes: bytes of each file.
    """
    if kernels.c is not None:
        return kernels.c.read_files(folder, names, starts, ends, sizes)  # type: ignore[no-any-return]
    parts = zip(starts.tolist(), ends.tolist(), sizes.tolist(), strict=True)
    return [_read_sized(folder, names[start:end], nbytes) for start, end, nbytes in parts]


def _read_sized(folder: int, path: bytes, nbytes: int) -> bytes | None:
    if not 0 < nbytes <= MAX_VALUE:
        return None
    try:
        fd = os.open(path, _OPEN_FLAGS, dir_fd=folder)
    except OSError:
        return None
    try:
        data = os.read(fd, nbytes + 1)
    except OSError:
        return None
    finally:
        os.close(fd)
    return data if len(data) == nbytes else None


def read_at(fd: int, start: int, nbytes: int) -> bytes:
    """The bytes of an open file from `start`, fewer only at its end. Raises SourceError."""
    parts: list[bytes] = []
    try:
        while nbytes > 0 and (part := os.pread(fd, nbytes, start)):
            parts.append(part)
            start += len(part)
            nbytes -= len(part)
    except OSError as error:
        raise refused(error) from error
    except OverflowError as error:  # a place that no file has
        raise SourceError(f"cannot be read: {error}") from error
    return b"".join(parts)


class Status(Protocol):
    """What of os.stat_result is used."""

    @property
    def st_mode(self) -> int: ...
    @property
    def st_dev(self) -> int: ...
    @property
    def st_ino(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_mtime_ns(self) -> int: ...
    @property
    def st_ctime_ns(self) -> int: ...


def stamp(found: Status) -> int:
    """A digest of times and inode, 63 bits: another one as soon as a file was written, or another put in its place.

    The modification time alone is not enough: `mv`, `cp -p`, `rsync -a` and `tar x` keep an older one. ctime is set by
    the system alone, but to the tick of a clock, and to the same one for files that are made together. The inode tells
    those apart, also where a link or a folder on the way leads elsewhere now.
    """
    return xxhash.xxh3_64_intdigest(_STAMP(*_TIMES(found))) >> 1


def opened_folder(path: bytes) -> int:
    """For the names in it, which are found sooner than by their paths; -1 if it is none, or in an archive."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return -1


def stamps(found: Iterable[Status]) -> list[int]:
    """`stamp` of each, in half the time."""
    return [digest >> 1 for digest in map(xxhash.xxh3_64_intdigest, starmap(_STAMP, map(_TIMES, found)))]
