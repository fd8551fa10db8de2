"""How numbers are spread, group by group: range, mean, standard deviation, and how often each integer occurs."""

from __future__ import annotations

import math
import threading
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from recordio import kernels
from recordio.images.decode import opencv, opencv_if_there
from recordio.statistics.records import MOST_VALUES, Channels, Numbers, finite

_COUNTED_RANGE = 1 << 16
_KEPT_NBYTES = 16 << 20
_CANCELLED = 1e-3  # a variance that is a smaller part of the squared mean is computed anew, from the distances to it
Values = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


class _Room(threading.local):
    """Memory of a thread for the channels of a picture: new memory for each would take longer than its numbers."""

    _bytes = np.empty(0, np.uint8)

    def planes(self, channels: int, height: int, width: int) -> list[npt.NDArray[np.uint8]]:
        """So many arrays (height, width), whose content is undefined."""
        nbytes = channels * height * width
        room = self._bytes if nbytes <= len(self._bytes) else np.empty(nbytes, np.uint8)
        if nbytes <= _KEPT_NBYTES:
            self._bytes = room
        return list(room[:nbytes].reshape(channels, height, width))


_room = _Room()


class PixelMoments(NamedTuple):
    """The pixels of pictures: how many of both, and for each channel their sum and the sum of their squares, exact."""

    pictures: int
    pixels: int
    sums: tuple[int, ...]
    squares: tuple[int, ...]

    @classmethod
    def of(cls, pixels: npt.NDArray[np.uint8]) -> Self:
        """Of a picture, uint8 (H, W, C), C-contiguous. Needs the kernels or OpenCV."""
        height, width, channels = pixels.shape
        found = None if kernels.c is None else kernels.c.channel_sums(pixels, channels, True)
        if found is not None:
            return cls(1, height * width, *found)
        cv2 = opencv()
        planes = _room.planes(channels, height, width)
        cv2.split(pixels, planes)
        sums = tuple(round(cv2.sumElems(plane)[0]) for plane in planes)
        return cls(1, height * width, sums, tuple(round(cv2.norm(plane, cv2.NORM_L2SQR)) for plane in planes))

    def plus(self, other: PixelMoments) -> PixelMoments:
        sums = tuple(map(sum, zip(self.sums, other.sums, strict=True)))
        squares = tuple(map(sum, zip(self.squares, other.squares, strict=True)))
        return PixelMoments(self.pictures + other.pictures, self.pixels + other.pixels, sums, squares)

    def channels(self) -> Channels:
        mean = tuple(total / self.pixels for total in self.sums)
        pairs = zip(self.sums, self.squares, strict=True)
        return Channels(self.pixels, mean, tuple(_exact_std(self.pixels, *pair) for pair in pairs))


class NumbersMeasure:
    """Measures numbers of one dtype, bool, integers or floats.

    Args:
        dtype: of the numbers.
        work: float64 (n,), n being the size of a group: room to compute in, which several measures may share.
        counts: whether integers are counted one by one.
    """

    def __init__(self, dtype: np.dtype[Any], work: Floats, counts: bool = False) -> None:
        self._dtype = np.dtype("u1") if dtype.kind == "b" else dtype
        self._work = work
        self._group = len(work)
        self._buffer: Values | None = None
        self._filled = 0
        self.numbers = Numbers()
        self.counts: dict[int, int] | None = {} if counts and self._dtype.kind in "iu" else None

    def add(self, values: Values) -> None:
        """Takes numbers (n,) of the dtype."""
        values = values.view(self._dtype)
        at = 0
        while at < len(values):
            if not self._filled and len(values) - at >= self._group:
                self._reduce(values[at : at + self._group])
                at += self._group
                continue
            if self._buffer is None:
                self._buffer = np.empty(self._group, self._dtype)
            part = values[at : at + self._group - self._filled]
            self._buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            at += len(part)
            if self._filled == self._group:
                self.finish()

    def finish(self) -> None:
        """Takes what waits for a group to be full."""
        if self._buffer is not None and self._filled:
            self._reduce(self._buffer[: self._filled])
            self._filled = 0

    def _reduce(self, values: Values) -> None:
        if self._dtype.kind == "f":
            self.numbers = self.numbers.merged(_of_floats(values, self._work))
            return
        found = _of_integers(values, self._work)
        self.numbers = self.numbers.merged(found)
        if self.counts is not None:
            self.counts = _with_counts(self.counts, values, found)


