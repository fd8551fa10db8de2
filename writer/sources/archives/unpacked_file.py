"""A file that any process can read at any offset: where it lies, or unpacked once into a nameless temporary file.

Other processes of this machine open the same temporary file, those of other machines make their own.
"""

from __future__ import annotations

import os
from collections import OrderedDict

from recordio.errors import SourceError
from recordio.writer.sources.archives.compression import packed_with, unpacked
from recordio.writer.sources.archives.scratch import ReopenedFile, Scratch, written
from recordio.writer.sources.plain_files import Status, open_plain, shown

_KEPT_NBYTES = 16 << 30  # of temporary files that stay; those used last
_KEPT_FILES = 64


def identity(found: Status) -> tuple[int, int, int, int]:
    """Device, inode, size, time: another one for a file that was changed."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class UnpackedFile(ReopenedFile):
    """A file, without its compression.

    Attributes:
        path: where it lies.
        status: of the file as it lies.
        packed: what it is compressed with, None for a plain file.
        nbytes: its length, unpacked.
    """

    def __init__(self, path: bytes) -> None:
        self.path = path
        with open(_opened(path), "rb") as raw:
            self.status = os.fstat(raw.fileno())
            self.packed = packed_with(raw.read(16))
        self.nbytes = self.status.st_size
        if self.packed:
            self._fd = self._made()

    def _made(self) -> int:
        fd = _opened(self.path)
        if identity(os.fstat(fd)) != identity(self.status):
            os.close(fd)
            raise SourceError("changed while it was converted").at(file=shown(self.path))
        if self.packed is None:
            return fd
        with open(fd, "rb") as raw:
            try:
                fd = written(unpacked(raw, self.packed))
            except SourceError as error:
                raise error.at(file=shown(self.path))
        self._scratch = Scratch.of(fd)
        self.nbytes = self._scratch.nbytes
        _keep(self)
        return fd

    def read(self, start: int, nbytes: int) -> bytes:
        """The bytes from `start`, fewer only at the end of the file. Raises SourceError."""
        try:
            return super().read(start, nbytes)
        except SourceError as error:
            raise error.at(file=shown(self.path))

    def require_unchanged(self) -> None:
        """Raises SourceError once the file has been written to."""
        if self.packed is None and identity(os.fstat(self._descriptor)) != identity(self.status):
            raise SourceError("changed while it was converted").at(file=shown(self.path))


def _opened(path: bytes) -> int:
    try:
        return open_plain(path)
    except NotADirectoryError as error:
        text = "it lies in an archive itself, and is not read there: unpack the outer one"
        raise SourceError(text).at(file=shown(path)) from error


_unpacked: OrderedDict[bytes, UnpackedFile] = OrderedDict()  # temporary files of this process by the path of the source


def _keep(file: UnpackedFile) -> None:
    """Frees the temporary files that were used least of late where there are too many."""
    _unpacked[file.path] = file
    _unpacked.move_to_end(file.path)
    while len(_unpacked) > 1 and (
        len(_unpacked) > _KEPT_FILES or sum(kept.nbytes for kept in _unpacked.values()) > _KEPT_NBYTES
    ):
        _unpacked.popitem(last=False)[1].close()


def forget_unpacked() -> None:
    """Lets go of all temporary files; each vanishes once nobody else uses it."""
    _unpacked.clear()


def unpacked_file(path: bytes) -> UnpackedFile:
    """The file at a path; one that was unpacked before, and is as it was, is not unpacked again. Raises SourceError."""
    known = _unpacked.get(path)
    if known is not None and identity(os.stat(path)) == identity(known.status):
        return known
    return UnpackedFile(path)
