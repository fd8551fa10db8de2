"""What the values of a field look like together: facts and a histogram.

A value is measured when it is read, so that a thousand pictures need not be in memory at a time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recordio.display.text import bytes_text, clean, cut
from recordio.display.values import Damaged
from recordio.errors import DecodeError
from recordio.format.fields import Bytes, Field, Text
from recordio.format.image_field import Image
from recordio.format.numeric import Numeric, Scalar
from recordio.images.header import read_header

BINS = 24
MOST_BARS = 24  # of a histogram of names; the rest is one bar
_ELEMENTS = 64  # of an array, evenly spread, that take part in its histogram
_NAME_COLUMNS = 40


class Bars(NamedTuple):
    """A histogram.

    Attributes:
        title: what is counted.
        bars: (name, count), in order.
        of_names: whether each bar has a name to be read, rather than an interval of numbers.
    """

    title: str
    bars: list[tuple[str, int]]
    of_names: bool = False


class Summary(NamedTuple):
    """Attributes:
    facts: (name, words).
    bars: a histogram, None if there is nothing to count.
    """

    facts: list[tuple[str, str]]
    bars: Bars | None = None


def measure(kind: Field, value: Any) -> Any:
    """What `summarise` needs of a stored value: None if it is missing, a Damaged as it is, else little."""
    if value is None or isinstance(value, Damaged):
        return value
    if isinstance(kind, Image) and kind.encoded:
        return _measure_file(value)
    if isinstance(kind, Scalar):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(kind, Numeric):
        flat = value.reshape(-1)
        return value.shape, flat[:: max(1, -(-flat.size // _ELEMENTS))].copy()
    if isinstance(kind, Text):
        return len(value), cut(value, _NAME_COLUMNS)
    return len(value) if isinstance(kind, Bytes) else _form(value)


def _measure_file(data: bytes) -> Any:
    try:
        header = read_header(data)
    except DecodeError as error:
        return Damaged(error.fault)
    return header.format, header.height, header.width, len(data)


def _form(value: Any) -> str:
    """The form of an object, such as '{"a", "b"}'."""
    if isinstance(value, dict):
        return cut("{" + ", ".join(f'"{name}"' for name in list(value)[:BINS]) + "}", _NAME_COLUMNS)
    return type(value).__name__


def summarise(kind: Field, measures: Sequence[Any], classes: Sequence[Any] | None = None) -> Summary:
    """The summary of a field from the measures of its values. `classes`: names of the classes if it is a label."""
    good = [one for one in measures if one is not None and not isinstance(one, Damaged)]
    summary = _summary(kind, good, classes) if good else Summary([])
    missing, damaged = (sum(test(one) for one in measures) for test in (_is_missing, _is_damaged))
    for name, count in (("missing", missing), ("cannot be read", damaged)):
        if count:
            summary.facts.append((name, f"{count:,} of {len(measures):,}"))
    return summary


def _is_missing(value: Any) -> bool:
    return value is None


def _is_damaged(value: Any) -> bool:
    return isinstance(value, Damaged)


def _summary(kind: Field, good: list[Any], classes: Sequence[Any] | None) -> Summary:
    if isinstance(kind, Image) and kind.encoded:
        return _pictures(good)
    if isinstance(kind, Scalar):
        return _labels(good, classes) if classes is not None and kind.dtype.kind in "iu" else _numbers(good)
    if isinstance(kind, Numeric):
        return _arrays(kind, good, classes)
    if isinstance(kind, Text):
        return _texts(good)
    if isinstance(kind, Bytes):
        return Summary([("size", _range(good, bytes_text))], histogram("bytes", good))
    return Summary([], names_histogram("form", Counter(good)))


def _labels(labels: Iterable[int], classes: Sequence[Any], what: str = "samples") -> Summary:
    counts = Counter(labels)
    found = sum(0 <= label < len(classes) for label in counts)
    return Summary([("classes", f"{found:,} of {len(classes):,} seen")], label_histogram(counts, classes, what))


def label_histogram(counts: Mapping[int, int], classes: Sequence[Any], what: str = "samples") -> Bars:
    """How often each class was seen, by number. Of more than MOST_BARS classes only the most frequent are named."""
    counts = dict.fromkeys(range(len(classes)), 0) | dict(sorted(counts.items()))
    kept = sorted(counts, key=lambda label: -counts[label])[:MOST_BARS]
    shown = sorted(kept) if len(counts) <= MOST_BARS else kept
    bars = [(class_name(label, classes), counts[label]) for label in shown]
    rest = sum(counts.values()) - sum(counts[label] for label in shown)
    return Bars(f"{what} by class", bars + _others(len(counts) - len(shown), rest), of_names=True)


def class_name(label: int, classes: Sequence[Any]) -> str:
    """The name of a class; the number itself if it has none."""
    return cut(str(classes[label]), _NAME_COLUMNS) if 0 <= label < len(classes) else f"{label} (no such class)"


def _others(names: int, count: int) -> list[tuple[str, int]]:
    return [(f"{names:,} others", count)] if names else []


def names_histogram(title: str, counts: Counter[str]) -> Bars:
    """The most frequent names, and all others as one."""
    top = counts.most_common(MOST_BARS)
    rest = counts.total() - sum(count for _, count in top)
    return Bars(title, top + _others(len(counts) - len(top), rest), of_names=True)


def _numbers(values: Sequence[Any]) -> Summary:
    if isinstance(values[0], complex):
        return Summary([("values", f"{len(values):,} complex numbers")])
    array = np.array(values, np.float64)
    finite = array[np.isfinite(array)]
    facts = [("not finite", f"{array.size - finite.size:,} of {array.size:,}")] if finite.size < array.size else []
    if finite.size:
        facts = [("range", _range(finite.tolist(), _short)), *_mean(finite), *facts]
    return Summary(facts, histogram("values", values))


def _mean(finite: Any) -> list[tuple[str, str]]:
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(finite.mean()), float(finite.std())
    return [("mean", f"{mean:.4g} ± {deviation:.4g}")] if math.isfinite(mean) and math.isfinite(deviation) else []


def _arrays(kind: Numeric, good: Sequence[Any], classes: Sequence[Any] | None) -> Summary:
    shapes, elements = zip(*good, strict=True)
    values = np.concatenate(elements)
    free = [axis for axis, n in enumerate(kind.shape) if n is None]
    facts = [(f"length, axis {axis}", _range([shape[axis] for shape in shapes], _short)) for axis in free]
    if not values.size:
        return Summary([*facts, ("values", "none")])
    if classes is not None and kind.dtype.kind in "iu":
        labels = _labels(values.tolist(), classes, "labels")
        return Summary([*facts, *labels.facts], labels.bars)
    of_values = _numbers(values.tolist())
    lengths = histogram(f"lengths, axis {free[0]}", [shape[free[0]] for shape in shapes]) if free else None
    return Summary([*facts, *of_values.facts], lengths or of_values.bars)


def _texts(good: Sequence[Any]) -> Summary:
    lengths = [length for length, _ in good]
    counts = Counter(words for _, words in good)
    facts = [("characters", _range(lengths, _short)), ("different", f"{len(counts):,} of {len(good):,}")]
    if len(counts) <= MOST_BARS and 2 * len(counts) <= len(good):
        return Summary(facts, names_histogram("texts", counts))
    return Summary(facts, histogram("characters", lengths))


def _pictures(good: Sequence[Any]) -> Summary:
    formats = Counter(name for name, *_ in good)
    facts = [
        ("height", _range([height for _, height, _, _ in good], _short)),
        ("width", _range([width for _, _, width, _ in good], _short)),
        ("file", _range([nbytes for *_, nbytes in good], bytes_text)),
        ("format", ", ".join(f"{name} {count:,}" for name, count in formats.most_common())),
    ]
    return Summary(facts, histogram("longer side in pixels", [max(height, width) for _, height, width, _ in good]))


def histogram(title: str, values: Sequence[Any]) -> Bars | None:
    """Counts of numbers in intervals of one width; few different integers are counted one by one.

    None if all are the same, or none is finite.
    """
    if all(isinstance(value, int) for value in values):
        bars = _integer_bars(values)
    else:
        array = np.array(values, np.float64)
        bars = _float_bars(array[np.isfinite(array)])
    return Bars(title, bars) if len(bars) > 1 else None


def _integer_bars(values: Sequence[int]) -> list[tuple[str, int]]:
    counts = Counter(values)
    if len(counts) <= BINS:
        return [(_short(value), counts[value]) for value in sorted(counts)]
    low, high = min(counts), max(counts)
    width = -(-(high - low + 1) // BINS)
    bins = Counter((value - low) // width for value in values)
    starts = range(low, high + 1, width)
    return [(f"{_short(start)} to {_short(min(start + width - 1, high))}", bins[k]) for k, start in enumerate(starts)]


def _float_bars(array: npt.NDArray[np.float64]) -> list[tuple[str, int]]:
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    half = high / 2 - low / 2  # high - low could overflow
    if not half > 0:
        return []
    bins = ((array / 2 - low / 2) / half * BINS).astype(np.int64).clip(0, BINS - 1)
    edges = [_short(low + 2 * (half * (k / BINS))) for k in range(BINS)] + [_short(high)]
    counts = np.bincount(bins, minlength=BINS).tolist()
    return [(f"{edges[k]} to {edges[k + 1]}", count) for k, count in enumerate(counts)]


def _range(values: Sequence[Any], words: Any) -> str:
    low, high = words(min(values)), words(max(values))
    return low if low == high else f"{low} to {high}"


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return clean(str(value).lower())
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}" if abs(value) < 1e9 else f"{value:.4g}"
    return f"{value:.4g}"
