"""Single values of checked pages, plain or narrow, in one or two small reads of a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import CorruptError
from recordio.format.fields import Bytes, Field, Text
from recordio.format.image_field import Image
from recordio.format.numeric import Numeric, Scalar
from recordio.format.page import OFFSET_PAIR, validity_nbytes


def read_row(field: Field, read: Callable[[int, int], bytes], start: int, samples: int, row: int) -> Any:
    """One value of a page that has been checked, as a `getter` gives it, in one or two small reads.

    Args:
        field: the field.
        read: gives the bytes at (offset, size) of the file.
        start: the page's offset in the file.
        samples: the page's samples.
        row: the value's position among them.

    Raises CorruptError, and whatever `read` does.
    """
    if field.optional:
        if not read(start + (row >> 3), 1)[0] >> (row & 7) & 1:
            return None
        start += validity_nbytes(samples)
    if (nbytes := field.row_nbytes) is not None:
        dtype: np.dtype[Any] = field.dtype  # type: ignore[attr-defined]
        values: npt.NDArray[Any] = np.frombuffer(read(start + row * nbytes, nbytes), dtype)
        return values[0] if isinstance(field, Scalar) else values.reshape(field.shape).copy()  # type: ignore[attr-defined]
    begin, end = OFFSET_PAIR(read(start + 8 * row, 16), 0)
    if not 0 <= begin <= end:
        raise CorruptError("page offsets are not in order")
    data = read(start + 8 * (samples + 1) + begin, end - begin)
    if isinstance(field, (Bytes, Image)) and getattr(field, "encoded", True):
        return data
    if not isinstance(field, Text):
        return field.unpack(data)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CorruptError(f"text is not UTF-8: {error}") from error


def read_narrow_row(
    field: Numeric, read: Callable[[int, int], bytes], start: int, samples: int, row: int, stored_nbytes: int
) -> Any:
    """One value of a narrow page that has been checked, as `read_row` gives one of a plain page.

    `stored_nbytes` are those of the page; the other arguments are as for `read_row`.
    """
    end = start + stored_nbytes
    if field.optional:
        if not read(start + (row >> 3), 1)[0] >> (row & 7) & 1:
            return None
        start += validity_nbytes(samples)
    size = field.dtype.itemsize
    nbytes = (end - size - start) // samples
    width = nbytes * size // (field.row_nbytes or 1)
    distances = np.frombuffer(read(start + row * nbytes, nbytes), f"<u{width}").astype(field.dtype)
    values = distances + np.frombuffer(read(end - size, size), field.dtype)
    return values[0] if isinstance(field, Scalar) else values.reshape(field.shape)
