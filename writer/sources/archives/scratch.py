"""Nameless temporary files that other processes of this machine can open, and that vanish with the last that does."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass

from recordio.errors import SourceError


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