def _of_integers(values: Values, work: Floats) -> Numbers:
    low, high = int(values.min()), int(values.max())
    count, most = len(values), max(-low, high)
    if low == high:
        return Numbers(count, 0, 0, low, high, float(low), 0.0, low * count)
    if values.dtype == np.uint8:
        total, squares = _sums_of_bytes(values, work)
        std: float | None = _exact_std(count, total, squares)
    elif values.itemsize == 8 and most * most * count < 1 << 63:
        total, squares = int(values.sum()), int(np.einsum("i,i->", values, values))
        std = _exact_std(count, total, squares)
    else:
        total = int(values.sum()) if most * count < 1 << 63 else _sum_of_halves(values)
        wide = work[:count]
        wide[:] = values
        std = _deviation(wide, total / count)
    return Numbers(count, 0, 0, low, high, total / count, std, total)


def _sum_of_halves(values: Values) -> int:
    """The sum of 64-bit integers that 64 bits may not hold, of fewer than 2^32."""
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())


def _of_floats(values: Values, work: Floats) -> Numbers:
    with np.errstate(over="ignore", invalid="ignore"):
        wide = values
        if values.dtype != np.float64:
            wide = work[: len(values)]
            wide[:] = values
        total, nan, infinite = float(np.einsum("i->", wide)), 0, 0  # in less time than wide.sum()
        if not math.isfinite(total):  # or all numbers are finite
            nan, infinite = int(np.isnan(wide).sum()), int(np.isinf(wide).sum())
            values = wide = wide[np.isfinite(wide)]
            total = float(wide.sum())
        if not len(wide):
            return Numbers(0, nan, infinite)
        low, high, mean = float(values.min()), float(values.max()), finite(total / len(wide))
        std = None if mean is None else 0.0 if low == high else _deviation(wide, mean)
    return Numbers(len(wide), nan, infinite, low, high, mean, std)


def _sums_of_bytes(values: Values, work: Floats) -> tuple[int, int]:
    """The sum of bytes and of their squares. OpenCV takes an eighth of the time, and gives the same integers."""
    if (cv2 := opencv_if_there()) is None:
        wide = work[: len(values)]
        wide[:] = values  # in which all of these sums are exact
        return int(np.einsum("i->", wide)), int(np.einsum("i,i->", wide, wide))
    row = values.reshape(1, -1)
    return round(cv2.sumElems(row)[0]), round(cv2.norm(row, cv2.NORM_L2SQR))


def _exact_std(count: int, total: int, squares: int) -> float:
    return math.sqrt(count * squares - total * total) / count


def _deviation(values: Floats, mean: float) -> float | None:
    """The standard deviation of numbers; None if it overflows."""
    squared = mean * mean
    variance = float(np.einsum("i,i->", values, values)) / len(values) - squared
    if not variance > _CANCELLED * squared:  # the difference of two large numbers
        values = values - mean
        variance = float(np.einsum("i,i->", values, values)) / len(values)
    return math.sqrt(variance) if variance < math.inf else None


def _with_counts(counts: dict[int, int], values: Values, found: Numbers) -> dict[int, int] | None:
    """The counts with these integers too; None once they are too many."""
    low, high = found.min, found.max
    assert isinstance(low, int)
    assert isinstance(high, int)
    if high - low < _COUNTED_RANGE:
        distances = (values - values.dtype.type(low)).view(f"u{values.itemsize}")  # right even where this overflows
        often = np.bincount(distances.view("i8") if values.itemsize == 8 else distances.astype(np.intp))
        different = np.flatnonzero(often)
        often = often[different]
    else:
        different, often = np.unique(values, return_counts=True)
        low = 0
    if len(different) > MOST_VALUES:
        return None
    for value, count in zip(different.tolist(), often.tolist(), strict=True):
        counts[value + low] = counts.get(value + low, 0) + count
    return counts if len(counts) <= MOST_VALUES else None
