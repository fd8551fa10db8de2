"""What `verify` proves of the values of a page: that reading gives them. docs/guarantees.md says it in full."""

from __future__ import annotations

import numpy as np

from recordio.errors import CorruptError, DecodeError
from recordio.format.fields import Bytes, Field
from recordio.format.image_field import Image
from recordio.format.page import pages
from recordio.images.header import read_header


def check_values(field: Field, content: bytes, samples: int) -> None:
    """Checks the values of a decoded page: text is UTF-8, objects decode, arrays fit, pictures have a whole header.

    Pixels are not decoded: that takes a hundred times as long. Raises CorruptError, DecodeError for a picture.
    """
    if field.row_nbytes is not None or isinstance(field, Bytes):
        return  # any bytes are values
    get = pages(field, content, np.zeros(1, np.int64), np.full(1, samples, np.int64)).get
    is_picture = isinstance(field, Image) and field.encoded
    for row in range(samples):
        try:
            value = get(0, row)
            if is_picture and value is not None:
                read_header(value)
        except (CorruptError, DecodeError) as error:
            raise type(error)(f"{error.fault} (sample {row} of the block)") from error
