"""Rate, channels and frames of a sound, as far as its file says them: WAV, AIFF, FLAC, Ogg (Vorbis, Opus, FLAC), MP3.

Nothing is decoded, and nothing guessed: what the file does not say, or what cannot be, is None. No bytes raise.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

_MAX_CHUNKS = 1000
_MAX_RATE = (1 << 31) - 1
_MAX_FRAMES = (1 << 63) - 1
_UNKNOWN_LENGTH = 0xFFFFFFFF
_PLAIN_WAV = frozenset((1, 3, 6, 7))  # integers, floats, A-law, mu-law: a frame has block_align bytes
_EXTENSIBLE = 0xFFFE
_PLAIN_AIFC = frozenset((b"NONE", b"sowt", b"twos", b"raw ", b"fl32", b"FL32", b"fl64", b"FL64", b"alaw", b"ulaw"))
_OGG_END = 1 << 17  # the last page is within so many bytes of the end: a page has at most 65,307
_OPUS_RATE = 48_000  # what Opus counts and decodes in, whatever it was made from
_MP3_RATES = (44_100, 48_000, 32_000)
_MP3_SEARCH = 1 << 16  # bytes behind the tags in which the first frame begins
_MP3_BITRATES = {  # kbit/s of layer III, for the length of a frame
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


class SoundHeader(NamedTuple):
    """What a file says: frames per second, channels, and frames, each of which has a sample of every channel."""

    rate: int | None = None
    channels: int | None = None
    frames: int | None = None


def sound_header(data: bytes) -> SoundHeader:
    """What a sound file says of itself."""
    try:
        found = _header(data)
    except (struct.error, IndexError, OverflowError):  # cut off
        return SoundHeader()
    rate, channels, frames = found
    return SoundHeader(
        rate if rate is not None and 0 < rate <= _MAX_RATE else None,
        channels if channels is not None and 0 < channels < 1 << 16 else None,
        frames if frames is not None and 0 <= frames <= _MAX_FRAMES else None,
    )


def _header(data: bytes) -> SoundHeader:
    start = _behind_id3(data)
    reader = next((reader for magic, reader in _READERS.items() if data.startswith(magic, start)), _mp3)
    return reader(data, start)


def _behind_id3(data: bytes) -> int:
    """Where the sound begins, behind the tags that MP3 and FLAC files may begin with."""
    start = 0
    for _ in range(_MAX_CHUNKS):
        if not data.startswith(b"ID3", start) or len(data) < start + 10:
            break
        flags, *sizes = struct.unpack_from(">5B", data, start + 5)
        start += 10 + sum((size & 0x7F) << shift for size, shift in zip(sizes, (21, 14, 7, 0), strict=True))
        start += 10 if flags & 0x10 else 0
    return start


def _chunks(data: bytes, start: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """The name of each chunk of RIFF or IFF, where it begins, and the size that it says."""
    for _ in range(_MAX_CHUNKS):
        if start + 8 > len(data):
            return
        name, size = struct.unpack_from(f"{order}4sI", data, start)
        yield name, start + 8, size
        start += 8 + size + size % 2


def _wav(data: bytes, start: int) -> SoundHeader:
    order = ">" if data.startswith(b"RIFX", start) else "<"
    if data[start + 8 : start + 12] != b"WAVE":
        return SoundHeader()
    rate = channels = block = tag = large = None
    for name, at, size in _chunks(data, start + 12, order):
        if name == b"ds64":
            _, large, _ = struct.unpack_from("<3Q", data, at)
        elif name == b"fmt ":
            tag, channels, rate, _, block = struct.unpack_from(f"{order}HHIIH", data, at)
            if tag == _EXTENSIBLE:
                tag = struct.unpack_from(f"{order}H", data, at + 24)[0]
        elif name == b"data":
            nbytes = large if large is not None and size == _UNKNOWN_LENGTH else size
            if tag not in _PLAIN_WAV or not block:  # writers of other codings disagree on what `fact` counts
                break
            return SoundHeader(rate, channels, _plain_frames(len(data) - at, nbytes, block))
    return SoundHeader(rate, channels)


def _plain_frames(there: int, said: int, block: int) -> int | None:
    """The frames in `said` bytes; None if the file has not so many, unless it was written without knowing its end."""
    if said == _UNKNOWN_LENGTH or (said == 0 and there):
        return None
    return said // block if said <= there else None


def _aiff(data: bytes, start: int) -> SoundHeader:
    kind = data[start + 8 : start + 12]
    if kind not in (b"AIFF", b"AIFC"):
        return SoundHeader()
    for name, at, size in _chunks(data, start + 12, ">"):
        if name == b"COMM":
            channels, frames, _, exponent, mantissa = struct.unpack_from(">HIHHQ", data, at)
            plain = kind == b"AIFF" or (size >= 22 and data[at + 18 : at + 22] in _PLAIN_AIFC)
            return SoundHeader(_extended(exponent, mantissa), channels, frames if plain else None)
    return SoundHeader()


def _extended(exponent: int, mantissa: int) -> int | None:
    """A float of 80 bits, if it is an integer that may be a rate."""
    shift = 16383 + 63 - exponent
    return mantissa >> shift if 32 <= shift < 64 and not mantissa & ((1 << shift) - 1) else None


def _flac(data: bytes, start: int) -> SoundHeader:
    """STREAMINFO is always the first block of metadata."""
    if data[start + 4] & 0x7F:
        return SoundHeader()
    packed = int.from_bytes(data[start + 18 : start + 26], "big")
    if len(data) < start + 26:
        return SoundHeader()
    frames = packed & ((1 << 36) - 1)
    return SoundHeader(packed >> 44, ((packed >> 41) & 7) + 1, frames or None)


def _ogg(data: bytes, start: int) -> SoundHeader:
    """Rate and channels are in the first packet; the last page counts the frames up to its end."""
    segments = data[start + 26]
    packet = start + 27 + segments
    serial = data[start + 14 : start + 18]
    last = _last_granule(data, serial)
    if data.startswith(b"\x01vorbis", packet):
        channels, rate = struct.unpack_from("<BI", data, packet + 11)
        return SoundHeader(rate, channels, last)
    if data.startswith(b"OpusHead", packet):
        channels, skipped = struct.unpack_from("<BH", data, packet + 9)
        return SoundHeader(_OPUS_RATE, channels, None if last is None else last - skipped)
    if data.startswith(b"\x7fFLAC", packet):
        return _flac(data, packet + 9)
    return SoundHeader()


def _last_granule(data: bytes, serial: bytes) -> int | None:
    """The position at the end of the last page; None unless it ends the stream that the file begins with."""
    at = data.rfind(b"OggS", max(0, len(data) - _OGG_END))
    if at < 0:
        return None
    version, flags, granule = struct.unpack_from("<BBq", data, at + 4)
    ends = version == 0 and flags & 4 and data[at + 14 : at + 18] == serial
    return granule if ends and granule >= 0 else None


def _mp3(data: bytes, start: int) -> SoundHeader:
    """The first frame; the number of frames is known if it is one of Xing or LAME that says it."""
    at = _mp3_frame(data, start)
    if at is None:
        return SoundHeader()
    version, rate, channels = _mp3_bits(data, at)
    samples = 1152 if version == 1 else 576
    side = (32 if channels == 2 else 17) if version == 1 else (17 if channels == 2 else 9)
    tag = at + 4 + side
    if data[tag : tag + 4] not in (b"Xing", b"Info") or not data[tag + 7] & 1:
        return SoundHeader(rate, channels, None)
    flags, count = struct.unpack_from(">II", data, tag + 4)
    frames = count * samples
    lame = tag + 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    if data[lame : lame + 4] in (b"LAME", b"Lavf", b"Lavc"):
        delays = int.from_bytes(data[lame + 21 : lame + 24], "big")
        frames -= (delays >> 12) + (delays & 0xFFF)
    return SoundHeader(rate, channels, frames if count else None)


def _mp3_frame(data: bytes, start: int) -> int | None:
    """Where the first frame begins: a header with another one of its kind, or the end of the file, behind it."""
    end = min(len(data) - 4, start + _MP3_SEARCH)
    at = data.find(b"\xff", start, end)
    while at >= 0:
        length = _mp3_length(data, at)
        if length and (at + length == len(data) or (_mp3_length(data, at + length) and _alike(data, at, at + length))):
            return at
        at = data.find(b"\xff", at + 1, end)
    return None


def _alike(data: bytes, one: int, other: int) -> bool:
    """Whether two headers have the same version, layer and rate."""
    return data[one + 1] & 0xFE == data[other + 1] & 0xFE and data[one + 2] & 0x0C == data[other + 2] & 0x0C


def _mp3_bits(data: bytes, at: int) -> tuple[int, int, int]:
    """Version (1, 2, or 3 for 2.5), rate and channels."""
    version = {3: 1, 2: 2, 0: 3}[data[at + 1] >> 3 & 3]
    rate = _MP3_RATES[data[at + 2] >> 2 & 3] >> (version - 1)
    return version, rate, 1 if data[at + 3] >> 6 == 3 else 2


def _mp3_length(data: bytes, at: int) -> int:
    """Bytes of the frame of layer III at a place, 0 if there is none."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2 or data[at + 1] >> 3 & 3 == 1:
        return 0
    bits, speed, padding = data[at + 2] >> 4, data[at + 2] >> 2 & 3, data[at + 2] >> 1 & 1
    if bits in (0, 15) or speed == 3:
        return 0
    version, rate, _ = _mp3_bits(data, at)
    return (144 if version == 1 else 72) * 1000 * _MP3_BITRATES[min(version, 2)][bits] // rate + padding


_READERS: dict[bytes, Callable[[bytes, int], SoundHeader]] = {
    b"RIFF": _wav,
    b"RIFX": _wav,
    b"RF64": _wav,
    b"BW64": _wav,
    b"FORM": _aiff,
    b"fLaC": _flac,
    b"OggS": _ogg,
}
