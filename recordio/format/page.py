"""A page: the values of one field for the samples of one block.

    fixed    := validity? value*            `row_nbytes` bytes per sample, C order
    variable := validity? offset* bytes     samples + 1 offsets (u64, from 0, never falling), then the values' bytes
    validity := one bit per sample, least significant first, 1 = present; only for optional fields; padded to ALIGNMENT

`encode_page` writes; `Pages` reads any number of pages of a field in one buffer: a mapped shard, a window's arena, or a
single decoded page. A gather over all of them is a handful of NumPy calls, whatever their number.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from mmap import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio import kernels
from recordio.errors import CorruptError
from recordio.format.checksum import Buffer
from recordio.format.fields import Bytes, Field, Text
from recordio.format.image_field import Image
from recordio.format.layout import padded
from recordio.format.masks import masked_column
from recordio.format.numeric import Scalar
from recordio.lazy import lazy

Indices = npt.NDArray[np.int64]
Packed = Sequence[bytes | None]

_GATHER_LIMIT = 1 << 16  # bytes of a row; from here on, copying costs more than a lookup per row
_OFFSET = np.dtype("<i8")  # u64 on disk; checked pages have none over 2^63
OFFSET_PAIR = struct.Struct("<qq").unpack_from


def encode_page(field: Field, parts: Sequence[Packed | memoryview]) -> Buffer:
    """The content of a page, from lists of packed values (None for a missing one) and whole runs of fixed values.

    A single run that makes up the page is returned without a copy.
    """
    if len(parts) == 1 and isinstance(parts[0], memoryview):
        return parts[0]
    out: list[Buffer] = []
    values: list[Buffer | None] = []
    for part in parts:
        values.extend([part] if isinstance(part, memoryview) else part)
    if field.optional:
        present_bits = np.packbits([value is not None for value in values], bitorder="little").tobytes()
        out.append(present_bits.ljust(validity_nbytes(len(values)), b"\0"))
    empty = bytes(field.row_nbytes or 0)
    present = [empty if value is None else value for value in values]
    if field.row_nbytes is None:
        out.append(np.fromiter(chain([0], map(len, present)), "<u8").cumsum().tobytes())
    return b"".join([*out, *present])


def validity_nbytes(samples: Any) -> Any:
    """Bytes of the validity bitmap of `samples` samples, with padding; for numbers and arrays."""
    return padded(-(-samples // 8))


def least_nbytes(field: Field, samples: Any) -> Any:
    """Bytes of a page of `samples` samples: exact for a fixed field, the minimum for a variable one."""
    body = samples * field.row_nbytes if field.row_nbytes is not None else 8 * (samples + 1)
    return body + (validity_nbytes(samples) if field.optional else 0)


def values_of(field: Field, samples: int, content: Buffer) -> tuple[Indices, memoryview]:
    """The offsets of a variable page, int64 (samples + 1,), not checked, and the bytes of its values."""
    start = validity_nbytes(samples) if field.optional else 0
    offsets = np.frombuffer(content, _OFFSET, samples + 1, start)
    return offsets, memoryview(content)[start + 8 * (samples + 1) :]


def check_page(field: Field, samples: int, content: Buffer) -> None:
    """Checks beyond the checksum: the offsets ascend and stay inside the page. Raises CorruptError.

    A fixed page needs none: decoding the index has checked its size.
    """
    if field.row_nbytes is not None:
        return
    offsets, values = values_of(field, samples, content)
    nbytes = len(values)
    if offsets[0] != 0 or offsets[-1] != nbytes or np.count_nonzero(offsets[1:] < offsets[:-1]):  # faster than any
        raise CorruptError(f"page offsets are not in order from 0 to {nbytes}")


class Pages:
    """Checked pages of one field in one buffer.

    Args:
        field: the field.
        buffer: holds the pages; slices of it are `bytes`.
        starts: int64 (pages,), the offset of each page's content in the buffer.
        samples: int64 (pages,), the number of samples in each page.
    """

    def __init__(self, field: Field, buffer: bytes | mmap, starts: Indices, samples: Indices) -> None:
        self._field = field
        self._buffer = buffer
        self._starts = starts
        self._samples = samples
        self._bodies = starts + validity_nbytes(samples) if field.optional else starts

    @lazy
    def _bytes(self) -> npt.NDArray[Any]:
        return np.ndarray(len(self._buffer), np.uint8, self._buffer)

    @property
    def buffer(self) -> bytes | mmap:
        """What the pages lie in."""
        return self._buffer

    @property
    def nbytes(self) -> int:
        """Bytes of the whole buffer."""
        return len(self._buffer)

    def take(self, page: Indices, row: Indices) -> Any:
        """The values at (page, row), each int64 (n,), as a column: an array for a fixed field, else a list."""
        raise NotImplementedError

    def _with_missing(self, values: Any, page: Indices, row: Indices) -> Any:
        """The column of an optional field: None, or masked, where a value is missing. Changes arrays of values."""
        present = self.present(page, row)
        if isinstance(values, list):
            return [value if ok else None for value, ok in zip(values, present.tolist(), strict=True)]
        return masked_column(values, ~present)

    @lazy
    def kernel(self) -> Any:
        """These pages for the kernels in C; None without them, and for values that they do not make."""
        form, more = self._kernel_form()
        if kernels.c is None or form is None:
            return None
        places = self._starts, self._bodies, self._samples
        return kernels.c.Values(self._buffer, *places, getattr(kernels.c, form), self._field.optional, *more)

    def _kernel_form(self) -> tuple[str | None, tuple[Any, ...]]:
        """The form of single values, and an array for the kernels to make them in. NumPy copies large ones, once."""
        if not 0 < (self._field.row_nbytes or 0) < _GATHER_LIMIT:
            return None, ()
        return ("SCALAR", (self.empty(1),)) if isinstance(self._field, Scalar) else ("ARRAY", (self.empty(1)[0],))

    def empty(self, n: int) -> npt.NDArray[Any]:
        """A column of n values of a fixed field, to be filled."""
        return np.empty((n, *self._field.shape), self._field.dtype)  # type: ignore[attr-defined]

    @property
    def has_large_values(self) -> bool:
        """Whether values are so large that copying them one by one, straight to their place, is fastest."""
        return False

    def views(self, page: Indices, row: Indices) -> list[npt.NDArray[Any]]:
        """The arrays at (page, row), each int64 (n,): views, where pages are as they are in memory."""
        return list(self.take(page, row))

    @property
    def joins(self) -> bool:
        """Whether `joined` makes a column of values."""
        return not self._field.optional and not self.has_large_values

    def joined(self, values: list[Any]) -> Any:
        """A column as `take` gives it, of one or more values as `get` gives them."""
        column = np.array(values) if isinstance(self._field, Scalar) else np.concatenate(values)
        return column.reshape(len(values), *self._field.shape)  # type: ignore[attr-defined]

    def only(self, numbers: Indices) -> Pages:
        """The pages with these numbers, renumbered from 0."""
        return type(self)(self._field, self._buffer, self._starts[numbers], self._samples[numbers])

    @lazy
    def get(self) -> Callable[[int, int], Any]:
        """A function from (page, row) to the value: a NumPy scalar or array, str, bytes, an object, or None.

        A closure, for speed: reading a sample is a call per field. It does not hold these pages, so no cycle arises.
        """
        get = self._getter()
        if not self._field.optional:
            return get
        byte_at, starts = self._bytes, self._starts.tolist()
        return lambda page, row: get(page, row) if byte_at[starts[page] + (row >> 3)] >> (row & 7) & 1 else None

    def present(self, page: Indices, row: Indices) -> npt.NDArray[np.bool_]:
        """bool (n,): whether there is a value at (page, row), for an optional field."""
        return (self._bytes[self._starts[page] + (row >> 3)] >> (row & 7).astype(np.uint8) & 1).astype(bool)

    def _getter(self) -> Callable[[int, int], Any]:
        raise NotImplementedError


def overlapping(buffer: bytes | mmap, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """An array whose item p is the value at byte p of the buffer, so that indexing reads at any byte."""
    nbytes, inner = _strides(dtype, shape)
    return np.ndarray((max(0, len(buffer) - nbytes + 1), *shape), dtype, buffer, strides=(1, *inner))


@lru_cache(1024)
def _strides(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """The size of an array, and its strides."""
    array: npt.NDArray[Any] = np.empty(shape, dtype)
    return array.nbytes, array.strides


class FixedPages(Pages):
    """Values of one size, read through an overlapping view: item p is the value at byte p."""

    def __init__(self, field: Field, buffer: bytes | mmap, starts: Indices, samples: Indices) -> None:
        super().__init__(field, buffer, starts, samples)
        self._nbytes = field.row_nbytes or 0
        self._dtype: np.dtype[Any] = field.dtype  # type: ignore[attr-defined]
        self._shape: tuple[int, ...] = field.shape  # type: ignore[attr-defined]
        self._scalar = isinstance(field, Scalar)
        self._gathers = 0 < self._nbytes < _GATHER_LIMIT
        # If all values start at multiples of their size, they are rows of a table: a gather takes a tenth of the time.
        self._table: npt.NDArray[Any] | None = None
        if self._gathers and not (self._bodies % self._nbytes).any():
            table: npt.NDArray[Any] = np.ndarray((len(buffer) // self._nbytes, *self._shape), self._dtype, buffer)
            self._table = table if table.flags.aligned else None  # a gather would copy an unaligned table first
            self._rows = self._bodies // self._nbytes

    @lazy
    def _at(self) -> npt.NDArray[Any] | None:
        """Item p is the value at byte p."""
        return overlapping(self._buffer, self._dtype, self._shape) if self._gathers else None

    @lazy
    def _raw(self) -> npt.NDArray[Any] | None:
        """The same, with an array as a run of bytes: a gather of those is faster."""
        if self._scalar or not self._gathers:
            return self._at
        return overlapping(self._buffer, np.dtype((np.void, self._nbytes)), ())

    def take(self, page: Indices, row: Indices) -> Any:
        values: npt.NDArray[Any]
        if self._table is None and self.kernel is not None and not self._field.optional:
            values = self.empty(len(row))
            if kernels.c.gather((self.kernel,), None, page, row, values):  # in two thirds of NumPy's time
                return values
        if self._table is not None:
            values = self._table.take(self._rows.take(page) + row, 0)
        elif self._raw is None:
            values = np.array(self.views(page, row), self._dtype).reshape(len(row), *self._shape)
        else:
            values = self._raw[self._bodies[page] + row * self._nbytes]
            if not self._scalar:
                values = values.view(self._dtype).reshape(len(row), *self._shape)
        return self._with_missing(values, page, row) if self._field.optional else values

    @property
    def has_large_values(self) -> bool:
        return self._nbytes >= _GATHER_LIMIT and not self._field.optional

    def views(self, page: Indices, row: Indices) -> list[npt.NDArray[Any]]:
        return [self._one(at) for at in (self._bodies[page] + row * self._nbytes).tolist()]

    def _getter(self) -> Callable[[int, int], Any]:
        bodies, nbytes, at = self._bodies.tolist(), self._nbytes, self._at
        if self._scalar and at is not None:
            return lambda page, row: at[bodies[page] + row * nbytes]
        if at is not None:
            return lambda page, row: at[bodies[page] + row * nbytes].copy()
        shape, dtype, buffer = self._shape, self._dtype, self._buffer
        return lambda page, row: np.ndarray(shape, dtype, buffer, bodies[page] + row * nbytes).copy()

    def _one(self, at: int) -> npt.NDArray[Any]:
        if self._at is not None:
            return self._at[at]  # type: ignore[no-any-return]
        return np.ndarray(self._shape, self._dtype, self._buffer, at)


class VariablePages(Pages):
    """Values of any size, found by the offsets at the start of each page."""

    def __init__(self, field: Field, buffer: bytes | mmap, starts: Indices, samples: Indices) -> None:
        super().__init__(field, buffer, starts, samples)
        self._offset = overlapping(buffer, _OFFSET, ())
        self._data = self._bodies + 8 * (samples + 1)
        self._text = isinstance(field, Text)
        self._raw = isinstance(field, (Bytes, Image)) and getattr(field, "encoded", True)

    def spans(self, page: Indices, row: Indices) -> tuple[Indices, Indices]:
        """int64 (n,) each: where the values at (page, row) begin and end in the buffer."""
        at, first = self._bodies[page] + 8 * row, self._data[page]
        return first + self._offset[at], first + self._offset[at + 8]

    def _kernel_form(self) -> tuple[str | None, tuple[Any, ...]]:
        return ("TEXT" if self._text else "BYTES" if self._raw else None), ()

    def take(self, page: Indices, row: Indices) -> list[Any]:
        if self.kernel is not None:
            found: list[Any] | None = kernels.c.take((self.kernel,), None, page, row)
            if found is not None:
                return found
        begins, ends = (one.tolist() for one in self.spans(page, row))
        buffer = self._buffer
        values: list[Any]
        if self._raw:
            values = [buffer[a:b] for a, b in zip(begins, ends, strict=True)]
        elif self._text:
            try:
                values = [buffer[a:b].decode() for a, b in zip(begins, ends, strict=True)]
            except UnicodeDecodeError as error:
                raise CorruptError(f"text is not UTF-8: {error}") from error
        else:
            unpack = self._field.unpack
            present = self.present(page, row).tolist() if self._field.optional else [True] * len(begins)
            values = [unpack(buffer[a:b]) if ok else None for a, b, ok in zip(begins, ends, present, strict=True)]
        return self._with_missing(values, page, row) if self._field.optional else values

    def views(self, page: Indices, row: Indices) -> list[npt.NDArray[Any]]:
        whole, view = memoryview(self._buffer), self._field.view  # type: ignore[attr-defined]
        return [view(whole[a:b]) for a, b in zip(*(one.tolist() for one in self.spans(page, row)), strict=True)]

    @property
    def joins(self) -> bool:
        return True

    def joined(self, values: list[Any]) -> list[Any]:
        return values

    def _getter(self) -> Callable[[int, int], Any]:
        bodies, data, buffer = self._bodies.tolist(), self._data.tolist(), self._buffer
        unpack = bytes.decode if self._text else self._field.unpack

        def get(page: int, row: int) -> Any:
            begin, end = OFFSET_PAIR(buffer, bodies[page] + 8 * row)
            first = data[page]
            try:
                return unpack(buffer[first + begin : first + end])
            except UnicodeDecodeError as error:
                raise CorruptError(f"text is not UTF-8: {error}") from error

        def raw(page: int, row: int) -> bytes:
            begin, end = OFFSET_PAIR(buffer, bodies[page] + 8 * row)
            first = data[page]
            return buffer[first + begin : first + end]

        return raw if self._raw else get


def pages(field: Field, buffer: bytes | mmap, starts: Indices, samples: Indices) -> Pages:
    """The reader for pages of this field."""
    return (VariablePages if field.row_nbytes is None else FixedPages)(field, buffer, starts, samples)
