"""Proves that packed bytes unpack to no more than they should, for libraries that would not stop there."""

from __future__ import annotations

import zlib

from recordio.errors import SourceError

SMALL = 1 << 20  # packed bytes that need no proof: they unpack to a thousand times as many at most
_STEP = 1 << 20


def prove_deflate(packed: bytes, nbytes: int, *, gzip: bool = False) -> None:
    """Unpacks zlib's format, or gzip's, and keeps nothing. Raises SourceError for more than `nbytes`."""
    made, rest = 0, packed
    try:
        while rest:
            decoder = zlib.decompressobj(31 if gzip else 15)
            while rest and not decoder.eof:
                made += len(decoder.decompress(rest, _STEP))
                rest = decoder.unconsumed_tail
                if made > nbytes:
                    raise SourceError(f"a chunk unpacks to more than its {nbytes:,} bytes: it is damaged or false")
            rest = decoder.unused_data if gzip else b""  # gzip's format may go on with another one
    except zlib.error as error:
        raise SourceError(f"a chunk cannot be unpacked: {error}") from error
