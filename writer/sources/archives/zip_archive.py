"""A zip archive as a folder."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from recordio.errors import SourceError
from recordio.writer.sources.archives.archive import CHUNK, Archive
from recordio.writer.sources.archives.compression import require_no_bomb
from recordio.writer.sources.archives.member_table import MAX_MEMBERS, Found, Link, Place, Unread, member_path
from recordio.writer.sources.foreign_errors import reading
from recordio.writer.sources.plain_files import open_plain, shown

_LOCAL_HEADER = 30  # bytes before the name, which the data follows
_MAX_LINK = 4096


def require_honest(infos: list[zipfile.ZipInfo], nbytes: int) -> None:
    """Raises SourceError for members of a file of so many bytes that cannot be read, or whose lengths do harm."""
    for info in infos:
        if info.flag_bits & 1:
            raise SourceError(f"{info.filename[:200]!r} is encrypted; unpack the archive, and give the folder")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            text = f"{info.filename[:200]!r} is compressed in a way that is not read (method {info.compress_type})"
            raise SourceError(f"{text}; unpack the archive, and give the folder")
        if not 0 <= info.header_offset <= info.header_offset + info.compress_size <= nbytes:
            raise SourceError(f"the archive is cut off: {info.filename[:200]!r} ends behind its end")
        require_no_bomb(info.file_size, info.compress_size, info.filename)
    starts = np.array([info.header_offset for info in infos] + [nbytes], np.int64)
    ends = np.array([info.header_offset + _LOCAL_HEADER + info.compress_size for info in infos], np.int64)
    order = np.argsort(starts, kind="stable")
    if len(infos) and (ends[order[:-1]] > starts[order][1:]).any():
        raise SourceError("members lie on one another, or behind the end: damaged, or made to do harm")
    require_no_bomb(sum(info.file_size for info in infos), nbytes)


class ZipArchive(Archive):
    """A zip archive with members that are stored or deflated. Their checksums are compared as they are read."""

    def _members(self) -> dict[bytes, Found]:
        with reading("not a readable zip archive"), open(open_plain(self._path), "rb") as file:
            infos = zipfile.ZipFile(file).infolist()
        if len(infos) > MAX_MEMBERS:
            raise SourceError(f"there are more than {MAX_MEMBERS:,} members in it")
        require_honest(infos, self._file.nbytes)
        names = [_name(info) for info in infos]
        backslashes = not any(b"/" in name for name in names)
        found: dict[bytes, Found] = {}
        for name, info in zip(names, infos, strict=True):
            name = name.replace(b"\\", b"/") if backslashes and info.create_system == 0 else name
            path = member_path(name)
            if name.endswith(b"/") or not path:
                found.setdefault(path, None)
                continue
            if path in found:
                raise SourceError(f"two members are called {shown(path)[:200]!r}")
            found[path] = self._found(info)
        if any(_unmarked(info) for info in infos):
            self.notes = ("names that are not marked as UTF-8 are read as UTF-8 where they can be, else as cp437",)
        return found

    def _found(self, info: zipfile.ZipInfo) -> Found:
        deflated = info.compress_type == zipfile.ZIP_DEFLATED
        place = Place(info.header_offset, info.file_size, info.compress_size if deflated else -1, info.CRC)
        mode = info.external_attr >> 16 if info.create_system == 3 else 0
        if stat.S_ISLNK(mode):
            short = info.file_size <= _MAX_LINK
            return Link(b"".join(self._content(place))) if short else Unread("its link is too long")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            return Unread("it is no file, but a device, a pipe or the like")
        if not deflated and info.compress_size != info.file_size:
            return Unread(f"its lengths differ: {info.compress_size} bytes are stored, {info.file_size} announced")
        return place

    def _content(self, place: Place) -> Iterator[bytes]:
        stored = place.nbytes if place.packed < 0 else place.packed
        head = self._file.read(place.start, _LOCAL_HEADER)
        if head[:4] != b"PK\3\4" or len(head) < _LOCAL_HEADER:
            raise SourceError("damaged: there is no member where the archive's list has it")
        before = _LOCAL_HEADER + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        pieces = self._pieces(place.start + before, stored)
        return _as_announced(pieces if place.packed < 0 else _inflated(pieces), place)


def _as_announced(chunks: Iterable[bytes], place: Place) -> Iterator[bytes]:
    """The same. Raises SourceError where length or checksum are not those in the archive's list."""
    total = crc = 0
    for chunk in chunks:
        total += len(chunk)
        crc = zlib.crc32(chunk, crc)
        if total > place.nbytes:
            break
        yield chunk
    if total != place.nbytes:
        more = "more" if total > place.nbytes else str(total)
        raise SourceError(f"damaged: {place.nbytes} bytes were announced, and there are {more}")
    if crc != place.crc:
        raise SourceError("damaged: its checksum is another one than the archive's list has")


def _inflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in pieces:
            while piece and not decoder.eof:
                yield decoder.decompress(piece, CHUNK)
                piece = decoder.unconsumed_tail
        while not decoder.eof and (rest := decoder.decompress(b"", CHUNK)):
            yield rest
    except zlib.error as error:
        raise SourceError(f"damaged: {error}") from error


def _unmarked(info: zipfile.ZipInfo) -> bool:
    """Whether nothing says what encoding a name is in."""
    return not info.orig_filename.isascii() and not info.flag_bits & 0x800


def _name(info: zipfile.ZipInfo) -> bytes:
    """The name in UTF-8. Many programs write UTF-8 and do not say so; what is none is in the old code page 437."""
    decoded = info.orig_filename.encode("utf-8", "surrogatepass")
    if not _unmarked(info):
        return decoded
    written = info.orig_filename.encode("cp437")  # which zipfile took it for
    try:
        written.decode("utf-8")
    except UnicodeDecodeError:
        return decoded
    return written
