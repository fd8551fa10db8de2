"""Measures the fields of a dataset page by page, as the pages are written or read.

Numbers are gathered into groups of a fixed size before anything is computed: pages are small, and a call of NumPy's
costs as much as thousands of numbers. The groups depend on the samples and their order alone, so that the statistics do
not depend on how samples came to the writer.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import DecodeError
from recordio.format.checksum import Buffer
from recordio.format.fields import Field
from recordio.format.image_field import Image
from recordio.format.numeric import Array, Numeric, Scalar
from recordio.format.page import validity_nbytes
from recordio.format.schema import Schema
from recordio.images.header import Header, read_header
from recordio.statistics.numbers import Floats, NumbersMeasure, PixelMoments
from recordio.statistics.records import Channels, Extent, FieldStatistics, Statistics

_GROUP = 1 << 15
_GROUP_OF_MANY = 1 << 12  # numbers of a group where there are many fields, each with a buffer
_MANY = 64
Values = npt.NDArray[Any]


class Measures:
    """The measures of all fields of a schema."""

    def __init__(self, schema: Schema) -> None:
        self._names = tuple(schema)
        work = np.empty(_GROUP if len(schema) <= _MANY else _GROUP_OF_MANY)
        self._fields = [_FieldMeasure(field, work) for field in schema.values()]

    def add(self, number: int, content: Buffer, samples: int) -> None:
        """Takes the content of a page of the field with this number, which may change afterwards."""
        self._fields[number].add(content, samples)

    def add_header(self, name: str, header: Header) -> None:
        """Takes the header of the next picture file of a field, from whoever has parsed it: of each of them, in order,
        before its page is added, or of none.
        """
        self._fields[self._names.index(name)].headers.append(header)

    def add_headers(self, name: str, headers: Iterable[Header]) -> None:
        """`add_header` for several."""
        self._fields[self._names.index(name)].headers.extend(headers)

    def add_pixels(self, name: str, moments: PixelMoments) -> None:
        """Takes the pixels of picture files, which whoever stores them has decoded."""
        self._fields[self._names.index(name)].add_pixels(moments)

    def statistics(self) -> Statistics:
        """Of all that was added. Nothing can be added afterwards."""
        return Statistics({name: one.statistics() for name, one in zip(self._names, self._fields, strict=True)})


class _Sizes:
    """The extent of sizes, which are exact: it does not matter how they are grouped."""

    def __init__(self) -> None:
        self._extent = Extent()
        self._waiting: list[Values] = []
        self._count = 0

    def add(self, sizes: Values) -> None:
        """Takes integers (n,), which the caller does not change."""
        self._waiting.append(sizes)
        self._count += len(sizes)
        if self._count >= _GROUP_OF_MANY:
            self._reduce()

    def extent(self) -> Extent:
        self._reduce()
        return self._extent

    def _reduce(self) -> None:
        if self._count:
            sizes = np.concatenate(self._waiting)
            found = Extent(len(sizes), int(sizes.min()), int(sizes.max()), int(sizes.sum()))
            self._extent = self._extent.merged(found)
        self._waiting, self._count = [], 0


class _FieldMeasure:
    """Measures one field by its pages."""

    def __init__(self, field: Field, work: Floats) -> None:
        self._field = field
        self._samples = self._missing = 0
        self._numbers: NumbersMeasure | None = None
        self._channels: list[NumbersMeasure] = []
        self._lengths: _Sizes | None = None if field.row_nbytes is not None else _Sizes()
        self._height, self._width = _Sizes(), _Sizes()
        self._formats: Counter[str] = Counter()
        self._files: list[Header] = []  # of the last pages
        self.headers: deque[Header] = deque()  # of files in the pages to come
        self._moments: PixelMoments | None = None
        if isinstance(field, Image) and not field.encoded:
            channels = field.shape[2] if len(field.shape) == 3 else 1
            self._channels = [NumbersMeasure(field.dtype, work) for _ in range(channels)]
        elif isinstance(field, (Scalar, Array)) and field.dtype.kind != "c":
            counts = isinstance(field, Scalar) or field.row_nbytes is None
            self._numbers = NumbersMeasure(field.dtype, work, counts)

    def add_pixels(self, moments: PixelMoments) -> None:
        self._moments = moments if self._moments is None else self._moments.plus(moments)

    def add(self, content: Buffer, samples: int) -> None:
        present = None
        start = 0
        if self._field.optional:
            start = int(validity_nbytes(samples))
            bits = np.frombuffer(content, np.uint8, -(-samples // 8))
            present = np.unpackbits(bits, count=samples, bitorder="little").view(bool)
            self._missing += samples - int(np.count_nonzero(present))
        self._samples += samples
        if self._field.row_nbytes is None:
            self._add_variable(content, samples, start, present)
        elif self._field.row_nbytes:
            self._add_fixed(content, samples, start, present)

    def _add_fixed(self, content: Buffer, samples: int, start: int, present: Values | None) -> None:
        field: Any = self._field
        if self._numbers is None and not self._channels:
            return
        values: Values = np.frombuffer(content, field.dtype, offset=start)
        if present is not None:
            values = values.reshape(samples, -1)[present].reshape(-1)
        if self._channels:
            count = samples if present is None else int(np.count_nonzero(present))
            self._add_sizes(np.tile(np.array(field.shape[:2]), (count, 1)))
        self._add_values(values)

    def _add_values(self, values: Values) -> None:
        if self._numbers is not None:
            self._numbers.add(values)
        for k, channel in enumerate(self._channels):
            channel.add(values[k :: len(self._channels)])

    def _add_variable(self, content: Buffer, samples: int, start: int, present: Values | None) -> None:
        offsets = np.frombuffer(content, "<i8", samples + 1, start)
        data = memoryview(content)[start + offsets.nbytes :]
        begins, ends = offsets[:-1], offsets[1:]
        if present is not None:
            begins, ends = begins[present], ends[present]
        if isinstance(self._field, Numeric) and not getattr(self._field, "encoded", False):
            self._add_arrays(data, begins, ends)
        else:
            self._add_lengths(ends - begins)
            if isinstance(self._field, Image):
                self._add_files(data, begins.tolist(), ends.tolist())

    def _add_lengths(self, lengths: Values) -> None:
        assert self._lengths is not None
        self._lengths.add(lengths)

    def _add_arrays(self, data: memoryview, begins: Values, ends: Values) -> None:
        """Arrays with free dimensions: each begins with a u64 for each of them."""
        field: Any = self._field
        free = sum(n is None for n in field.shape)
        every = np.frombuffer(data, np.uint8)
        heads = every[begins[:, None] + np.arange(8 * free)].view("<i8").reshape(-1, free)
        self._add_lengths((ends - begins - 8 * free) // field.dtype.itemsize)
        if self._channels:
            shapes = np.tile(np.array([n or 0 for n in field.shape[:2]], np.int64), (len(heads), 1))
            shapes[:, [k for k, n in enumerate(field.shape[:2]) if n is None]] = heads
            self._add_sizes(shapes)
        if self._numbers is None and not self._channels:
            return
        kept = np.ones(len(every) // field.dtype.itemsize, bool)
        step = 8 * free // field.dtype.itemsize
        kept[(begins // field.dtype.itemsize)[:, None] + np.arange(step)] = False
        self._add_values(every.view(field.dtype)[kept])

    def _add_sizes(self, sizes: Values) -> None:
        """Takes (n, 2) heights and widths."""
        self._height.add(sizes[:, 0])
        self._width.add(sizes[:, 1])

    def _add_files(self, data: memoryview, begins: list[int], ends: list[int]) -> None:
        if self.headers:
            headers = [self.headers.popleft() for _ in begins]
        else:
            found = [_header(data[begin:end]) for begin, end in zip(begins, ends, strict=True)]
            headers = [header for header in found if header is not None]
        if unreadable := len(begins) - len(headers):
            self._formats["unreadable"] += unreadable
        self._files += headers
        if len(self._files) >= _GROUP_OF_MANY:
            self._reduce_files()

    def _reduce_files(self) -> None:
        self._formats.update(header.format for header in self._files)
        if self._files:
            self._add_sizes(np.array([(header.height, header.width) for header in self._files], np.int64))
        self._files = []

    def statistics(self) -> FieldStatistics:
        self._reduce_files()
        count = self._samples - self._missing
        is_image = isinstance(self._field, Image)
        for one in (self._numbers, *self._channels):
            if one is not None:
                one.finish()
        return FieldStatistics(
            count=count,
            missing=self._missing,
            numbers=None if self._numbers is None else self._numbers.numbers,
            values=None if self._numbers is None else self._numbers.counts,
            lengths=None if self._lengths is None else self._lengths.extent(),
            formats=dict(self._formats) if is_image and not self._channels else None,
            height=self._height.extent() if is_image else None,
            width=self._width.extent() if is_image else None,
            channels=self._channels_of(count),
        )

    def _channels_of(self, count: int) -> Channels | None:
        if self._moments is not None and self._moments.pictures == count:
            return self._moments.channels()
        found = [one.numbers for one in self._channels]
        if not found or not found[0].count:
            return None
        mean, std = (tuple(float(getattr(one, name) or 0) for one in found) for name in ("mean", "std"))
        return Channels(found[0].count, mean, std)


def _header(data: memoryview) -> Header | None:
    """None for a file without one."""
    try:
        return read_header(data)
    except DecodeError:
        return None
