"""Arrow arrays as columns that a writer takes: arrays of NumPy, or lists with None where a value is missing.

Each function takes a pyarrow.Array of any length and raises SourceError, or what `reading` turns into one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import SourceError
from recordio.format.numeric import Shape
from recordio.packages import pyarrow
from recordio.writer.sources.arrow.arrow_files import longest

Converter = Callable[[Any], Sequence[Any] | npt.NDArray[Any]]


def convert(converter: Converter, array: Any, optional: bool) -> Sequence[Any] | npt.NDArray[Any]:
    """The column of an array, whose type may be one that holds nothing but missing values. Raises SourceError."""
    if array.null_count and not optional:
        raise SourceError("a value is missing, although the file says that none is")
    if array.type == pyarrow().null():
        return [None] * len(array)
    found = converter(array)
    if optional and isinstance(found, np.ndarray) and found.ndim == 1:
        return list(found.tolist())  # a value that may be missing is packed by itself, plain ones fastest
    return found


def rows_of(column: Sequence[Any] | npt.NDArray[Any]) -> Sequence[Any]:
    """The values of a column one by one, packed to the same bytes as the column."""
    if isinstance(column, np.ndarray) and column.ndim == 1:
        # Python's floats have 64 bits: of a narrower NaN not every one comes through.
        exact = column.dtype.kind != "f" or column.itemsize == 8 or not np.isnan(column).any()
        return list(column.tolist()) if exact else list(column)
    return column  # type: ignore[return-value]


def numbers(array: Any) -> Sequence[Any] | npt.NDArray[Any]:
    """Bools, integers and floats; dates, times and durations as the integers that they are stored as."""
    array = _storage(array)
    plain = _PLAIN_WIDTHS.get(str(array.type).partition("[")[0])
    if plain:
        array = array.view(plain)
    if not array.null_count:
        found: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
        return found
    filled = array.fill_null(False if array.type == pyarrow().bool_() else 0).to_numpy(zero_copy_only=False)
    return _with_missing(filled.tolist(), array)


# What stores a moment or a span, by its width in Arrow.
_PLAIN_WIDTHS = {
    "timestamp": "int64",
    "date32": "int32",
    "date64": "int64",
    "time32": "int32",
    "time64": "int64",
    "duration": "int64",
}


def values(array: Any) -> Sequence[Any]:
    """Text and bytes."""
    array = _storage(array)
    if pyarrow().types.is_dictionary(array.type):
        words = np.array([*values(array.dictionary), None], object)
        indices = array.indices.fill_null(len(words) - 1).to_numpy(zero_copy_only=False)
        found: list[Any] = words[indices].tolist()
        return found
    try:
        return array.to_numpy(zero_copy_only=False).tolist()  # type: ignore[no-any-return]
    except pyarrow().ArrowException:
        array.validate(full=True)  # says which text is not UTF-8
        raise


def decimals(array: Any) -> Sequence[Any]:
    """Decimal numbers as text, with every digit."""
    return values(_storage(array).cast(pyarrow().string()))


def decoded(array: Any, converter: Converter) -> Sequence[Any] | npt.NDArray[Any]:
    """The values that a dictionary's numbers stand for."""
    return converter(array.dictionary_decode())


def objects(array: Any, plain: Any) -> Sequence[Any]:
    """Lists, structs and maps as Python's; `plain` is the type without dates, decimals and the like."""
    # A few rows of a long column know all of its values, and casting would make all of them.
    found = array if array.type == plain else pyarrow().concat_arrays([array]).cast(plain)
    found.validate()
    return list(found.to_pylist())


def arrays(array: Any, shape: Shape, dtype: Any) -> Sequence[Any] | npt.NDArray[Any]:
    """Nested lists of numbers as arrays of this shape. Raises SourceError for lists that do not have it."""
    array = _storage(array)
    present = array.is_valid().to_numpy(zero_copy_only=False)
    flat = array.drop_null() if array.null_count else array
    counts = _lengths(flat)
    for depth, size in enumerate(shape):
        if depth and flat.null_count:
            raise SourceError("a list is missing within another, which an array cannot hold")
        lengths = counts if depth == 0 else _lengths(flat)
        if size is not None and len(lengths) and not (lengths == size).all():
            raise SourceError(f"a list has {lengths[lengths != size][0]} values, expected {size}")
        flat = _storage(flat.flatten())
    if flat.null_count:
        raise SourceError("a number is missing within a list, which an array cannot hold")
    data = np.asarray(numbers(flat), dtype)
    rows = _cut(data, counts, shape)
    if present.all():
        return rows
    left = iter(rows)
    return [next(left) if there else None for there in present.tolist()]


