"""tf.train.Example and SequenceExample, read from their bytes without TensorFlow.

The messages are those of tensorflow/core/example/{example,feature}.proto, read as protobuf reads them: unknown fields
are passed over, a key that stands twice has its last value, and numbers may be packed or not. Raises SourceError for
bytes that are none, and never reads beyond the message that they are in.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from recordio.errors import SourceError
from recordio.format.layout import MAX_FIELDS

Kind = Literal["bytes", "float", "int64"]
_Part = tuple[int, int, int]
_MAX_ITEMS = 1 << 24  # fields of a message: byte strings of a feature, steps of a list; each becomes an object
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types, the low three bits of a tag
_FIRST, _SECOND, _THIRD = (number << 3 | _BYTES for number in (1, 2, 3))
_FIRST_VARINT, _FIRST_FIXED32 = 1 << 3 | _VARINT, 1 << 3 | _FIXED32
_NONE = "not a tf.Example"
_FEW = 32  # bytes of packed integers below which a loop is faster than NumPy
_MAX_VARINT_NBYTES = 10


class Feature(NamedTuple):
    """The values of one feature: byte strings, float32 (n,) or int64 (n,)."""

    kind: Kind
    values: list[bytes] | npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Example:
    """An Example: `features` alone. A SequenceExample: `features` is its context, `lists` its feature lists.

    Features without any value of any kind are missing.
    """

    features: dict[str, Feature] = field(default_factory=dict)
    lists: dict[str, list[Feature | None]] = field(default_factory=dict)


def parse(data: bytes) -> Example:
    """The Example or SequenceExample in the bytes of a record. Raises SourceError."""
    found = Example()
    for tag, start, end in _fields(data, 0, len(data)):
        if tag == _FIRST:
            for key, at, stop in _entries(data, start, end):
                feature = _feature(data, at, stop)
                if feature is not None:
                    found.features[key] = feature
        elif tag == _SECOND:
            for key, at, stop in _entries(data, start, end):
                steps = _fields(data, at, stop)
                found.lists[key] = [_feature(data, *step) for step_tag, *step in steps if step_tag == _FIRST]
    if len(found.features) + len(found.lists) > MAX_FIELDS:
        raise SourceError(f"more than {MAX_FIELDS:,} features in a record")
    return found


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A varint and where it ends."""
    value = 0
    for shift in range(0, 7 * _MAX_VARINT_NBYTES, 7):
        if at >= end:
            raise SourceError(f"{_NONE}: it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise SourceError(f"{_NONE}: a number of more than {_MAX_VARINT_NBYTES} bytes")


def _fields(data: bytes, at: int, end: int) -> list[_Part]:
    """Tag, start and end of the value of each field of a message."""
    found: list[_Part] = []
    while at < end:
        tag, at = (data[at], at + 1) if data[at] < 128 else _varint(data, at, end)
        wire = tag & 7
        if wire == _BYTES:
            # Nearly all lengths are one byte, and nearly all the time is spent here.
            nbytes, at = (data[at], at + 1) if at < end and data[at] < 128 else _varint(data, at, end)
            stop = at + nbytes
        elif wire == _VARINT:
            _, stop = _varint(data, at, end)
        elif wire in (_FIXED32, _FIXED64):
            stop = at + (4 if wire == _FIXED32 else 8)
        else:
            raise SourceError(f"{_NONE}: a field of wire type {wire}")
        if stop > end:
            raise SourceError(f"{_NONE}: a field leads out of its message")
        if tag < 8:
            raise SourceError(f"{_NONE}: a field with the number 0")
        found.append((tag, at, stop))
        if len(found) > _MAX_ITEMS:
            raise SourceError(f"more than {_MAX_ITEMS:,} values or steps in one feature")
        at = stop
    return found


def _entries(data: bytes, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Key, start and end of the value of each entry of a map."""
    for tag, at, stop in _fields(data, start, end):
        if tag != _FIRST:
            continue
        key, value = b"", (stop, stop)
        for part, first, last in _fields(data, at, stop):
            if part == _FIRST:
                key = data[first:last]
            elif part == _SECOND:
                value = first, last
        try:
            yield key.decode("utf-8"), *value
        except UnicodeDecodeError as error:
            raise SourceError(f"{_NONE}: the name of a feature is not UTF-8: {key[:40]!r}") from error


def _feature(data: bytes, start: int, end: int) -> Feature | None:
    """One feature; None if it has no kind."""
    found: Feature | None = None
    for tag, at, stop in _fields(data, start, end):
        if tag in _VALUES:
            kind, values = _VALUES[tag]
            found = Feature(kind, values(data, at, stop))
    return found


def _only(data: bytes, start: int, end: int) -> bytes | None:
    """The value of a message whose only field is field 1, of bytes, as most lists are; None for any other message."""
    if end - start < 2 or data[start] != _FIRST:
        return None
    nbytes, at = (data[start + 1], start + 2) if data[start + 1] < 128 else _varint(data, start + 1, end)
    return data[at:end] if at + nbytes == end else None


def _byte_strings(data: bytes, start: int, end: int) -> list[bytes]:
    only = _only(data, start, end)
    return (
        [only] if only is not None else [data[at:stop] for tag, at, stop in _fields(data, start, end) if tag == _FIRST]
    )


def _floats(data: bytes, start: int, end: int) -> npt.NDArray[np.float32]:
    found = _only(data, start, end)
    if found is None:
        parts = [data[at:stop] for tag, at, stop in _fields(data, start, end) if tag in (_FIRST, _FIRST_FIXED32)]
        found = b"".join(parts)
    if len(found) % 4:
        raise SourceError(f"{_NONE}: packed floats of a wrong length")
    return np.frombuffer(found, "<f4")


def _int64s(data: bytes, start: int, end: int) -> npt.NDArray[np.int64]:
    only = _only(data, start, end)
    if only is not None:
        return unpack_varints(only)
    parts = [data[at:stop] for tag, at, stop in _fields(data, start, end) if tag in (_FIRST, _FIRST_VARINT)]
    return unpack_varints(b"".join(parts))


# By the tag of the list in a feature.
_VALUES: dict[int, tuple[Kind, Callable[[bytes, int, int], Any]]] = {
    _FIRST: ("bytes", _byte_strings),
    _SECOND: ("float", _floats),
    _THIRD: ("int64", _int64s),
}


def unpack_varints(data: bytes) -> npt.NDArray[np.int64]:
    """Varints that follow each other, as int64 (n,)."""
    if len(data) < _FEW:
        found, at = [], 0
        while at < len(data):
            value, at = _varint(data, at, len(data))
            found.append(value)
        return np.frombuffer(struct.pack(f"<{len(found)}Q", *found), "<i8")
    raw = np.frombuffer(data, np.uint8)
    stops = np.flatnonzero(raw < 128)
    if not len(stops) or stops[-1] != len(raw) - 1:
        raise SourceError(f"{_NONE}: it ends within a number")
    starts = np.append(0, stops[:-1] + 1)
    lengths = stops - starts + 1
    longest = int(lengths.max())
    if longest > _MAX_VARINT_NBYTES:
        raise SourceError(f"{_NONE}: a number of more than {_MAX_VARINT_NBYTES} bytes")
    values = (raw[starts] & 127).astype(np.uint64)
    for k in range(1, longest):
        longer = np.flatnonzero(lengths > k)
        values[longer] |= (raw[starts[longer] + k] & 127).astype(np.uint64) << np.uint64(7 * k)
    found64: npt.NDArray[np.int64] = values.view("<i8")
    return found64
