"""Compressed files: what they are packed with, and what is in them, in pieces of bounded size.

Every file that is unpacked passes through `unpacked`, which stops at one that was made to fill the disk or the memory.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import zstandard

from recordio.errors import SourceError
from recordio.writer.sources.foreign_errors import reading

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_FREE = 1 << 30  # bytes that anything may unpack to
_MOST = 250  # times its size that something larger may unpack to
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_OPEN: dict[str | None, Callable[[Any], Any]] = {"gzip": gzip.open, "bzip2": bz2.open}
_CHUNK = 1 << 20
_PACKED_CHUNK = 1 << 16
_ZSTD_CHUNK = 1 << 12  # decompresses to 128 MiB at most, as four bytes can stand for 128 KiB
_XZ_MEMORY = 1 << 30  # a stream that asks for a larger dictionary is refused


def packed_with(head: bytes) -> str | None:
    """The name of the compression, None for a plain file. "BZh" alone may be text."""
    found = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    return None if found == "bzip2" and head[4:10] != b"1AY&SY" else found


def require_no_bomb(nbytes: int, packed: int, member: str | None = None) -> None:
    """Raises SourceError where `packed` bytes become so many more that they were made to do harm."""
    if nbytes > _FREE and nbytes > _MOST * packed:
        what = "it" if member is None else repr(member[:200])
        raise SourceError(
            f"{what} unpacks to more than {_MOST} times its size, at least {nbytes >> 20:,} MiB, as if made to fill "
            "the disk; if it was not, unpack it, and give what is in it"
        )


def harmless(chunks: Iterable[bytes], packed: int) -> Iterator[bytes]:
    """What `packed` bytes unpack to, piece by piece. Raises SourceError as `require_no_bomb` does."""
    total = 0
    for chunk in chunks:
        total += len(chunk)
        require_no_bomb(total, packed)
        yield chunk


def unpacked(raw: IO[bytes], packed: str | None) -> Iterator[bytes]:
    """The content of an open file that is packed with this, or of a plain one, from its beginning.

    Raises SourceError, also for a bomb.
    """
    nbytes = raw.seek(0, os.SEEK_END)
    raw.seek(0)
    with reading(f"the {packed or 'file'} data cannot be read to its end"):
        pieces = _pieces(raw, packed)
        yield from harmless(pieces, nbytes) if packed else pieces


def _pieces(raw: IO[bytes], packed: str | None) -> Iterator[bytes]:
    if packed == "zstd":
        return _joined(_zstd_chunks(raw))
    if packed == "xz":
        return _joined(_xz_chunks(raw))
    file = _OPEN[packed](raw) if packed else raw
    return iter(lambda: file.read(_CHUNK), b"")


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes with no piece empty, and none but the last a small one."""
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= _PACKED_CHUNK:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _zstd_chunks(raw: IO[bytes]) -> Iterator[bytes]:
    decoder = None
    while data := raw.read(_ZSTD_CHUNK):
        while data:
            decoder = decoder or zstandard.ZstdDecompressor().decompressobj()
            yield decoder.decompress(data)
            data = decoder.unused_data if decoder.eof else b""
            decoder = None if decoder.eof else decoder
    if decoder is not None:
        raise EOFError("it ends within a frame")


def _xz_chunks(raw: IO[bytes]) -> Iterator[bytes]:
    """As lzma.open, which knows no limit of memory."""
    decoder = None
    while data := raw.read(_PACKED_CHUNK):
        while data or (decoder is not None and not decoder.needs_input):
            if decoder is None:
                data = data.lstrip(b"\0")  # padding between streams
                if not data:
                    break
                decoder = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
            yield decoder.decompress(data, _CHUNK)
            data = decoder.unused_data if decoder.eof else b""
            decoder = None if decoder.eof else decoder
    if decoder is not None:
        raise EOFError("it ends within a stream")
