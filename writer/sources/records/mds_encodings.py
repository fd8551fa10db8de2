"""The encodings of MDS columns: how a value is read from its bytes, and which field holds it.

They are those of streaming/base/format/mds/encodings.py. `pkl` is refused: reading it could run any program.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import SchemaError, SourceError
from recordio.format import strict_json
from recordio.format.fields import Field, Object, Text
from recordio.format.numeric import Array, Scalar
from recordio.images.raw import raw_png
from recordio.writer.sources.records.indexed_shards import ShardColumn, sized_parts
from recordio.writer.sources.records.inferred import (
    ArrayColumn,
    BytesColumn,
    Column,
    JsonValues,
    KnownColumn,
    PicturesColumn,
)
from recordio.writer.sources.source import SourceOptions

_SCALARS = {"int": "int64"} | {
    name: name for name in "uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64".split()
}
_DTYPES = {8: "uint8", 9: "int8", 16: "uint16", 17: "int16", 18: "float16", 32: "uint32", 33: "int32", 34: "float32",
           64: "uint64", 65: "int64", 66: "float64"}  # fmt: skip
_MAX_DIGITS = 4000  # Python reads no more of an integer
Decoder = Callable[[bytes], Any]


def _text(data: bytes) -> str:
    return data.decode("utf-8")


def _integer(data: bytes) -> int:
    if len(data) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(data)} digits")
    return int(_text(data))


def _decimal(data: bytes) -> str:
    """The digits of a decimal number as they are: no number of a dataset has as many."""
    text = _text(data)
    try:
        Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text[:40]!r} is no decimal number") from error
    return text


def _json(data: bytes) -> Any:
    return strict_json.parse(_text(data))


def _float(data: bytes) -> float:
    return float(_text(data))


def _list(data: bytes) -> list[bytes]:
    """The parts of a list, which begins with four bytes of no meaning."""
    return sized_parts(data, 4)


def _raw_pictures(data: bytes) -> list[bytes]:
    return [raw_png(part) for part in _list(data)]


def _bytes(data: bytes) -> bytes:
    return data


# Encodings whose field is known, and those whose field is found by looking at the values.
_KNOWN: dict[str, tuple[Decoder, Field]] = {
    "str": (_text, Text()),
    "str_float": (_float, Scalar("float64")),
    "str_decimal": (_decimal, Text()),
    "jpeg_array": (sized_parts, Object()),
    "jpegarray": (sized_parts, Object()),
    "list[jpeg]": (_list, Object()),
    "list[png]": (_list, Object()),
    "list[pil]": (_raw_pictures, Object()),
}
_LOOKED_AT: dict[str, tuple[Decoder, Callable[[str, SourceOptions], Column]]] = {
    "bytes": (_bytes, lambda name, options: BytesColumn(name, options, texts=False)),
    "jpeg": (_bytes, PicturesColumn),
    "png": (_bytes, PicturesColumn),
    "pil": (raw_png, PicturesColumn),
    "json": (_json, lambda name, options: JsonValues()),
    "str_int": (_integer, lambda name, options: JsonValues()),
}


def mds_column(name: str, encoding: str, options: SourceOptions) -> ShardColumn:
    """A column of this encoding. Raises SourceError for one that is not read."""
    if encoding == "pkl":
        text = "the column is pickled, and could run any program when it is read: write it with another encoding"
        raise SourceError(text).at(field=name)
    if encoding in _KNOWN:
        decode, field = _KNOWN[encoding]
        return ShardColumn(name, decode, KnownColumn(field))
    if encoding in _LOOKED_AT:
        decode, infer = _LOOKED_AT[encoding]
        return ShardColumn(name, decode, infer(name, options))
    if encoding in _SCALARS:
        dtype = np.dtype(_SCALARS[encoding])
        return ShardColumn(name, partial(_scalar, dtype=dtype), KnownColumn(Scalar(dtype)))
    dtype_name, shape = _ndarray(name, encoding)
    if dtype_name is not None and shape is not None:
        array = Array(dtype_name, shape)
        return ShardColumn(name, partial(_elements, dtype=array.dtype, shape=array.shape), KnownColumn(array))
    return ShardColumn(name, partial(_dynamic, dtype=dtype_name), ArrayColumn(name))


def fixed_nbytes(name: str, encoding: str) -> int | None:
    """The bytes that each value of an encoding takes, None if they differ. Raises SourceError for unknown encodings."""
    if encoding in _SCALARS:
        return np.dtype(_SCALARS[encoding]).itemsize
    if encoding in _KNOWN or encoding in _LOOKED_AT or encoding == "pkl":
        return None
    dtype, shape = _ndarray(name, encoding)
    return None if dtype is None or shape is None else np.dtype(dtype).itemsize * math.prod(shape)


def _ndarray(name: str, encoding: str) -> tuple[str | None, tuple[int, ...] | None]:
    """dtype and shape of ndarray:DTYPE:N,M, as far as they are given. Raises SourceError for anything else."""
    kind, *given = encoding[:200].split(":")
    dtype = given[0] if given else None
    known = kind == "ndarray" and len(given) < 3 and dtype in (None, *_DTYPES.values())
    try:
        shape = tuple(int(n) for n in given[1].split(",")) if len(given) > 1 else None
        if not known or (shape is not None and min(shape) < 1):
            raise ValueError
        if dtype is not None and shape is not None:
            Array(dtype, shape)
    except (ValueError, SchemaError) as error:
        raise SourceError(f"the encoding {encoding[:40]!r} is not known").at(field=name) from error
    return dtype, shape


def _scalar(data: bytes, dtype: np.dtype[Any]) -> Any:
    if len(data) != dtype.itemsize:
        raise SourceError(f"{len(data)} bytes for a number of type {dtype}")
    return np.frombuffer(data, dtype)[0].item()


def _elements(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if len(data) != dtype.itemsize * math.prod(shape):
        raise SourceError(f"{len(data)} bytes for an array of {dtype} {list(shape)}")
    return np.frombuffer(data, dtype).reshape(shape)


def _dynamic(data: bytes, dtype: str | None) -> npt.NDArray[Any]:
    """An array behind its dtype, unless that is given, and its shape."""
    at = 0 if dtype else 1
    if len(data) <= at:
        raise SourceError("an array without a shape")
    found = dtype or _DTYPES.get(data[0])
    if found is None:
        raise SourceError(f"an array of the unknown dtype {data[0]}")
    rank, nbytes = data[at] >> 2, 1 << (data[at] & 3)
    start = at + 1 + rank * nbytes
    if not 0 < rank <= 32 or start > len(data):
        raise SourceError(f"an array of {rank} dimensions in {len(data)} bytes")
    shape = tuple(np.frombuffer(data, f"<u{nbytes}", rank, at + 1).tolist())
    return _elements(data[start:], np.dtype(found), shape)
