"""LitData's serializers: how a value is read from its bytes, and which field holds it.

They are those of litdata/streaming/serializers.py. Files (video, audio, PDF, ...) stay bytes. What LitData pickles is
refused: reading it could run any program.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import SourceError
from recordio.format.fields import Object, Text
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
from recordio.writer.sources.records.litdata_nested import nested
from recordio.writer.sources.source import SourceOptions

_TORCH = """float32 float32 float64 float64 complex64 complex64 complex128 complex128 float16 float16 bfloat16
    uint8 int8 int16 int16 int32 int32 int64 int64 bool uint16""".split()
_NUMPY = "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128 bool".split()
_PICKLED = ("pickle", "graph")
_FILES = "bytes file video audio nifti mesh pdf tiff tifffile".split()
Decoder = Callable[[bytes], Any]


def _bytes(data: bytes) -> bytes:
    return data


def _text(data: bytes) -> str:
    return data.decode("utf-8")


def _number(data: bytes, form: str) -> Any:
    if len(data) != struct.calcsize(form):
        raise SourceError(f"{len(data)} bytes for a number of {struct.calcsize(form)}")
    return struct.unpack(form, data)[0]


def _elements(data: bytes, dtype: str, shape: tuple[int, ...] | None = None) -> npt.NDArray[Any]:
    """An array of the elements in these bytes, of one dimension if no shape is given."""
    size = np.dtype(dtype).itemsize
    if len(data) % size or (shape is not None and len(data) != size * math.prod(shape)):
        raise SourceError(f"{len(data)} bytes for an array of {dtype}{'' if shape is None else f' {list(shape)}'}")
    found = np.frombuffer(data, dtype)
    return found if shape is None else found.reshape(shape)


def _array(data: bytes, dtypes: list[str], order: str) -> npt.NDArray[Any]:
    """An array behind the number of its dtype, its rank and its shape, u32 each, in this byte order."""
    if len(data) < 8:
        raise SourceError(f"an array of {len(data)} bytes has no header")
    number, rank = struct.unpack_from(f"{order}II", data)
    if rank > 32 or len(data) < 8 + 4 * rank:
        raise SourceError(f"an array of {rank} dimensions in {len(data)} bytes")
    shape = struct.unpack_from(f"{order}{rank}I", data, 8)
    return _elements(data[8 + 4 * rank :], _dtype(number, dtypes), shape)


def _dtype(number: int, dtypes: list[str]) -> str:
    name = dtypes[number] if number < len(dtypes) else f"number {number}"
    if name == "bfloat16" or number >= len(dtypes):
        raise SourceError(f"arrays of the dtype {name} cannot be stored: convert them to float32 first")
    return name


# By the name of the serializer, without what follows a colon.
_READERS: dict[str, tuple[Decoder, Callable[[str, SourceOptions], Column]]] = {
    "str": (_text, lambda name, options: KnownColumn(Text())),
    "string": (_text, lambda name, options: KnownColumn(Text())),
    "text": (_text, lambda name, options: KnownColumn(Text())),
    "int": (partial(_number, form="<q"), lambda name, options: KnownColumn(Scalar("int64"))),
    "float": (partial(_number, form="<d"), lambda name, options: KnownColumn(Scalar("float64"))),
    "bool": (partial(_number, form="<?"), lambda name, options: KnownColumn(Scalar("bool"))),
    "boolean": (partial(_number, form="<?"), lambda name, options: KnownColumn(Scalar("bool"))),
    "jpeg": (_bytes, PicturesColumn),
    "image": (_bytes, PicturesColumn),
    "pil": (raw_png, PicturesColumn),
    "jpeg_array": (sized_parts, lambda name, options: KnownColumn(Object())),
    "tensor": (partial(_array, dtypes=_TORCH, order=">"), lambda name, options: ArrayColumn(name)),
    "numpy": (partial(_array, dtypes=_NUMPY, order="<"), lambda name, options: ArrayColumn(name)),
    "json": (nested, lambda name, options: JsonValues()),
}


def litdata_column(name: str, form: str, options: SourceOptions) -> ShardColumn:
    """A column of this format, such as "int" or "no_header_tensor:16". Raises SourceError for one that is not read."""
    kind, _, given = form.partition(":")
    if kind in _PICKLED:
        text = f"the values are of the serializer {kind!r}, and could run any program when they are read"
        raise SourceError(text).at(field=name)
    if kind in ("no_header_tensor", "no_header_numpy") and given.isascii() and given.isdigit() and len(given) < 4:
        dtype = _dtype(int(given), _TORCH if kind == "no_header_tensor" else _NUMPY)
        return ShardColumn(name, partial(_elements, dtype=dtype), KnownColumn(Array(dtype, (None,))))
    if kind in _FILES:
        return ShardColumn(name, _bytes, BytesColumn(name, options, texts=False))
    if kind not in _READERS:
        raise SourceError(f"the serializer {form[:40]!r} is not known").at(field=name)
    decode, infer = _READERS[kind]
    return ShardColumn(name, decode, infer(name, options))
