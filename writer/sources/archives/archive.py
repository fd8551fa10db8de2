"""What all archives have in common: the folder that one stands for, and the bytes of its members.

The members are listed once; after that any of them is one read. tar_archive.py and zip_archive.py say where they lie.
"""

from __future__ import annotations

import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import xxhash

from recordio.errors import SourceError
from recordio.writer.sources.archives.member_table import Found, MemberTable, Place
from recordio.writer.sources.archives.unpacked_file import identity, unpacked_file
from recordio.writer.sources.leftovers import is_clutter
from recordio.writer.sources.plain_files import shown

_MAX_VALUE = 1 << 30
CHUNK = 1 << 20
_FEW = 20  # as many files are not one and clutter


def require_fit(nbytes: int) -> None:
    """Raises SourceError for more than is taken from an archive as one value: a short file can announce any length."""
    if nbytes > _MAX_VALUE:
        raise SourceError(
            f"{nbytes >> 20:,} MiB are more than a value in an archive may have ({_MAX_VALUE >> 20:,} MiB); unpack it"
        )


class MemberStatus(NamedTuple):
    """What os.stat would say of a member, were it a file. Times are those of the archive."""

    st_mode: int
    st_dev: int
    st_ino: int
    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int


class MemberEntry(NamedTuple):
    """What os.scandir would yield for a member."""

    name: bytes
    path: bytes
    status: MemberStatus

    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)

    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.status.st_mode)

    def stat(self, *, follow_symlinks: bool = True) -> MemberStatus:
        return self.status


class Archive(ABC):
    """An archive as a folder. Paths are those below it, b"" for the archive itself.

    Attributes:
        notes: what is unusual about it, in words.
    """

    def __init__(self, path: bytes) -> None:
        self._file = unpacked_file(path)
        self._path = path
        self.notes: tuple[str, ...] = ()
        try:
            self._table = MemberTable.of(self._members())
        except SourceError as error:
            raise error.at(file=shown(path))

    @abstractmethod
    def _members(self) -> dict[bytes, Found]:
        """What is in the archive, by path. Raises SourceError."""

    @abstractmethod
    def _content(self, place: Place) -> Iterator[bytes]:
        """The bytes of a member, in pieces. Raises SourceError."""

    def is_of(self, identity_now: tuple[int, ...]) -> bool:
        """Whether the file is still the one that was listed."""
        return identity(self._file.status) == identity_now

    def status(self, path: bytes) -> MemberStatus | None:
        """What is at a path, None if nothing is."""
        place = self._table.place(path)
        if place is None:
            return self._folder_status(path) if self._table.has_folder(path) else None
        if path in self._table.unread:
            return self._with(stat.S_IFLNK if path in self._table.links else stat.S_IFCHR, 0, 0)
        return self._file_status(place.nbytes)

    def _file_status(self, nbytes: int) -> MemberStatus:
        return self._with(stat.S_IFREG, self._file.status.st_ino, nbytes)

    def _folder_status(self, path: bytes) -> MemberStatus:
        return self._with(stat.S_IFDIR, xxhash.xxh3_64_intdigest(path), 0)

    def _with(self, mode: int, number: int, nbytes: int) -> MemberStatus:
        own = self._file.status
        return MemberStatus(mode, own.st_dev, number, nbytes, own.st_mtime_ns, own.st_ctime_ns)

    def entries(self, path: bytes) -> list[MemberEntry] | None:
        """What is in a folder, None if there is none at the path."""
        if not self._table.has_folder(path):
            return None
        start = path + b"/" if path else b""
        found = []
        for name, nbytes in self._table.listing(path):
            status = self._file_status(nbytes) if nbytes >= 0 else self.status(start + name)
            assert status is not None
            found.append(MemberEntry(name, self._path + b"/" + start + name, status))
        return found

    def only_file(self) -> bytes | None:
        """The one file at the top besides clutter and hidden ones, None if there are others, or it lies in a folder."""
        files = list(islice((name for name in self._table.names if not name.endswith(b"/")), _FEW))
        found = [name for name in files if not is_clutter(name) and not name.rpartition(b"/")[2].startswith(b".")]
        return found[0] if len(found) == 1 and len(files) < _FEW and b"/" not in found[0] else None

    def why_unread(self, path: bytes) -> str | None:
        """Why a member is not read, None for one that is."""
        return self._table.unread.get(path)

    def chunks(self, path: bytes) -> Iterator[bytes]:
        """The bytes of a member, in pieces. Raises SourceError."""
        return self._content(self._place(path))

    def read(self, path: bytes) -> bytes:
        """The bytes of a member as one value. Raises SourceError."""
        place = self._place(path)
        require_fit(place.nbytes)
        return b"".join(self._content(place))

    def _place(self, path: bytes) -> Place:
        place = self._table.place(path)
        if place is None or path in self._table.unread:
            what = "it is a folder" if self._table.has_folder(path) else "there is no such file in the archive"
            raise SourceError(f"cannot be read: {self.why_unread(path) or what}")
        self._file.require_unchanged()
        return place

    def _pieces(self, start: int, nbytes: int) -> Iterator[bytes]:
        """A range of the archive. Raises SourceError where it ends before."""
        end = start + nbytes
        for at in range(start, end, CHUNK):
            piece = self._file.read(at, min(CHUNK, end - at))
            if len(piece) < min(CHUNK, end - at):
                raise SourceError("damaged: the archive ends within it")
            yield piece
