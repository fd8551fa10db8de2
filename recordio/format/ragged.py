"""`Ragged`: values of several sizes one after another in one array, in place of a list of objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.arguments import describe
from recordio.errors import CorruptError
from recordio.format.fields import Field, Text
from recordio.format.numeric import Numeric, empty_shape, is_array
from recordio.format.page import Indices

Mask = npt.NDArray[np.bool_]


class Ragged:
    """A column of text, bytes, encoded pictures, or arrays whose shapes differ: value k is
    `values[offsets[k]:offsets[k + 1]]`.

    As a sequence it gives text as `str`, bytes and encoded pictures as memoryviews, arrays as views of `values`, and
    None where a value is missing. A slice, an array of indices and `copy()` give a column. pyarrow.array takes it
    without a copy.

    Large values that lie in a memory map are not copied before `values` is asked for; the memoryviews are then of the
    map, read-only, and keep the file mapped. Once columns keep a sixteenth of the files open that the process may have
    open, values of further ones are copied at once.

    Attributes:
        offsets: int64 (n + 1,), from 0.
        shapes: int64 (n, dimensions), of arrays with another free dimension than the first; else None.
        missing: bool (n,), the values that are missing, and are empty in `values`; None if the field is not optional.
    """

    __slots__ = ("_parts", "_values", "kind", "missing", "offsets", "shapes")

    def __init__(
        self,
        kind: Field,
        values: npt.NDArray[Any] | list[memoryview],
        offsets: Indices,
        shapes: Indices | None = None,
        missing: Mask | None = None,
    ) -> None:
        self.kind = kind
        self._parts = values if isinstance(values, list) else None
        self._values = None if isinstance(values, list) else values
        self.offsets = offsets
        self.shapes = shapes
        self.missing = missing

    @classmethod
    def of(cls, kind: Field, values: Sequence[Any]) -> Ragged:
        """A column of values as `to_list` gives them."""
        missing = np.array([value is None for value in values], bool)
        own = missing if kind.optional else None
        if not is_array(kind):
            parts = [value.encode() if isinstance(value, str) else value or b"" for value in values]
            return cls(kind, joined(parts), offsets_of(np.array([len(part) for part in parts], np.int64)), None, own)
        assert isinstance(kind, Numeric)
        nothing = np.zeros(empty_shape(kind), kind.dtype)
        arrays = [nothing if value is None else value for value in values]
        shapes = np.array([value.shape for value in arrays], np.int64).reshape(len(arrays), len(kind.shape))
        flat = np.concatenate([np.zeros(0, kind.dtype), *(value.reshape(-1) for value in arrays)])
        return cls(kind, *shaped(kind, flat, shapes), own)

    @property
    def values(self) -> npt.NDArray[Any]:
        """Of text and bytes, uint8 (total,): the UTF-8, unchecked, and the bytes. Of arrays, their elements in C order:
        (total, *inner) if only the first dimension is free, else (total,).
        """
        if self._values is None:
            self._values = joined(self._parts or [])
        return self._values

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        if self._values is None:
            return int(self.offsets[-1])
        return self._values.nbytes

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[Any]:
        return map(self._value, range(len(self)))

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            rows = range(len(self))[at]
            return self._run(rows.start, max(rows.start, rows.stop)) if rows.step == 1 else self._chosen(list(rows))
        if np.ndim(at) == 1:
            chosen: Any = np.asarray(at) if hasattr(at, "__array__") else list(at)  # an empty list is one of integers
            return self._chosen(np.arange(len(self))[chosen].tolist())
        return self._value(self._number(at))

    def to_list(self) -> list[Any]:
        """The values as a list: `str`, `bytes`, arrays with memory of their own, None. Raises CorruptError."""
        if isinstance(self.kind, Text) and self.missing is None and self._parts is None:
            data = self.values.tobytes()
            if data.isascii():  # then bytes are characters, and one decoding does
                text, ends = data.decode(), self.offsets.tolist()
                return [text[a:b] for a, b in pairwise(ends)]
        return [bytes(one) if isinstance(one, memoryview) else _own(one) for one in self]

    def to_arrow(self) -> Any:
        """A pyarrow array without a copy: large_string, large_binary, or large_list, with int64 offsets.

        Raises MissingPackageError without pyarrow; CorruptError for text that is not UTF-8; SchemaError for complex
        numbers and arrays with a dimension of 0.
        """
        from recordio.format.ragged_arrow import ragged_array

        return ragged_array(self)

    def __arrow_array__(self, type: Any = None) -> Any:
        """What pyarrow.array and pyarrow.table call."""
        found = self.to_arrow()
        return found if type is None else found.cast(type)

    def as_kind(self, kind: Field) -> Ragged:
        """The same values as those of a field that is optional, if this one's is not."""
        missing = np.zeros(len(self), bool) if kind.optional and self.missing is None else self.missing
        values = self.values if self._parts is None else self._parts
        return Ragged(kind, values, self.offsets, self.shapes, missing)

    def copy(self) -> Ragged:
        """A column that shares no memory with this one, but for what lies in a memory map."""
        values = list(self._parts) if self._parts is not None else self.values.copy()
        return Ragged(self.kind, values, self.offsets.copy(), _copied(self.shapes), _copied(self.missing))

    def __reduce__(self) -> tuple[Any, ...]:
        return Ragged, (self.kind, self.values, self.offsets, self.shapes, self.missing)

    def __repr__(self) -> str:
        return f"Ragged({len(self)} values of {self.kind}, {self.nbytes} bytes)"

    def _number(self, at: Any) -> int:
        try:
            number: int = range(len(self))[at]
            return number
        except IndexError:
            raise IndexError(f"value {at} of a Ragged of {len(self)}") from None
        except TypeError:
            wanted = "an integer, a slice, or a list or array of integers or bools"
            raise TypeError(f"a Ragged takes {wanted}, not {describe(at)}") from None

    def _value(self, k: int) -> Any:
        if self.missing is not None and self.missing[k]:
            return None
        if self._parts is not None:
            value: Any = self._parts[k]
        else:
            begin, end = self.offsets[k : k + 2].tolist()
            value = self.values[begin:end]
            if self.shapes is not None:
                return value.reshape(self.shapes[k])
        if is_array(self.kind):
            return value
        return _text(value) if isinstance(self.kind, Text) else memoryview(value)

    def _run(self, begin: int, end: int) -> Ragged:
        offsets = self.offsets[begin : end + 1]
        first, last = offsets[[0, -1]].tolist()
        values = self._parts[begin:end] if self._parts is not None else self.values[first:last]
        rows = slice(begin, end)
        return Ragged(self.kind, values, offsets - first, _rows(self.shapes, rows), _rows(self.missing, rows))

    def _chosen(self, rows: list[int]) -> Ragged:
        offsets = offsets_of(np.diff(self.offsets)[rows])
        shapes, missing = _rows(self.shapes, rows), _rows(self.missing, rows)
        if self._parts is not None:
            return Ragged(self.kind, [self._parts[k] for k in rows], offsets, shapes, missing)
        source, ends = self.values, self.offsets.tolist()
        found = np.concatenate([source[:0], *(source[ends[k] : ends[k + 1]] for k in rows)])
        return Ragged(self.kind, found, offsets, shapes, missing)


