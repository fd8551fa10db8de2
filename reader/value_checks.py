"""What `verify` proves of the values of a page: that reading gives them. docs/guarantees.md says it in full."""

from __future__ import annotations

from typing import Any

import numpy as np

from recordio.errors import CorruptError, DecodeError
from recordio.format.checksum import Buffer
from recordio.format.fields import Bytes, Field, Text
from recordio.format.image_field import JPEG, Image
from recordio.format.page import pages, values_of
from recordio.images.header import read_header
from recordio.images.traits import jpeg_at_once

_MAX_TEXT_NBYTES = 16 << 20  # decoded at once: the text takes up to four times the memory


def check_values(field: Field, content: Buffer, samples: int) -> None:
    """Checks the values of a decoded page: text is UTF-8, objects decode, arrays fit, pictures have a whole header.

    Pixels are not decoded: that takes a hundred times as long. Raises CorruptError, DecodeError for a picture.
    """
    if field.row_nbytes is not None or isinstance(field, Bytes):
        return  # any bytes are values
    if isinstance(field, Text) and _all_text(field, content, samples):
        return
    is_picture = isinstance(field, Image) and field.encoded
    every: Any = content if is_picture else bytes(content)  # the headers of pictures are read where they lie
    get = pages(field, every, np.zeros(1, np.int64), np.full(1, samples, np.int64)).get
    for row in range(samples):
        try:
            value = get(0, row)
            if is_picture and value is not None and (value[:3] != JPEG or jpeg_at_once(value) is None):
                read_header(value)
        except (CorruptError, DecodeError) as error:
            raise type(error)(f"{error.fault} (sample {row} of the block)") from error


def _all_text(field: Text, content: Buffer, samples: int) -> bool:
    """Whether all bytes are UTF-8 and no value begins within a character: then each value by itself is UTF-8, too."""
    offsets, text = values_of(field, samples, content)
    if len(text) > _MAX_TEXT_NBYTES:
        return False
    if not len(text) or np.frombuffer(text, np.int8).min() >= 0:
        return True  # ASCII
    try:
        str(text, "utf-8")
    except UnicodeDecodeError:
        return False
    begins = offsets[offsets < len(text)]
    return not ((np.frombuffer(text, np.uint8)[begins] & 0xC0) == 0x80).any()