def _cut(data: npt.NDArray[Any], counts: npt.NDArray[np.int64], shape: Shape) -> Sequence[Any] | npt.NDArray[Any]:
    """The elements of all rows as one array a row; as a single array where all have the same shape."""
    inner = shape[1:]
    if shape[0] is not None:
        return data.reshape(len(counts), *shape)
    data = data.reshape(int(counts.sum()), *inner)
    ends = np.append(0, np.cumsum(counts)).tolist()
    return [data[begin:end] for begin, end in pairwise(ends)]


def _lengths(array: Any) -> npt.NDArray[np.int64]:
    found: npt.NDArray[Any] = pyarrow().compute.list_value_length(array).to_numpy(zero_copy_only=False)
    return found.astype(np.int64)


def tensors(array: Any, shape: Shape, dtype: Any) -> Sequence[Any] | npt.NDArray[Any]:
    """Tensors of one shape, which Arrow stores as lists of all their elements."""
    found = arrays(array, (int(np.prod(shape)),), dtype)  # type: ignore[arg-type]
    if isinstance(found, np.ndarray):
        return found.reshape(len(found), *shape)
    return [None if one is None else one.reshape(shape) for one in found]


def has_missing_inside(array: Any) -> bool:
    """Whether a list, in a column of lists, has a value or a list in it that is missing."""
    array = _storage(array)
    while is_list(array.type):
        array = _storage(array.flatten())
        if array.null_count:
            return True
    return False


def files(array: Any) -> list[tuple[bytes | None, str | None] | None]:
    """The bytes and the name of each file, None where there is neither."""
    present = array.is_valid().to_pylist()
    pairs = zip(values(array.field("bytes")), values(array.field("path")), present, strict=True)
    return [(data, name) if there and (data is not None or name) else None for data, name, there in pairs]


def _with_missing(found: list[Any], array: Any) -> list[Any]:
    present = array.is_valid().to_numpy(zero_copy_only=False).tolist()
    return [value if there else None for value, there in zip(found, present, strict=True)]


def _storage(array: Any) -> Any:
    """The array that an extension type stores."""
    return array.storage if isinstance(array, pyarrow().ExtensionArray) else array


def is_list(kind: Any) -> bool:
    types = pyarrow().types
    views = types.is_list_view(kind) or types.is_large_list_view(kind)
    return bool(views or types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def unpacked_nbytes(array: Any) -> int:
    """A bound on the bytes of an array once its dictionaries are written out."""
    array = _storage(array)
    types = pyarrow().types
    if types.is_dictionary(array.type):
        words = array.dictionary
        long = types.is_string(words.type) or types.is_binary(words.type) or types.is_large_string(words.type)
        return len(array) * (longest(words) if long else 16)
    if types.is_struct(array.type):
        return sum(unpacked_nbytes(array.field(number)) for number in range(array.type.num_fields))
    if types.is_map(array.type):
        first, end = array.offsets[0].as_py() or 0, array.offsets[-1].as_py() or 0
        parts = (part.slice(first, end - first) for part in (array.keys, array.items))
        return sum(map(unpacked_nbytes, parts)) + 8 * len(array)
    if is_list(array.type):
        return unpacked_nbytes(array.flatten()) + 8 * len(array)
    if types.is_string_view(array.type) or types.is_binary_view(array.type):
        views = np.frombuffer(array.buffers()[1] or b"", "<i4")  # 16 bytes each, the length first; they may overlap
        lengths = views[4 * array.offset : 4 * (array.offset + len(array)) : 4]
        return int(np.maximum(lengths, 0).sum(dtype=np.int64)) + 16 * len(array)
    return int(array.nbytes)
