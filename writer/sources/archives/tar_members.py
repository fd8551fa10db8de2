"""The members of a tar archive, from its headers alone: ustar, pax, and the long names of GNU.

Each header is read once, with its checksum compared; the data between them is not read. What Python's tarfile makes of
an archive, this makes too, with two differences: a damaged header is an error and not the end of the archive, and
sparse files are told apart, as their data is not what the file holds.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from recordio.errors import SourceError
from recordio.writer.sources.plain_files import shown

BLOCK = 512
FILE, FOLDER, SYMLINK, HARDLINK = b"0", b"5", b"2", b"1"
_REGULAR = frozenset((b"0", b"\0", b"7"))
_WITHOUT_DATA = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))  # whatever their headers say
_ZEROS = bytes(BLOCK)
_MAX_EXTENSION = 1 << 20  # bytes of a pax header or a long name
_AHEAD = 1 << 12
_RECORD = re.compile(rb"([0-9]{1,7}) ([^=]+)=")

Read = Callable[[int, int], bytes]  # the bytes from an offset, fewer only at the end of the archive


class TarMember(NamedTuple):
    """A member.

    Attributes:
        name: as it is written.
        kind: FILE, FOLDER, SYMLINK, HARDLINK; b"S" for a sparse file, else the type in the header.
        header: where its first header begins.
        start: where its data begins.
        nbytes: how long it is.
        link: what a link leads to.
    """

    name: bytes
    kind: bytes
    header: int
    start: int
    nbytes: int
    link: bytes


def is_header(block: bytes) -> bool:
    """Whether a block is the header of a member, by its checksum."""
    return len(block) == BLOCK and block[156:157] != b"" and _checks(block)


def _checks(block: bytes) -> bool:
    try:
        stored = _number(block[148:156])
    except SourceError:
        return False
    # The lower half of Adler-32 is the sum of the bytes and 1, modulo 65521: far quicker than a sum in Python.
    if zlib.adler32(block) & 0xFFFF == (stored + sum(block[148:156]) - 255) % 65521:
        return True
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:])
    return signed + 256 == stored  # as some old programs summed


def _number(field: bytes) -> int:
    """A number in octal digits, or in base 256. Raises SourceError."""
    if field[0] in (0x80, 0xFF):
        if field[0] == 0xFF:
            raise SourceError("a member has a negative length")
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError as error:
        raise SourceError(f"a header holds {field[:12]!r} where a number belongs") from error


def tar_members(read: Read, nbytes: int) -> Iterator[TarMember]:
    """The members of an archive of `nbytes` bytes, in order. Raises SourceError.

    Every step moves on by a block, so there are no more members than blocks.
    """
    at = 0
    while at < nbytes:
        first = at
        own: dict[bytes, bytes] = {}
        while True:
            block = read(at, BLOCK)
            if block == _ZEROS or (not block and at == first):
                return
            kind = _kind(block, at)
            at += BLOCK
            if kind not in (b"x", b"g", b"L", b"K"):
                break
            data = _extension(read, at, _number(block[124:136]))
            at += _padded(len(data))
            if kind == b"g":
                _require_no_names(_pax(data))
            else:
                own |= _pax(data) if kind == b"x" else {_LONG[kind]: data.partition(b"\0")[0]}
        member, at = _member(block, kind, own, first, at, read)
        if member.start + member.nbytes > nbytes:
            text = f"the archive is cut off: {shown(member.name)!r} ends behind its end"
            raise SourceError(text)
        yield member


def ahead(read: Read) -> Read:
    """Reads 4 KiB at a time: headers and small members lie close together."""
    known, start = b"", 0

    def reading(at: int, nbytes: int) -> bytes:
        nonlocal known, start
        if not start <= at <= at + nbytes <= start + len(known):
            if nbytes > _AHEAD:
                return read(at, nbytes)
            known, start = read(at, _AHEAD), at
        return known[at - start : at - start + nbytes]

    return reading


_LONG = {b"L": b"path", b"K": b"linkpath"}


def _require_no_names(shared: dict[bytes, bytes]) -> None:
    """Raises SourceError where a header about all members that follow has their names or lengths."""
    odd = [key for key in shared if key in (b"path", b"linkpath", b"size") or key.startswith(b"GNU.sparse.")]
    if odd:
        raise SourceError(f"a global pax header gives all members one {shown(odd[0])}, which is not read")


def _kind(block: bytes, at: int) -> bytes:
    if len(block) < BLOCK:
        raise SourceError(f"the archive is cut off within the header at byte {at}")
    if not _checks(block):
        raise SourceError(f"the header at byte {at} is damaged, or this is no tar archive")
    return block[156:157]


def _padded(nbytes: int) -> int:
    return -(-nbytes // BLOCK) * BLOCK


def _extension(read: Read, at: int, nbytes: int) -> bytes:
    """What stands between a header and the one that it is about. Raises SourceError."""
    if nbytes > _MAX_EXTENSION:
        raise SourceError(f"the header before byte {at} announces {nbytes} bytes of names; {_MAX_EXTENSION} are read")
    data = read(at, nbytes)
    if len(data) < nbytes:
        raise SourceError(f"the archive is cut off within the header at byte {at}")
    return data


def _pax(data: bytes) -> dict[bytes, bytes]:
    """The records of a pax header. Raises SourceError."""
    found = {}
    at = 0
    while at < len(data) and data[at]:
        head = _RECORD.match(data, at)
        length = int(head[1]) if head else 0
        if head is None or length <= head.end() - at or data[at + length - 1 : at + length] != b"\n":
            raise SourceError(f"a pax header is damaged at its byte {at}")
        found[head[2]] = data[head.end() : at + length - 1]
        at += length
    return found


def _member(
    block: bytes, kind: bytes, pax: dict[bytes, bytes], first: int, at: int, read: Read
) -> tuple[TarMember, int]:
    """The member of a header, and where the next one begins."""
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    nbytes = _number(block[124:136])
    if pax:
        name = pax.get(b"GNU.sparse.name", pax.get(b"path", name))
        nbytes = _decimal(pax[b"size"]) if b"size" in pax else nbytes
        kind = b"S" if kind in _REGULAR and any(key.startswith(b"GNU.sparse.") for key in pax) else kind
    if kind in _REGULAR:
        kind = FOLDER if kind == b"\0" and name.endswith(b"/") else FILE
    elif kind == b"S" and block[257:263] != b"ustar\0":
        at = _behind_sparse_map(block, at, read)
    nbytes = 0 if kind in _WITHOUT_DATA else nbytes
    link = pax.get(b"linkpath", block[157:257].partition(b"\0")[0])
    return TarMember(name, kind, first, at, nbytes, link), at + _padded(nbytes)


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise SourceError(f"a pax header holds {text[:20]!r} where a length belongs")
    return int(text)


def _behind_sparse_map(block: bytes, at: int, read: Read) -> int:
    """Where the data of a sparse file of old GNU tar begins: behind the blocks that its header announces."""
    more = block[482]
    while more:
        block = read(at, BLOCK)
        if len(block) < BLOCK:
            raise SourceError(f"the archive is cut off within the header at byte {at}")
        more = block[504]
        at += BLOCK
    return at
