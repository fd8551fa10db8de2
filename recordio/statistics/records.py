"""The statistics of fields: records, their JSON, and the record of two parts of a dataset together.

Counts, extents, histograms and sums of integers are exact. Means and standard deviations are float64: of groups of
32,768 numbers, then of these together by the method of Chan, Golub and LeVeque, in order. So they depend on the samples
and their order alone, and about 12 digits of them are right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Self

from recordio.errors import CorruptError
from recordio.format.shard_table import require_count

Number = int | float
MOST_VALUES = 1000  # different integers of a field that are counted one by one


@dataclass(frozen=True, slots=True)
class Numbers:
    """How numbers are spread; those of an array count one by one.

    Attributes:
        count: how many are finite. The others are no part of what follows.
        nan: how many are not a number.
        infinite: how many are infinite.
        min, max: None without any. Integers are exact.
        mean, std: of the whole: the root of the mean square distance from the mean. None without any, and where a
            float64 overflows.
        sum: of integers, exact; None of floats.
    """

    count: int = 0
    nan: int = 0
    infinite: int = 0
    min: Number | None = None
    max: Number | None = None
    mean: float | None = None
    std: float | None = None
    sum: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        found = _object(value, "numbers")
        counts = {name: _count(found, name) for name in ("count", "nan", "infinite")}
        rest = {name: _number(found, name) for name in ("min", "max", "mean", "std", "sum")}
        if rest["sum"] is not None and type(rest["sum"]) is not int:
            raise CorruptError("the sum of integers in the statistics is no integer")
        return cls(**counts, **rest)  # type: ignore[arg-type]

    def merged(self, other: Self) -> Self:
        if not (self.count and other.count):
            some = self if self.count else other
            return type(self)(some.count, self.nan + other.nan, self.infinite + other.infinite, *_spread(some))
        count = self.count + other.count
        total = None if self.sum is None or other.sum is None else self.sum + other.sum
        mean, std = _moments(self, other)
        return type(self)(
            count=count,
            nan=self.nan + other.nan,
            infinite=self.infinite + other.infinite,
            min=_least(self.min, other.min),
            max=_most(self.max, other.max),
            mean=mean if total is None else total / count,
            std=std,
            sum=total,
        )


def _spread(one: Numbers) -> tuple[Any, ...]:
    return one.min, one.max, one.mean, one.std, one.sum


def _moments(a: Numbers, b: Numbers) -> tuple[float | None, float | None]:
    """Mean and standard deviation of both together."""
    if a.mean is None or b.mean is None:
        return None, None
    count, distance = a.count + b.count, b.mean - a.mean
    mean = a.mean + distance * (b.count / count)
    if a.std is None or b.std is None:
        return finite(mean), None
    variance = (a.std * a.std * a.count + b.std * b.std * b.count) / count
    variance += (distance * (a.count / count)) * (distance * (b.count / count))
    return finite(mean), finite(math.sqrt(variance)) if variance < math.inf else None


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _least(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else min(a, b)


def _most(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else max(a, b)


@dataclass(frozen=True, slots=True)
class Extent:
    """How large values are: count, smallest, largest, and the sum of all."""

    count: int = 0
    min: int = 0
    max: int = 0
    total: int = 0

    @property
    def mean(self) -> float:
        """0 without values."""
        return self.total / self.count if self.count else 0.0

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        found = _object(value, "sizes")
        return cls(**{name: _count(found, name) for name in ("count", "min", "max", "total")})

    def merged(self, other: Self) -> Self:
        if not (self.count and other.count):
            return self if self.count else other
        low, high = min(self.min, other.min), max(self.max, other.max)
        return type(self)(self.count + other.count, low, high, self.total + other.total)


@dataclass(frozen=True, slots=True)
class Channels:
    """Mean and standard deviation of each channel of pixels, of 0 to 255, over all pixels of all pictures."""

    pixels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        return {"pixels": self.pixels, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        found = _object(value, "channels")
        mean, std = found.get("mean"), found.get("std")
        if not (isinstance(mean, list) and isinstance(std, list) and 0 < len(mean) == len(std) <= 4):
            raise CorruptError("the statistics of channels are not 1 to 4 means and standard deviations")
        numbers = [_number({"it": one}, "it") for one in (*mean, *std)]
        if None in numbers:
            raise CorruptError("the statistics of a channel lack a number")
        return cls(_count(found, "pixels"), tuple(numbers[: len(mean)]), tuple(numbers[len(mean) :]))  # type: ignore[arg-type]

    def merged(self, other: Self) -> Self | None:
        if len(self.mean) != len(other.mean):
            return None
        both = [
            _moments(Numbers(self.pixels, mean=a, std=s), Numbers(other.pixels, mean=b, std=t))
            for a, s, b, t in zip(self.mean, self.std, other.mean, other.std, strict=True)
        ]
        means, stds = (tuple(float(one[k] or 0.0) for one in both) for k in (0, 1))
        return type(self)(self.pixels + other.pixels, means, stds)


@dataclass(frozen=True, slots=True)
class FieldStatistics:
    """The statistics of one field.

    Attributes:
        count: values that are there.
        missing: values that are not.
        numbers: of a scalar or array; None for complex ones.
        values: how often each integer stands there, None where they are more than 1,000, of a fixed array, and for
            other types than bool and integers.
        lengths: bytes of texts (UTF-8), bytes, objects and picture files; elements of arrays with a free dimension.
        formats: picture files by format; "unreadable" are those without a header.
        height, width: of pictures in pixels.
        channels: of pixels; None for picture files that were not decoded on the way.
    """

    count: int = 0
    missing: int = 0
    numbers: Numbers | None = None
    values: Mapping[int, int] | None = None
    lengths: Extent | None = None
    formats: Mapping[str, int] | None = None
    height: Extent | None = None
    width: Extent | None = None
    channels: Channels | None = None

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"count": self.count, "missing": self.missing}
        for name in ("numbers", "lengths", "height", "width", "channels"):
            if (part := getattr(self, name)) is not None:
                out[name] = part.to_json()
        if self.values is not None:
            out["values"] = [[value, self.values[value]] for value in sorted(self.values)]
        if self.formats is not None:
            out["formats"] = dict(sorted(self.formats.items()))
        return out

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Raises CorruptError."""
        found = _object(value, "a field")
        parts: dict[str, Any] = {"count": _count(found, "count"), "missing": _count(found, "missing")}
        readers: dict[str, Callable[[Any], Any]] = {
            "numbers": Numbers.from_json,
            "lengths": Extent.from_json,
            "height": Extent.from_json,
            "width": Extent.from_json,
            "channels": Channels.from_json,
            "values": _values,
            "formats": _formats,
        }
        return cls(**parts, **{name: read(found[name]) for name, read in readers.items() if name in found})

    def merged(self, other: Self) -> Self:
        """The statistics of both parts. What one of them does not say is not said."""
        parts = {
            name: None if a is None or b is None else a.merged(b)
            for name in ("numbers", "lengths", "height", "width", "channels")
            for a, b in [(getattr(self, name), getattr(other, name))]
        }
        values = _added(self.values, other.values)
        return type(self)(
            count=self.count + other.count,
            missing=self.missing + other.missing,
            values=values if values is None or len(values) <= MOST_VALUES else None,
            formats=_added(self.formats, other.formats),
            **parts,
        )


