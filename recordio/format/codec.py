"""Page codecs: a closed registry of numbers, and the rule for which pages are worth coding.

0 is plain, 1 is zstd (RFC 8878, one frame that states its content size), 2 is narrow (narrow.py). A decoder knows how
many bytes to expect and allocates no more, whatever the frame claims.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self

import numpy.typing as npt
import zstandard

from recordio.errors import CorruptError, SchemaError
from recordio.format.checksum import Buffer
from recordio.format.layout import MAX_CODED_PAGE_NBYTES

_MIN_CODED_NBYTES = 1 << 10
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_RUN_OF_ONE_BYTE = 1  # RLE block type
_MIN_WINDOW_NBYTES = 1 << 10  # the smallest zstd window


class Codec(IntEnum):
    PLAIN = 0
    ZSTD = 1
    NARROW = 2


def read_in_place(codec: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Whether the values of pages with these codecs can be read one by one as they are stored."""
    found: npt.NDArray[Any] = (codec == _PLAIN) | (codec == _NARROW)
    return found


_PLAIN, _NARROW = int(Codec.PLAIN), int(Codec.NARROW)


@dataclass(frozen=True, slots=True)
class Compression:
    """How a writer codes pages.

    A page is stored plain if coding saves less than `saving` of its size, or if it is under 1 KiB, where padding eats
    the gain. ZFS uses an eighth too, for the same reason: reading a plain page costs nothing. After a few misses in a
    row only one page in sixteen is tried. With `narrow` a page of integers is narrow if that saves as much, and then
    not coded: it is read nearly as fast as a plain one. The rule looks at sizes alone, never at a clock: same input,
    same bytes.
    """

    codec: Codec
    level: int = 3
    saving: float = 1 / 8
    narrow: bool = False

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """From None, "none", "auto", "narrow", "zstd" or "zstd:LEVEL". Raises SchemaError."""
        if text in (None, "none"):
            return cls(Codec.PLAIN)
        if text == "auto":
            return cls(Codec.ZSTD, saving=1 / 5, narrow=True)
        if text == "narrow":
            return cls(Codec.PLAIN, saving=1 / 5, narrow=True)
        name, _, level = str(text).partition(":")
        if name == "zstd" and (not level or (level.lstrip("-").isdecimal() and -50 <= int(level) <= 22)):
            return cls(Codec.ZSTD, int(level or 3))
        raise SchemaError(
            f"unknown compression {text!r}: expected None, 'auto', 'narrow', 'zstd' or 'zstd:LEVEL' (1 to 22)"
        )

    def compressor(self) -> zstandard.ZstdCompressor:
        """A compressor of this level, for one thread."""
        return zstandard.ZstdCompressor(level=self.level)


class PageCoder:
    """Codes the pages of one field of one shard.

    Args:
        compression: how to code.
        zstd: the compressor, which the fields of a shard may share: it holds 50 KiB and more.
    """

    _PATIENCE, _EVERY = 4, 16

    def __init__(self, compression: Compression, zstd: zstandard.ZstdCompressor | None = None) -> None:
        self._compression = compression
        self._zstd = zstd or compression.compressor()
        self._misses = 0

    def narrows(self, nbytes: int) -> bool:
        """Whether to narrow the integers of a page of this size."""
        return self._compression.narrow and _MIN_CODED_NBYTES <= nbytes <= MAX_CODED_PAGE_NBYTES

    def pays(self, stored: Buffer, content: Buffer) -> bool:
        """Whether the stored form saves enough."""
        return len(stored) <= len(content) * (1 - self._compression.saving)

    def encode(self, content: Buffer) -> tuple[Codec, Buffer]:
        """The chosen codec and the bytes to store, by the bytes of the content alone."""
        nbytes = len(content)
        if self._compression.codec is Codec.PLAIN or not _MIN_CODED_NBYTES <= nbytes <= MAX_CODED_PAGE_NBYTES:
            return Codec.PLAIN, content
        if self._resting():
            return Codec.PLAIN, content
        coded = self._zstd.compress(content)
        if not self.pays(coded, content):
            self._misses += 1
            return Codec.PLAIN, content
        self._misses = 0
        return Codec.ZSTD, coded

    def _resting(self) -> bool:
        if self._misses < self._PATIENCE or (self._misses - self._PATIENCE) % self._EVERY == self._EVERY - 1:
            return False
        self._misses += 1
        return True


_decompressors = threading.local()  # zstd contexts are not thread-safe


def _decompressor() -> zstandard.ZstdDecompressor:
    try:
        found: zstandard.ZstdDecompressor = _decompressors.zstd
    except AttributeError:
        found = _decompressors.zstd = zstandard.ZstdDecompressor(max_window_size=MAX_CODED_PAGE_NBYTES)
    return found


def _frame_nbytes(frame: Buffer, has_checksum: bool) -> int:
    """Length of a frame, from its block headers (RFC 8878, 3.1.1.2); beyond its end if it is truncated."""
    at, last = zstandard.frame_header_size(frame), False
    while not last:
        head = int.from_bytes(frame[at : at + 3], "little")
        last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
        at += 3 + (1 if kind == _RUN_OF_ONE_BYTE else size)
        if at > len(frame):
            break
    return at + (4 if has_checksum else 0)


def _check_frame(frame: Buffer, nbytes: int) -> None:
    """Checks the frame's claims against the index before anything is allocated. Raises CorruptError."""
    try:
        claim = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as error:
        raise CorruptError(f"not a zstd frame: {error}") from error
    if bytes(frame[:4]) != _ZSTD_MAGIC or _frame_nbytes(frame, claim.has_checksum) != len(frame):
        raise CorruptError("not exactly one zstd frame")
    if claim.content_size != nbytes or claim.window_size > max(nbytes, _MIN_WINDOW_NBYTES):
        raise CorruptError(
            f"zstd frame of {claim.content_size} bytes with a window of {claim.window_size}, expected {nbytes} bytes"
        )


def decode(frame: Buffer, nbytes: int) -> bytes:
    """The `nbytes` bytes of a zstd frame. Raises CorruptError."""
    if not nbytes:  # of a frame without content, `decompress` looks at the header alone
        decode_into(frame, memoryview(bytearray()))
        return b""
    _check_frame(frame, nbytes)
    try:
        out = _decompressor().decompress(frame, max_output_size=nbytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptError(f"zstd frame is damaged: {error}") from error
    if len(out) != nbytes:
        raise CorruptError(f"zstd frame gave {len(out)} bytes, expected {nbytes}")
    return out


def decode_into(frame: Buffer, target: memoryview) -> None:
    """Decodes a zstd frame into `target`, whose content is undefined after a CorruptError."""
    _check_frame(frame, len(target))
    try:
        with _decompressor().stream_reader(frame) as reader:
            count = reader.readinto(target)
            rest = reader.read(1)
    except zstandard.ZstdError as error:
        raise CorruptError(f"zstd frame is damaged: {error}") from error
    if count != len(target) or rest:
        raise CorruptError(f"zstd frame gave {count}{'+' if rest else ''} bytes, expected {len(target)}")
