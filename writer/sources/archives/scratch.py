"""Nameless temporary files that other processes of this machine can open, and that vanish with the last that does."""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from recordio.errors import SourceError
from recordio.writer.sources.plain_files import read_at


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where a nameless file can be opened from: the process that holds it, its descriptor there, and which it is."""

    process: int
    fd: int
    identity: tuple[int, int, int]  # device, inode, size

    @classmethod
    def of(cls, fd: int) -> Scratch:
        """That of a file that this process holds."""
        return cls(os.getpid(), fd, _identity(fd))

    @property
    def nbytes(self) -> int:
        return self.identity[2]

    def open(self) -> int | None:
        """A descriptor of the file, None where it cannot be had."""
        try:
            fd = os.open(f"/proc/{self.process}/fd/{self.fd}", os.O_RDONLY)
        except OSError:
            return None
        if _identity(fd) == self.identity:
            return fd
        os.close(fd)
        return None


def _identity(fd: int) -> tuple[int, int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, found.st_size


class ReopenedFile(ABC):
    """A file that is read at any offset, in any process: each opens it anew.

    A subclass says by `_made` which file that is. A temporary one is opened again where its process can be reached, and
    made again where it cannot.
    """

    _fd: int | None = None
    _scratch: Scratch | None = None  # the temporary file, if it is one

    @abstractmethod
    def _made(self) -> int:
        """Opens the file where it lies, or makes a temporary one and sets `_scratch`. Raises SourceError."""

    @property
    def _descriptor(self) -> int:
        if self._fd is None:
            self._fd = self._scratch.open() if self._scratch else None
        if self._fd is None:
            self._fd = self._made()
        return self._fd

    def read(self, start: int, nbytes: int) -> bytes:
        """The bytes from `start`, fewer only at the end of the file. Raises SourceError."""
        return read_at(self._descriptor, start, nbytes)

    def close(self) -> None:
        """Closes the file, and frees a temporary one; the next read opens or makes it again."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = self._scratch = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_fd": None}

    def __del__(self) -> None:
        if self._fd is not None:
            self.close()


def written(chunks: Iterable[bytes]) -> int:
    """A descriptor of a temporary file of these bytes, which vanishes when the last process closes it."""
    with tempfile.TemporaryFile() as file:
        for chunk in chunks:
            try:
                file.write(chunk)
            except OSError as error:
                where = f"{tempfile.gettempdir()} (TMPDIR names another folder)"
                raise SourceError(f"cannot be unpacked in {where}: {error.strerror or error}") from error
        file.seek(0)  # which writes what is buffered
        return os.dup(file.fileno())