def _added(a: Mapping[Any, int] | None, b: Mapping[Any, int] | None) -> dict[Any, int] | None:
    if a is None or b is None:
        return None
    return {key: a.get(key, 0) + b.get(key, 0) for key in {**a, **b}}


@dataclass(frozen=True)
class Statistics(Mapping[str, FieldStatistics]):
    """The statistics of a dataset, by field."""

    fields: Mapping[str, FieldStatistics] = field(default_factory=dict)

    def __getitem__(self, name: str) -> FieldStatistics:
        return self.fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def to_json(self) -> dict[str, Any]:
        return {"fields": {name: one.to_json() for name, one in self.fields.items()}}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Raises CorruptError."""
        fields = _object(_object(value, "the dataset").get("fields"), "the fields")
        return cls({name: FieldStatistics.from_json(one) for name, one in fields.items()})

    def merged(self, other: Self) -> Self:
        """The statistics of this part and then the other, of the fields that both have."""
        return type(self)({name: one.merged(other[name]) for name, one in self.items() if name in other})


def checked_json(value: Any) -> dict[str, Any] | None:
    """The JSON of statistics, without what is unknown; None for none. Raises CorruptError."""
    return None if value is None else Statistics.from_json(value).to_json()


def merged_json(parts: Sequence[Any]) -> dict[str, Any] | None:
    """The JSON of the statistics of all parts, in order, None if one has none. Raises CorruptError."""
    if not parts or any(part is None for part in parts):
        return None
    return reduce(Statistics.merged, map(Statistics.from_json, parts)).to_json()


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CorruptError(f"the statistics of {what} are no object")
    return value


def _count(found: Mapping[str, Any], name: str) -> int:
    return require_count(found.get(name), f"{name!r} of the statistics")


def _number(found: Mapping[str, Any], name: str) -> Number | None:
    value = found.get(name)
    if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):
        raise CorruptError(f"{name!r} of the statistics is {value!r:.40}: expected a number")
    return value


def _values(value: Any) -> dict[int, int]:
    pairs: list[Any] = value if isinstance(value, list) and len(value) <= MOST_VALUES else [None]
    if not all(isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is int for pair in pairs):
        raise CorruptError(f"the values of the statistics are not up to {MOST_VALUES:,} pairs of value and count")
    return {number: require_count(count, "the count of a value") for number, count in pairs}


def _formats(value: Any) -> dict[str, int]:
    return {name: require_count(count, "the count of a format") for name, count in _object(value, "formats").items()}
