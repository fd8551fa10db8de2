"""The rows of a JPEG that a crop needs. Those below are not decoded, and where restart markers allow, nor those above.

No small wheel decodes a part of a JPEG. But the rows of a sequential file of one scan are coded from top to
bottom: with fewer of them stated in its header, a decoder stops there and passes over the rest, up to the mark of the
end. Restart markers divide the scan into intervals that are coded alone: those of other rows are left out.

Rows are kept in whole MCUs, with one row more on either side for the upsampling of colours, so that those asked for
have the same pixels as in a whole decode. A file that is cut short has no mark of the end, and is refused as ever.
Damage outside of the rows is not noticed.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from recordio.images.decode import Pixels
from recordio.images.header import SOF, SOS, Data, Header, jpeg_segments

_HUFFMAN = {0xC0, 0xC1}  # sequential, Huffman codes
_DRI = 0xDD
_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff[\xd0-\xd7\xd9]")  # restart, end
_MOST_MARKERS = 1 << 10  # to be looked at one by one
_WORTHWHILE = 15 / 16  # of the rows: above, reading the header again costs more than is saved
_REST_LEFT = "extraneous bytes before marker 0xd9"


class Rows(NamedTuple):
    """A file of some rows of another: its bytes, the first of the rows, their number."""

    data: Data
    first: int
    height: int


class _Frame(NamedTuple):
    """Offsets of the frame header and of the first scan's codes; rows of an MCU, MCUs in a row and in an interval."""

    at: int
    scan: int
    mcu_rows: int
    across: int
    interval: int


def only_rows(data: Data, header: Header, top: int, bottom: int, factor: int = 1) -> Rows:
    """A file with the rows from `top` to `bottom` and a few more; the same one where a whole decode is better.

    `factor` is that by which the decoder reduces the picture; rows are those before.
    """
    whole = Rows(data, 0, header.height)
    if bottom - top > header.height * _WORTHWHILE:
        return whole
    with suppress(struct.error, IndexError):  # a broken header: the decoder says so
        frame = _frame(memoryview(data), header)
        if frame is not None:
            high = max(0, top // factor - 1) * factor // frame.mcu_rows
            low = -(-(-(-bottom // factor) + 1) * factor // frame.mcu_rows)
            found = _between(data, header, frame, high, low)
            return found if found.height <= header.height * _WORTHWHILE else whole
    return whole


def decode_rows(decode: Callable[..., Pixels], shape: tuple[int, int, int], *arguments: Any, **options: Any) -> Pixels:
    """The pixels of such a file by simplejpeg's `decode_jpeg`. Raises its ValueError for all but the rows left over.

    It stops at the first warning. That there is more before the end comes after the last row, which is in `buffer` by
    then; any other warning is of the rows that were asked for.
    """
    buffer = np.empty(shape, np.uint8)
    try:
        return decode(*arguments, buffer=buffer, **options)
    except ValueError as error:
        if _REST_LEFT not in str(error):
            raise
        return buffer


def _between(data: Data, header: Header, frame: _Frame, high: int, low: int) -> Rows:
    """From MCU row `high`, or one above where an interval begins, up to `low`."""
    codes = bytes(data)
    start, end, first = frame.scan, len(codes), 0
    if frame.interval:
        step = math.lcm(8 * frame.interval, frame.across)  # whole rows, after which markers count from 0 again
        skipped = high * frame.across // step * step
        needed = -(-low * frame.across // frame.interval)
        all_but_last = (-(-header.height // frame.mcu_rows) * frame.across - 1) // frame.interval
        markers = _markers(codes, frame.scan, all_but_last)
        if skipped:
            start, first = markers[skipped // frame.interval - 1] + 2, skipped // frame.across * frame.mcu_rows
        if needed <= all_but_last:
            end = markers[needed - 1]
    count = min(low * frame.mcu_rows, header.height) - first
    head = codes[: frame.at + 5], struct.pack(">H", count), codes[frame.at + 7 : frame.scan]
    return Rows(b"".join([*head, codes[start:end], _END if end < len(codes) else b""]), first, count)


def _markers(codes: bytes, scan: int, count: int) -> list[int]:
    """The offsets of the restart markers of a scan. Raises IndexError if there are others than so many, or no end.

    All are looked at: of those after a missing one, each would stand for another interval.
    """
    found: list[int] = []
    for marker in _MARKER.finditer(codes, scan):
        if marker[0] == _END and len(found) == count:
            return found
        if len(found) == count or marker[0][1] != 0xD0 + len(found) % 8:
            break
        found.append(marker.start())
    raise IndexError("restart markers are missing")


def _frame(view: memoryview, header: Header) -> _Frame | None:
    """None where rows cannot be taken out: progressive files and those of several scans would stop after their first.

    Nor are they from arithmetic coding, or among thousands of restart markers, which would take long to find. Raises
    struct.error or IndexError where the header is cut short.
    """
    frame = scanned = channels = interval = start = 0
    for marker, at in jpeg_segments(view):
        if marker in SOF:
            if frame or marker not in _HUFFMAN:
                return None
            frame, channels = at, view[at + 9]
        elif marker == SOS:
            scanned, start = view[at + 4], at + 2 + int(struct.unpack_from(">H", view, at + 2)[0])
        elif marker == _DRI:
            (interval,) = struct.unpack_from(">H", view, at + 4)
    samplings = [view[frame + 11 + 3 * k] for k in range(channels)] if frame else []
    wide, high = max((one >> 4 for one in samplings), default=0), max((one & 15 for one in samplings), default=0)
    if scanned != channels or not wide * high or (interval and channels == 1 and wide * high > 1):
        return None
    found = _Frame(frame, start, 8 * high, -(-header.width // (8 * wide)), interval)
    many = interval * _MOST_MARKERS < -(-header.height // found.mcu_rows) * found.across
    return None if interval and many else found
