"""The statistics of a field in words."""

from __future__ import annotations

from collections.abc import Iterator

from recordio.display.text import bytes_text, count_text
from recordio.format.fields import Bytes, Field, Object, Text
from recordio.statistics.records import Channels, Extent, FieldStatistics, Numbers

VALUES_SHOWN = 10


def statistics_text(kind: Field, one: FieldStatistics) -> str:
    """Such as '60,000 values, 0 to 9, mean 4.454 ± 2.889'."""
    missing = [f"{one.missing:,} missing"] if one.missing else []
    return ", ".join([count_text(one.count, "value"), *missing, *_parts(kind, one)])


def _parts(kind: Field, one: FieldStatistics) -> Iterator[str]:
    if one.lengths is not None and one.lengths.count:
        unit = "bytes" if isinstance(kind, (Text, Bytes, Object)) or one.formats is not None else "elements"
        yield _extent(one.lengths, unit)
    if one.formats:
        yield ", ".join(f"{count:,} {name}" for name, count in sorted(one.formats.items(), key=lambda pair: -pair[1]))
    if one.height is not None and one.width is not None and one.height.count:
        yield f"height {_range(one.height)}, width {_range(one.width)}"
    if one.channels is not None:
        yield _channels(one.channels)
    if one.numbers is not None:
        yield from _numbers(one.numbers)
    if one.values and one.count:
        yield f"{len(one.values):,} different"


def _range(one: Extent) -> str:
    return f"{one.min:,}" if one.min == one.max else f"{one.min:,} to {one.max:,} (mean {one.mean:,.4g})"


def _extent(one: Extent, unit: str) -> str:
    if unit == "bytes":
        words = f"{bytes_text(one.min)} to {bytes_text(one.max)} (mean {bytes_text(round(one.mean))})"
        return bytes_text(one.min) if one.min == one.max else words
    return f"{_range(one)} {unit}, {one.total:,} in all"


def _channels(one: Channels) -> str:
    means, stds = (" ".join(f"{value / 255:.4f}" for value in values) for values in (one.mean, one.std))
    return f"mean {means}, std {stds} (of 0 to 1)"


def _numbers(one: Numbers) -> Iterator[str]:
    if one.count:
        yield f"{one.min:.6g}" if one.min == one.max else f"{one.min:.6g} to {one.max:.6g}"
        if one.mean is not None and one.std is not None and one.min != one.max:
            yield f"mean {one.mean:.4g} ± {one.std:.4g}"
    for count, name in ((one.nan, "NaN"), (one.infinite, "infinite")):
        if count:
            yield f"{count:,} {name}"
