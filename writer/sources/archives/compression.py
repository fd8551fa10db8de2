"""Compressed files: what they are packed with, and what is in them, in pieces of bounded size."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import zstandard

from recordio.errors import SourceError

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError)
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


def unpacked(raw: IO[bytes], packed: str | None) -> Iterator[bytes]:
    """The content of a file that is packed with this, or of a plain one. Raises SourceError."""
    try:
        yield from _pieces(raw, packed)
    except _DAMAGED as error:
        raise SourceError(f"the {packed or 'file'} data cannot be read to its end: {error}") from error


def _pieces(raw: IO[bytes], packed: str | None) -> Iterator[bytes]:
    if packed == "zstd":
        return _joined(_zstd_chunks(raw))
    if packed == "xz":
        return _joined(_xz_chunks(raw))
    file = _OPEN[packed](raw) if packed else raw
    return iter(lambda: file.read(_CHUNK), b"")


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes with no piece empty, and none but the last a small one."""
    held: list[bytes] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) >= _PACKED_CHUNK:
            yield b"".join(held)
            held.clear()
    if any(held):
        yield b"".join(held)


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
