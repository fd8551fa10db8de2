"""Archives, each read as the folder that it was made of, without unpacking it: zip, and tar with its compressions.

The members are listed once; after that any of them is one read. A compressed tar is unpacked into a temporary file,
since nothing in it can be found otherwise.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import islice
from typing import IO, NamedTuple

import numpy as np
import xxhash

from recordio.errors import SourceError
from recordio.writer.sources.leftovers import is_clutter
from recordio.writer.sources.member_table import (
    MAX_MEMBERS,
    Found,
    Link,
    MemberTable,
    Place,
    Unread,
    inside,
    member_path,
)
from recordio.writer.sources.plain_files import open_plain, shown
from recordio.writer.sources.tar_members import FILE, FOLDER, HARDLINK, SYMLINK, TarMember, tar_members
from recordio.writer.sources.unpacked_file import identity, require_no_bomb, unpacked_file

TAR_ENDINGS = (".tar", ".tgz", ".tbz2", ".txz", ".tzst", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
ENDINGS = (".zip", *TAR_ENDINGS)
_BAD_ZIP = (OSError, EOFError, ValueError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
_LOCAL_HEADER = 30  # bytes before the name, which the data follows
_MAX_LINK = 4096
_FEW = 20  # more files than this are not one and clutter


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
    def _data(self, place: Place) -> bytes:
        """The bytes of a member. Raises SourceError."""

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
        return self._with(stat.S_IFREG, self._file.status.st_ino, place.nbytes)

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
        for name, is_folder in self._table.listing(path):
            status = self._folder_status(start + name) if is_folder else self.status(start + name)
            assert status is not None
            found.append(MemberEntry(name, self._path + b"/" + start + name, status))
        return found

    def only_file(self) -> bytes | None:
        """The one file that is in the archive besides clutter and hidden ones, None if there are others or none."""
        files = islice((name for name in self._table.names if not name.endswith(b"/")), _FEW)
        found = [name for name in files if not is_clutter(name) and not name.rpartition(b"/")[2].startswith(b".")]
        return found[0] if len(found) == 1 else None

    def why_unread(self, path: bytes) -> str | None:
        """Why a member is not read, None for one that is."""
        return self._table.unread.get(path)

    def read(self, path: bytes) -> bytes:
        """The bytes of a member. Raises SourceError."""
        place = self._table.place(path)
        if place is None or path in self._table.unread:
            what = "it is a folder" if self._table.has_folder(path) else "there is no such file in the archive"
            raise SourceError(f"cannot be read: {self.why_unread(path) or what}")
        self._file.require_unchanged()
        return self._data(place)

    def close(self) -> None:
        self._file.close()


class TarArchive(Archive):
    """A tar archive. Of members with the same name the last counts, as when it is unpacked."""

    def _members(self) -> dict[bytes, Found]:
        found: dict[bytes, Found] = {}
        twice: list[bytes] = []
        end = 0
        for number, member in enumerate(tar_members(self._file.read, self._file.nbytes)):
            if number >= MAX_MEMBERS:
                raise SourceError(f"there are more than {MAX_MEMBERS:,} members in it")
            path = member_path(member.name)
            end = member.start + member.nbytes
            if member.kind != FOLDER:
                twice += [path] if found.get(path) is not None else []
                found[path] = self._found(member, found)
            elif path not in found:
                found[path] = None
        self.notes = (*_said_twice(twice), *self._behind(end))
        return found

    @staticmethod
    def _found(member: TarMember, found: dict[bytes, Found]) -> Found:
        if not member.name.strip(b"/."):
            raise SourceError("a member has no name")
        if member.kind == SYMLINK:
            return Link(member.link)
        if member.kind == HARDLINK:
            target = inside(b"", member.link)
            first = None if target is None else found.get(target)
            return first or Unread(f"the link leads to no member before it: {shown(member.link)[:200]!r}")
        if member.kind == b"S":
            return Unread("it is a sparse file, as GNU tar stores them; unpack the archive, and give the folder")
        if member.kind != FILE:
            return Unread(f"it is no file, but a device, a pipe or the like (type {shown(member.kind)!r})")
        return Place(member.start, member.nbytes)

    def _behind(self, end: int) -> tuple[str, ...]:
        """A note about anything behind the end of the archive."""
        end = -(-end // 512) * 512
        rest = self._file.read(end, 1 << 16)
        if not rest:
            return ("the archive has no end mark, and may have been cut off",)
        if rest.strip(b"\0"):
            return (f"bytes behind the end mark are not read: {self._file.nbytes - end:,}",)
        return ()

    def _data(self, place: Place) -> bytes:
        return self._file.read(place.start, place.nbytes)


def _said_twice(paths: list[bytes]) -> tuple[str, ...]:
    if not paths:
        return ()
    return (f"in the archive more than once, the last counts: {shown(paths[0])!r} ({len(paths)} in all)",)


class ZipArchive(Archive):
    """A zip archive with members that are stored or deflated. Their checksums are compared as they are read."""

    def _members(self) -> dict[bytes, Found]:
        with open(open_plain(self._path), "rb") as file:
            try:
                with zipfile.ZipFile(file) as archive:
                    infos = archive.infolist()
            except _BAD_ZIP as error:
                raise SourceError(f"not a readable zip archive: {error}") from error
        if len(infos) > MAX_MEMBERS:
            raise SourceError(f"there are more than {MAX_MEMBERS:,} members in it")
        self._require_honest(infos)
        backslashes = not any(b"/" in _raw_name(info) for info in infos)
        found: dict[bytes, Found] = {}
        for info in infos:
            name = _name(info)
            name = name.replace(b"\\", b"/") if backslashes and info.create_system == 0 else name
            path = member_path(name)
            if name.endswith(b"/") or not path:
                found.setdefault(path, None)
                continue
            if path in found:
                raise SourceError(f"two members are called {shown(path)[:200]!r}")
            found[path] = self._found(info)
        if any(not info.flag_bits & 0x800 and not _raw_name(info).isascii() for info in infos):
            self.notes = ("names that are not marked as UTF-8 are read as UTF-8 where they can be, else as cp437",)
        return found

    def _require_honest(self, infos: list[zipfile.ZipInfo]) -> None:
        """Raises SourceError for what cannot be read, and for lengths that do harm."""
        for info in infos:
            if info.flag_bits & 1:
                raise SourceError(f"{info.filename[:200]!r} is encrypted; unpack the archive, and give the folder")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                text = f"{info.filename[:200]!r} is compressed in a way that is not read (method {info.compress_type})"
                raise SourceError(f"{text}; unpack the archive, and give the folder")
            if not 0 <= info.header_offset <= info.header_offset + info.compress_size <= self._file.nbytes:
                raise SourceError(f"the archive is cut off: {info.filename[:200]!r} ends behind its end")
            require_no_bomb(info.file_size, info.compress_size, repr(info.filename[:200]))
        starts = np.array([info.header_offset for info in infos] + [self._file.nbytes], np.int64)
        ends = np.array([info.header_offset + _LOCAL_HEADER + info.compress_size for info in infos], np.int64)
        order = np.argsort(starts, kind="stable")
        if len(infos) and (ends[order[:-1]] > starts[order][1:]).any():
            raise SourceError("members lie on one another, or behind the end: damaged, or made to do harm")
        require_no_bomb(sum(info.file_size for info in infos), self._file.nbytes, "the archive")

    def _found(self, info: zipfile.ZipInfo) -> Found:
        deflated = info.compress_type == zipfile.ZIP_DEFLATED
        place = Place(info.header_offset, info.file_size, info.compress_size if deflated else -1, info.CRC)
        mode = info.external_attr >> 16 if info.create_system == 3 else 0
        if stat.S_ISLNK(mode):
            return Link(self._data(place)) if info.file_size <= _MAX_LINK else Unread("its link is too long")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            return Unread("it is no file, but a device, a pipe or the like")
        if not deflated and info.compress_size != info.file_size:
            return Unread(f"its lengths differ: {info.compress_size} bytes are stored, {info.file_size} announced")
        return place

    def _data(self, place: Place) -> bytes:
        stored = place.nbytes if place.packed < 0 else place.packed
        head = self._file.read(place.start, _LOCAL_HEADER)
        if head[:4] != b"PK\3\4" or len(head) < _LOCAL_HEADER:
            raise SourceError("damaged: there is no member where the archive's list has it")
        before = _LOCAL_HEADER + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        data = self._file.read(place.start + before, stored)
        if place.packed >= 0:
            data = _inflated(data, place.nbytes)
        if len(data) != place.nbytes or zlib.crc32(data) != place.crc:
            raise SourceError("damaged: its checksum is another one than the archive's list has")
        return data


def _inflated(data: bytes, nbytes: int) -> bytes:
    """Raises SourceError where these are not `nbytes` bytes, before memory for more is asked for."""
    try:
        decoder = zlib.decompressobj(-zlib.MAX_WBITS)
        found = decoder.decompress(data, nbytes + 1)
    except zlib.error as error:
        raise SourceError(f"damaged: {error}") from error
    if len(found) != nbytes or not decoder.eof:
        raise SourceError(f"damaged: {nbytes} bytes were announced, and there are others")
    return found


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    """The name as it is written, where nothing says that it is UTF-8."""
    return info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "surrogatepass")


def _name(info: zipfile.ZipInfo) -> bytes:
    """The name in UTF-8. Many programs write UTF-8 and do not say so; what is none is in the old code page 437."""
    raw = _raw_name(info)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return info.orig_filename.encode("utf-8", "surrogatepass")
    return raw


def is_archive_name(path: str) -> bool:
    """Whether a file is an archive of a folder by its name."""
    return path.lower().endswith(ENDINGS)


def open_archive(path: bytes) -> Archive:
    """The archive in a regular file, zip or tar by its first bytes. Raises SourceError."""
    with open(open_plain(path), "rb") as file:
        return _reader_of(file)(path)


def _reader_of(file: IO[bytes]) -> Callable[[bytes], Archive]:
    return ZipArchive if file.read(4) in (b"PK\3\4", b"PK\5\6") else TarArchive
