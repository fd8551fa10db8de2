"""The kind of a record file by what is in it, for files whose names do not tell, such as train-00000-of-01024."""

from __future__ import annotations

import os
import struct
import zlib
from itertools import pairwise

from recordio.writer.sources.files import open_regular
from recordio.writer.sources.records.crc32c import masked, short_crc32c

_HEAD = 1 << 12
RIEGELI = bytes.fromhex("83af70d10d884a3f")
_LIMIT_NBYTES = 8  # of an entry of the index at the end of a Bagz file


def kind_by_content(path: str) -> str | None:
    """The kind of a record file, None if it is none that is known. Raises SourceError if it cannot be read."""
    with open(open_regular(path), "rb") as file:
        head = file.read(_HEAD)
        size = os.fstat(file.fileno()).st_size
        file.seek(max(size % _LIMIT_NBYTES, size - _HEAD))
        tail = file.read(_HEAD)
    if head.startswith(RIEGELI):
        return "array_record"
    if _begins_like_tfrecord(head):
        return "tfrecord"
    return "bagz" if _ends_like_bagz(tail, size) else None


def _ends_like_bagz(tail: bytes, size: int) -> bool:
    """Whether a file ends with an index of growing offsets, of which the last is where the index begins."""
    limits = struct.unpack(f"<{len(tail) // _LIMIT_NBYTES}Q", tail)
    if not limits or not 0 < limits[-1] <= size - _LIMIT_NBYTES or (size - limits[-1]) % _LIMIT_NBYTES:
        return False
    inside = limits[-min(len(limits), (size - limits[-1]) // _LIMIT_NBYTES) :]
    return all(one <= other for one, other in pairwise(inside))


def _begins_like_tfrecord(head: bytes) -> bool:
    """Whether a file, gzipped or not, begins with a length and its checksum."""
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(31).decompress(head, 12)
        except zlib.error:
            return False
    return len(head) >= 12 and masked(short_crc32c(head[:8])) == struct.unpack_from("<I", head, 8)[0]
