"""Narrow pages: integers in fewer bytes than their dtype has, as distances from the least of them.

    narrow := validity? distance* base     distances are unsigned, of 1, 2 or 4 bytes; the base is one element

An element is base + distance, modulo the range of its dtype. The width of the distances follows from the size of the
page, so the index alone says how to read it. Pages are gathered as they lie, and only the batch is widened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.format.checksum import Buffer
from recordio.format.codec import Codec
from recordio.format.fields import Field
from recordio.format.numeric import Array, Numeric, Scalar
from recordio.format.page import FixedPages, Indices, Pages, overlapping, pages, validity_nbytes
from recordio.lazy import lazy

WIDTHS = (1, 2, 4)
_NARROW = int(Codec.NARROW)
_CHUNK_NBYTES = 128 << 10  # gathered at a time, so that widening finds it in the processor's cache


def may_be_narrow(field: Field) -> bool:
    """Whether pages of this field may be narrow: integers of more than a byte, and some in every value."""
    return (
        isinstance(field, (Scalar, Array))
        and field.dtype.kind in "iu"
        and field.dtype.itemsize > 1
        and bool(field.row_nbytes)
    )


def _narrow_nbytes(field: Numeric, samples: Any, width: int) -> Any:
    """Bytes of a narrow page; for numbers and arrays."""
    size = field.dtype.itemsize
    body = samples * ((field.row_nbytes or 0) // size * width) + size
    return body + (validity_nbytes(samples) if field.optional else 0)


def narrow_sizes(field: Numeric, samples: int) -> list[int]:
    """The bytes that a narrow page may have, for a field that may be narrow."""
    return [_narrow_nbytes(field, samples, width) for width in WIDTHS if width < field.dtype.itemsize]


def widths_of(field: Field, samples: Indices, stored_nbytes: Indices, codec: npt.NDArray[Any]) -> Indices:
    """int64 (n,): the bytes of an element in each page as stored; 0 for a narrow page of a size that none has."""
    if not isinstance(field, Numeric):
        return np.zeros(len(samples), np.int64)
    size = field.dtype.itemsize
    found = np.where(codec == _NARROW, 0, size)
    for width in WIDTHS:
        if width < size and may_be_narrow(field):
            found[(codec == _NARROW) & (stored_nbytes == _narrow_nbytes(field, samples, width))] = width
    return found


def narrow_page(field: Numeric, samples: int, content: Buffer) -> bytes | None:
    """The narrow form of a page, for a field that may be narrow; None if no width is less than that of the dtype.

    The base is 0 unless another makes the distances narrower.
    """
    start = validity_nbytes(samples) if field.optional else 0
    values = np.frombuffer(content, field.dtype, offset=start)
    low, high = int(values.min()), int(values.max())
    for width in WIDTHS:
        span = 1 << 8 * width
        if width >= field.dtype.itemsize or high - low >= span:
            continue
        base = np.array([0 if low >= 0 and high < span else low], field.dtype)
        distances = values if not base[0] else np.subtract(values, base)  # wraps around for a signed dtype
        narrow = distances.astype(f"<u{width}")
        return bytes(content[:start]) + narrow.tobytes() + base.tobytes()
    return None


def widen_into(field: Numeric, samples: int, stored: memoryview, out: memoryview) -> None:
    """The content of a narrow page of a size that has been checked."""
    start, size = validity_nbytes(samples) if field.optional else 0, field.dtype.itemsize
    count = (len(out) - start) // size
    width = (len(stored) - start - size) // count
    out[:start] = stored[:start]
    values = np.frombuffer(out, field.dtype, count, start)
    values[...] = np.frombuffer(stored, f"<u{width}", count, start)
    base = np.frombuffer(stored, field.dtype, 1, len(stored) - size)
    if base[0]:  # else another pass over the content
        values += base


class NarrowPages(Pages):
    """Pages of which some are narrow, of any widths, and the others plain.

    Args:
        widths: int64 (pages,), as `widths_of` gives them.
    """

    def __init__(self, field: Numeric, buffer: Any, starts: Indices, samples: Indices, widths: Indices) -> None:
        super().__init__(field, buffer, starts, samples)
        self._widths = widths
        self._dtype: np.dtype[Any] = field.dtype
        self._size = self._dtype.itemsize
        self._only_width = int(widths[0]) if len(widths) and (widths == widths[0]).all() else None
        self._elements = (field.row_nbytes or 0) // self._size
        self._ends = self._bodies + samples * self._elements * widths

    @lazy
    def _base_at(self) -> npt.NDArray[Any]:
        return overlapping(self._buffer, self._dtype, ())

    @lazy
    def _stored(self) -> dict[int, FixedPages]:
        """The pages read as if all had elements of one width, by width."""
        found = {}
        for width in np.unique(self._widths[self._widths > 0]).tolist():
            dtype = self._dtype if width == self._size else f"<u{width}"
            kind = replace(self._field, dtype=dtype, optional=False)  # type: ignore[call-arg]
            found[width] = FixedPages(kind, self._buffer, self._bodies, self._samples)
        return found

    def take(self, page: Indices, row: Indices) -> Any:
        if self._only_width is not None:
            values = self._widened(self._only_width, page, row)
        else:
            widths = self._widths[page]
            values = np.empty((len(row), *self._field.shape), self._dtype)  # type: ignore[attr-defined]
            for width in np.unique(widths).tolist():
                at = widths == width
                values[at] = self._widened(width, page[at], row[at])
        return self._with_missing(values, page, row) if self._field.optional else values

    def _widened(self, width: int, page: Indices, row: Indices) -> npt.NDArray[Any]:
        stored = self._stored[width]
        if width == self._size:
            return stored.take(page, row)  # type: ignore[no-any-return]
        rows = max(1, _CHUNK_NBYTES // (self._elements * width))
        if len(row) <= rows:
            values: npt.NDArray[Any] = stored.take(page, row).astype(self._dtype)
        else:
            values = np.empty((len(row), *self._field.shape), self._dtype)  # type: ignore[attr-defined]
            for begin in range(0, len(row), rows):
                chunk = slice(begin, begin + rows)
                values[chunk] = stored.take(page[chunk], row[chunk])
        base = self._base_at[self._ends[page]]
        if base.any():
            values += base.reshape(-1, *[1] * (values.ndim - 1))
        return values

    def views(self, page: Indices, row: Indices) -> list[npt.NDArray[Any]]:
        return list(self.take(page, row))

    def only(self, numbers: Indices) -> Pages:
        starts, samples = self._starts[numbers], self._samples[numbers]
        return NarrowPages(self._field, self._buffer, starts, samples, self._widths[numbers])  # type: ignore[arg-type]

    def _kernel_form(self) -> tuple[str | None, tuple[Any, ...]]:
        form, model = super()._kernel_form()
        return form, (*model, self._widths)

    def _getter(self) -> Callable[[int, int], Any]:
        widths, ends = self._widths.tolist(), self._ends.tolist()
        size, dtype, base_at = self._size, self._dtype, self._base_at
        scalar, make = isinstance(self._field, Scalar), dtype.type  # a tenth of the time of `astype`
        stored = {width: found.get for width, found in self._stored.items()}

        def get(page: int, row: int) -> Any:
            width = widths[page]
            value = stored[width](page, row)
            if width == size:
                return value
            base = base_at[ends[page]]
            if base:
                return np.add(value, base, dtype=dtype)
            return make(value) if scalar else value.astype(dtype)

        return get


def stored_pages(field: Field, buffer: Any, starts: Indices, samples: Indices, entries: npt.NDArray[np.void]) -> Pages:
    """The reader for pages of this field as they are stored, plain or narrow. Others among them must not be read.

    Args:
        field, buffer, starts, samples: as for `Pages`.
        entries: structured (pages,), their entries in the index.
    """
    if not isinstance(field, Numeric) or not (entries["codec"] == _NARROW).any():
        return pages(field, buffer, starts, samples)
    widths = widths_of(field, samples, entries["stored_nbytes"].astype(np.int64), entries["codec"])
    return NarrowPages(field, buffer, starts, samples, widths)
