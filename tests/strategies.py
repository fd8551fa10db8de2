"""Strategies for schemas and samples, and bitwise comparison of values."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st

from recordio import Array, Bytes, Image, Object, Scalar, Schema, Text
from recordio.format.fields import Field
from recordio.format.schema import DTYPES

Sample = dict[str, Any]

WORDS = ["", "a", "\0", "grüße", "\u2028", "🦉" * 3, "x" * 40]
OBJECTS = [None, True, 0, -(2**63), 2**64 - 1, 0.5, "", "ü", b"\0\xff", [], {}, [1, [2, [3]]], {"a": {"b": [None]}}]


def png(height: int, width: int, value: int = 0) -> bytes:
    """A grey PNG of one value."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes([value]) * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


IMAGES = [png(1, 1), png(2, 3, 7), png(5, 4, 255)]


def _present(optional: bool, *shape: int | None) -> bool:
    """Whether a batch can mark such an array as missing: it needs elements."""
    return not (optional and 0 in shape and None not in shape)


def fields() -> st.SearchStrategy[Field]:
    """Any field."""
    dtypes, optional = st.sampled_from(DTYPES), st.booleans()
    size = st.sampled_from([0, 1, 2, 3, None])
    shapes = st.lists(size, min_size=1, max_size=3).map(tuple)
    arrays = st.tuples(dtypes, shapes, optional).filter(lambda given: _present(given[2], *given[1]))
    pixels = st.tuples(size, size, st.sampled_from([(), (1,), (3,), (4,)]), optional)
    return st.one_of(
        st.builds(Scalar, dtypes, optional),
        arrays.map(lambda given: Array(*given)),
        st.builds(Text, optional),
        st.builds(Bytes, optional),
        st.builds(Object, optional),
        st.builds(Image, st.just("L"), st.none(), optional),
        pixels.filter(lambda given: _present(given[3], *given[:2])).map(
            lambda given: Image(shape=(*given[:2], *given[2]), optional=given[3])
        ),
    )


def schemas(most: int = 4) -> st.SearchStrategy[Schema]:
    """Any schema of at most `most` fields."""
    names = st.sampled_from(["a", "b", "label", "näme", "with space", "manifest.json", "x" * 255])
    return st.dictionaries(names, fields(), min_size=1, max_size=most).map(Schema)


def numbers(dtype: np.dtype[Any], shape: Sequence[int], random: Random) -> np.ndarray[Any, Any]:
    """Random bits as numbers of this dtype, including infinities and NaN."""
    count = int(np.prod(shape, dtype=np.int64))
    if dtype.kind == "b":
        return np.array([random.random() < 0.5 for _ in range(count)], bool).reshape(shape)
    return np.frombuffer(random.randbytes(count * dtype.itemsize), dtype).reshape(shape).copy()


def value(field: Field, random: Random) -> Any:
    """A value of the field, as reading gives it back; often missing if the field is optional."""
    if field.optional and random.random() < 0.4:
        return None
    if isinstance(field, Text):
        return random.choice(WORDS)
    if isinstance(field, Bytes):
        return random.randbytes(random.choice([0, 1, 7, 300]))
    if isinstance(field, Object):
        return random.choice(OBJECTS[1:] if field.optional else OBJECTS)
    if isinstance(field, Image) and field.encoded:
        return random.choice(IMAGES)
    assert isinstance(field, (Scalar, Array, Image))
    shape = [random.randrange(4) if n is None else n for n in field.shape]
    out = numbers(field.dtype, shape, random)
    return out[()] if isinstance(field, Scalar) else out


def samples(schema: Schema, count: int, random: Random) -> list[Sample]:
    """`count` random samples."""
    return [{name: value(field, random) for name, field in schema.items()} for _ in range(count)]


def columns(schema: Schema, rows: Sequence[Sample]) -> dict[str, Any]:
    """The samples as columns for `write_batch`: arrays where possible."""
    return {name: _column(field, [row[name] for row in rows]) for name, field in schema.items()}


def _column(field: Field, values: list[Any]) -> Any:
    if field.row_nbytes is None or field.optional or not values:
        return values
    return np.stack([np.asarray(v) for v in values])


def alike(got: Any, want: Any) -> bool:
    """Whether two values have the same type and bits."""
    if isinstance(want, (np.ndarray, np.generic)):
        if not isinstance(got, (np.ndarray, np.generic)):
            return False
        return (got.dtype, got.shape, got.tobytes()) == (want.dtype, want.shape, want.tobytes())
    return type(got) is type(want) and bool(got == want)


def cells(column: Any) -> list[Any]:
    """The values of a column one by one, None where one is missing."""
    if not isinstance(column, np.ma.MaskedArray) or not len(column):
        return list(column)
    gone = np.ma.getmaskarray(column).reshape(len(column), -1).any(axis=1)
    return [None if missing else value for value, missing in zip(column.data, gone, strict=True)]


def same_samples(got: Iterable[Sample], want: Iterable[Sample]) -> bool:
    """Whether two sequences of samples are equal."""
    pairs = list(zip(list(got), list(want), strict=True))
    return all(a.keys() == b.keys() and all(alike(a[k], b[k]) for k in b) for a, b in pairs)


def same_columns(got: dict[str, Any], want: Sequence[Sample], names: Iterable[str]) -> bool:
    """Whether a batch equals these samples, in order."""
    found = {name: cells(column) for name, column in got.items()}
    return list(found) == list(names) and all(
        len(found[name]) == len(want) and all(map(alike, found[name], [row[name] for row in want])) for name in found
    )


def outcome(function: Callable[[], Any]) -> str:
    """The type of the error that a call raises, or "a value"."""
    try:
        function()
    except Exception as error:  # noqa: BLE001 - any of them is an answer
        return type(error).__name__
    return "a value"
