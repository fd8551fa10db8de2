"""Page codecs: a closed registry of numbers, and the rule for which pages are worth coding.

0 is plain, 1 is zstd (RFC 8878, one frame that states its content size), 2 is narrow (narrow.py), 3 is such a frame
of a narrow page. A decoder knows how many bytes to expect and allocates no more, whatever the frame claims.
"""

from __future__ import annotations

import re
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
_LEVEL = re.compile("-?[0-9]{1,2}")
_RUN_OF_ONE_BYTE = 1  # RLE block type
_MIN_WINDOW_NBYTES = 1 << 10  # the smallest zstd window

Compressors = dict[int, zstandard.ZstdCompressor]  # by level


class Codec(IntEnum):
    PLAIN = 0
    ZSTD = 1
    NARROW = 2
    NARROW_ZSTD = 3

    @property
    def label(self) -> str:
        """The name that users see."""
        return self.name.lower().replace("_", "+")


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
    row only one page in sixteen is tried. With `narrow` a page of integers is narrow if that saves as much, and coded
    only with a `narrow_level`, and if that saves as much of the narrow page: one in place is read nearly as fast as a
    plain one. The rule looks at sizes alone, never at a clock: same input, same bytes.

    Attributes:
        codec: zstd, or plain for none.
        level: of zstd.
        fast_level: a level of which the frames are decoded faster, for pages that it codes nearly as small.
        narrow_level: of zstd over narrow pages; None leaves them as they are.
    """

    codec: Codec
    level: int = 3
    saving: float = 1 / 8
    narrow: bool = False
    fast_level: int | None = None
    narrow_level: int | None = None

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """From None, "none", "auto", "narrow", "zstd", "narrow+zstd", or either with ":LEVEL". Raises SchemaError."""
        if text in (None, "none"):
            return cls(Codec.PLAIN)
        if text == "auto":
            return cls(Codec.ZSTD, saving=1 / 5, narrow=True, fast_level=-1)
        if text == "narrow":
            return cls(Codec.PLAIN, saving=1 / 5, narrow=True)
        name, _, level = str(text).partition(":")
        if not level or (_LEVEL.fullmatch(level) and -50 <= int(level) <= 22):
            if name == "zstd":
                return cls(Codec.ZSTD, int(level or 3))
            if name == "narrow+zstd":  # of token ids, level 1 makes less than level 3, and is decoded faster
                return cls(Codec.ZSTD, int(level or 3), narrow=True, narrow_level=int(level or 1))
        raise SchemaError(
            f"unknown compression {text!r}: expected None, 'auto', 'narrow', 'zstd', 'narrow+zstd', 'zstd:LEVEL' or "
            "'narrow+zstd:LEVEL' (-50 to 22)"
        )

    def compressors(self) -> Compressors:
        """Compressors of its levels, for one thread."""
        levels = {self.level, self.fast_level, self.narrow_level} - {None}
        return {level: zstandard.ZstdCompressor(level=level) for level in levels if level is not None}


class PageCoder:
    """Codes the pages of one field of one shard.

    Where a page may be coded in two ways, one of them decoded faster, the first page, every sixteenth and the one after
    a page that coding did not pay for are coded in both. From there on pages are coded in the fast way, unless the
    other saves a sixteenth of the content more. That is where storage of about 100 MB/s takes as long for the bytes as
    one thread for the decoding.

    Once pages have missed, of four large ones that are due three are tried only if a piece from their middle saves half
    of the share that a page has to: whole pages of JPEG files would cost several times as much.

    Args:
        compression: how to code.
        compressors: those of the compression, which the fields of a shard may share: each holds 50 KiB and more.
    """

    _PATIENCE, _EVERY = 4, 16
    _DENSER = 16
    _PIECE_NBYTES, _WHOLE = 1 << 15, 64

    def __init__(self, compression: Compression, compressors: Compressors | None = None) -> None:
        self._compression = compression
        self._compressors = compressors or compression.compressors()
        self._misses = 0
        self._choices = 0
        self._dense = False

    def narrows(self, nbytes: int) -> bool:
        """Whether to narrow the integers of a page of this size."""
        return self._compression.narrow and _MIN_CODED_NBYTES <= nbytes <= MAX_CODED_PAGE_NBYTES

    def encode(self, content: Buffer, narrow: Buffer | None = None) -> tuple[Codec, Buffer]:
        """The chosen codec and the bytes to store, by those of the content and of its narrow form alone."""
        codec, stored = Codec.PLAIN, content
        if narrow is not None and self._pays(narrow, content):
            codec, stored = Codec.NARROW, narrow
            if self._compression.narrow_level is None:
                return codec, stored
        if self._compression.codec is Codec.PLAIN or not _MIN_CODED_NBYTES <= len(content) <= MAX_CODED_PAGE_NBYTES:
            return codec, stored
        if self._resting(content):
            return codec, stored
        coded = self._coded(content, narrow, stored)
        if not self._pays(coded[1], stored):
            self._misses += 1
            self._choices = 0  # the next page is tried both ways
            return codec, stored
        self._misses = 0
        return coded

    def _pays(self, stored: Buffer, content: Buffer) -> bool:
        return len(stored) <= len(content) * (1 - self._compression.saving)

    def _coded(self, content: Buffer, narrow: Buffer | None, otherwise: Buffer) -> tuple[Codec, Buffer]:
        options = self._compression
        fast: tuple[Codec, int, Buffer] | None = None
        if options.narrow_level is not None and narrow is not None:
            fast = Codec.NARROW_ZSTD, options.narrow_level, narrow
        elif options.fast_level is not None:
            fast = Codec.ZSTD, options.fast_level, content
        dense = Codec.ZSTD, options.level, content
        if fast is None:
            return self._compressed(*dense)
        self._choices += 1
        if self._choices % self._EVERY != 1:
            return self._compressed(*(dense if self._dense else fast))
        both = self._compressed(*fast), self._compressed(*dense)
        fewest = len(both[1][1]) + len(content) // self._DENSER
        self._dense = len(both[0][1]) > fewest or not self._pays(both[0][1], otherwise)
        return both[self._dense]

    def _compressed(self, codec: Codec, level: int, data: Buffer) -> tuple[Codec, Buffer]:
        return codec, self._compressors[level].compress(data)

    def _resting(self, content: Buffer) -> bool:
        if self._misses < self._PATIENCE:
            return False
        rested = self._misses - self._PATIENCE + 1
        if rested % self._EVERY == 0 and (rested % self._WHOLE == 0 or self._promises(content)):
            return False
        self._misses += 1
        return True

    def _promises(self, content: Buffer) -> bool:
        most = self._PIECE_NBYTES
        if len(content) <= most:
            return True
        start = (len(content) - most) // 2
        _, coded = self._compressed(Codec.ZSTD, self._compression.level, memoryview(content)[start : start + most])
        return len(coded) <= most * (1 - self._compression.saving / 2)


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


def _claim(frame: Buffer) -> zstandard.FrameParameters:
    try:
        return zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as error:
        raise CorruptError(f"not a zstd frame: {error}") from error


def claimed_nbytes(frame: Buffer) -> int:
    """The bytes that a zstd frame says it holds; huge if it does not say. Raises CorruptError."""
    return _claim(frame).content_size


def _check_frame(frame: Buffer, nbytes: int) -> None:
    """Checks the frame's claims against the index before anything is allocated. Raises CorruptError."""
    claim = _claim(frame)
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
