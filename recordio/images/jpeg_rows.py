"""The upper rows of a JPEG, for a crop that needs no others. Decoding stops below them.

No package of wheels decodes a part of a JPEG. But the rows of a sequential file of one scan are coded from top to
bottom: with fewer of them stated in its header, a decoder stops there and passes over the rest, up to the mark of the
end. Rows are kept up to a whole number of MCUs, with one more row for the upsampling of colours, so that those asked
for have the same pixels as in a whole decode.

A file that is cut short has no mark of the end, and is refused as ever. Damage below the rows is not noticed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from recordio.images.decode import Pixels
from recordio.images.header import SOF, SOS, Data, Header, jpeg_segments

_HUFFMAN = {0xC0, 0xC1}  # sequential, Huffman codes
_DRI = 0xDD
_WORTHWHILE = 15 / 16  # of the rows: above, reading the header again costs more than is saved
_REST_LEFT = "extraneous bytes before marker 0xd9"


def upper_rows(data: Data, header: Header, rows: int, factor: int = 1) -> tuple[bytes, int] | None:
    """The file with its height set to `rows` or a few more, and that height. None where a whole decode is better.

    `factor` is that by which the decoder reduces the picture: `rows` are those before.
    """
    if rows > header.height * _WORTHWHILE:
        return None
    view = memoryview(data)
    frame, mcu_rows = 0, 1
    with suppress(struct.error, IndexError):  # a broken header: the decoder says so
        frame, mcu_rows = _frame(view)
    if not frame:
        return None
    reduced = -(-rows // factor) + 1
    kept = -(-reduced * factor // mcu_rows) * mcu_rows
    if kept > header.height * _WORTHWHILE:
        return None
    return b"".join([view[: frame + 5], struct.pack(">H", kept), view[frame + 7 :]]), kept


def decode_cut(decode: Callable[..., Pixels], shape: tuple[int, int, int], *arguments: Any, **options: Any) -> Pixels:
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


def _frame(view: memoryview) -> tuple[int, int]:
    """The offset of the frame header and the rows of an MCU; (0, 1) where the rows cannot be cut.

    That is in progressive files and those of several scans, which would stop after their first; in arithmetic coding;
    and with restart markers, where the same warning may be of stray bytes between two intervals. Raises struct.error or
    IndexError where the header is cut short.
    """
    frame = scanned = channels = 0
    for marker, at in jpeg_segments(view):
        if marker in SOF:
            if frame or marker not in _HUFFMAN:
                return 0, 1
            frame, channels = at, view[at + 9]
        elif marker == SOS:
            scanned = view[at + 4]
        elif marker == _DRI and any(view[at + 4 : at + 6]):
            return 0, 1
    sampling = max((view[frame + 11 + 3 * k] & 15 for k in range(channels)), default=0)
    return (frame, 8 * sampling) if scanned == channels and sampling else (0, 1)
