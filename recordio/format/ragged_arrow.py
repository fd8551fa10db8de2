"""Arrow's types of fields, and columns of variable fields as Arrow arrays that share their memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recordio.errors import CorruptError, SchemaError
from recordio.format.fields import Bytes, Field, Object, Text
from recordio.format.numeric import Numeric, empty_shape, is_array
from recordio.format.page import Indices
from recordio.packages import pyarrow

if TYPE_CHECKING:
    from recordio.format.ragged import Ragged

_MAX_ELEMENTS = (1 << 31) - 1  # of a list column at a time, where its offsets are int32


def arrow_type(kind: Field) -> Any:
    """The Arrow type of a field, with int32 offsets. Raises SchemaError for one that Arrow has no type for."""
    pa = pyarrow()
    if isinstance(kind, (Text, Object)):
        return pa.string()
    if isinstance(kind, Bytes) or getattr(kind, "encoded", False):
        return pa.binary()
    assert isinstance(kind, Numeric)
    if kind.dtype.kind == "c":
        raise SchemaError(f"Arrow has no type for {kind.dtype}: store the real and the imaginary part as two floats")
    if 0 in kind.shape:
        raise SchemaError(f"Arrow has no type for {kind}: one of its dimensions is 0; leave the field out with fields=")
    found = pa.from_numpy_dtype(kind.dtype)
    for size in reversed(kind.shape):
        found = pa.list_(found) if size is None else pa.list_(found, size)
    return found


def ragged_array(column: Ragged, large: bool = True) -> Any:
    """See Ragged.to_arrow. Lists have int32 offsets, which are copies, if they are not to be `large`.

    Raises SchemaError for more lists or elements than these offsets count.
    """
    pa = pyarrow()
    if is_array(column.kind):
        arrow_type(column.kind)  # raises for what Arrow has no type for
        return _lists(column, large)
    values, nulls = column.values, None
    if column.missing is not None:
        nulls = pa.py_buffer(np.packbits(~column.missing, bitorder="little"))
    kind = pa.large_binary()
    if isinstance(column.kind, Text):
        _require_utf8(values, column.offsets)
        kind = pa.large_string()
    return pa.Array.from_buffers(kind, len(column), [nulls, pa.py_buffer(column.offsets), pa.py_buffer(values)])


def _lists(column: Ragged, large: bool) -> Any:
    """Nested lists. A missing array has no elements where its dimensions are free."""
    pa, kind = pyarrow(), column.kind
    assert isinstance(kind, Numeric)
    lists, offset = (pa.LargeListArray, np.int64) if large else (pa.ListArray, np.int32)
    mask = None if column.missing is None or not column.missing.any() else pa.array(column.missing)
    shapes = column.shapes
    if shapes is None:
        shapes = np.tile(np.array(empty_shape(kind), np.int64), (len(column), 1))
        shapes[:, 0] = np.diff(column.offsets)
    if not large and np.cumprod(shapes, axis=1, dtype=float).sum(axis=0).max(initial=0) > _MAX_ELEMENTS:
        raise SchemaError(f"over {_MAX_ELEMENTS} elements or lists in one chunk are more than Arrow's lists hold")
    found = pa.array(column.values.reshape(-1))
    for axis in reversed(range(len(kind.shape))):
        own = mask if axis == 0 else None
        if (size := kind.shape[axis]) is not None:
            found = pa.FixedSizeListArray.from_arrays(found, size, mask=own)
            continue
        ends = column.offsets
        if axis or column.shapes is not None:
            ends = np.concatenate([[0], np.cumsum(np.repeat(shapes[:, axis], shapes[:, :axis].prod(axis=1)))])
        found = lists.from_arrays(pa.array(ends.astype(offset, copy=False)), found, mask=own)
    return found


def _require_utf8(values: npt.NDArray[Any], offsets: Indices) -> None:
    """Raises CorruptError unless each value is UTF-8: all of them together, and none begins within a character."""
    if int(values.max(initial=0)) < 0x80:
        return
    try:
        str(values.data, "utf-8")
    except UnicodeDecodeError as error:
        raise CorruptError(f"text is not UTF-8: {error}") from error
    begins = offsets[:-1][np.diff(offsets) > 0]
    if (values[begins] & 0xC0 == 0x80).any():
        raise CorruptError("text is not UTF-8: a value begins within a character")