def concatenated(columns: Sequence[Ragged]) -> Ragged:
    """One column of several of the same field, end to end."""
    first = columns[0]
    sizes = np.concatenate([np.diff(one.offsets) for one in columns])
    missing = None
    if any(one.missing is not None for one in columns):
        missing = np.concatenate([np.zeros(len(one), bool) if one.missing is None else one.missing for one in columns])
    values: Any
    if all(one._parts is not None for one in columns):
        values = [part for one in columns for part in one._parts or ()]
    else:
        values = np.concatenate([one.values for one in columns])
    shapes = None if first.shapes is None else np.concatenate([one.shapes for one in columns])
    return Ragged(first.kind, values, offsets_of(sizes), shapes, missing)


def joined(parts: Sequence[Any]) -> npt.NDArray[np.uint8]:
    """uint8 (total,): these bytes in one array, copied once."""
    memory = bytearray().join(parts)
    return np.ndarray(len(memory), np.uint8, memory)


def offsets_of(sizes: Indices) -> Indices:
    """int64 (n + 1,), from 0."""
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


def shaped(kind: Numeric, flat: npt.NDArray[Any], shapes: Indices) -> tuple[npt.NDArray[Any], Indices, Indices | None]:
    """The values, offsets and shapes of arrays from all of their elements."""
    if None in kind.shape[1:]:
        return flat, offsets_of(shapes.prod(axis=1)), shapes
    offsets = offsets_of(shapes[:, 0])
    return flat.reshape(int(offsets[-1]), *empty_shape(kind)[1:]), offsets, None


def _text(data: Any) -> str:
    try:
        return str(data, "utf-8") if len(data) else ""
    except UnicodeDecodeError as error:
        raise CorruptError(f"text is not UTF-8: {error}") from error


def _own(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value


def _rows(array: Any, rows: Any) -> Any:
    return None if array is None else array[rows]


def _copied(array: Any) -> Any:
    return None if array is None else array.copy()
