"""Which fields an HDF5 dataset is, by its type, and which attributes become metadata."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from recordio.errors import SourceError
from recordio.format.fields import Bytes, Field, Object, Text
from recordio.format.numeric import Array
from recordio.writer.sources.arrays.array_rows import Column, attribute_metadata, joined
from recordio.writer.sources.arrays.arrays import array_field

_MAX_ATTRIBUTE = 1024  # elements


def columns_of(name: str, data: Any) -> list[Column]:
    """The fields of a dataset: one, or one for each member of its records. Raises SourceError."""
    chunk_rows = data.chunks[0] if data.chunks else 1
    if data.dtype.names is None:
        field, value, nbytes = _typed(data.dtype, data.shape[1:])
        return [Column(name, data.name, field, value, None, nbytes, chunk_rows)]
    out = []
    for member in data.dtype.names:
        kind = data.dtype.fields[member][0]
        base, shape = kind.subdtype or (kind, ())
        if base.names is not None:
            raise SourceError(f"records inside records are not read: {member!r}")
        field, value, nbytes = _typed(base, (*data.shape[1:], *shape))
        nbytes = None if nbytes is None else data.dtype.itemsize * math.prod(data.shape[1:])
        out.append(Column(joined(name, member), data.name, field, value, member, nbytes, chunk_rows))
    return out


def _typed(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[Field, Callable[[Any], Any] | None, int | None]:
    """The field of a row, what makes a value of it, and its bytes if they are the same for all. Raises SourceError."""
    import h5py

    count = math.prod(shape)
    if h5py.check_ref_dtype(dtype) is not None:
        raise SourceError("it holds references to other objects, which are not read")
    text = h5py.check_string_dtype(dtype)
    if text is not None:
        nbytes = None if text.length is None else text.length * count
        return (Object(), _texts, nbytes) if shape else (Text(), _text, nbytes)
    inside = h5py.check_vlen_dtype(dtype)
    if inside is not None:
        if shape or np.dtype(inside).kind not in "biufc":
            raise SourceError("arrays of free length are read in one dimension, and of numbers")
        array_field(np.dtype(inside), ())
        return Array(np.dtype(inside), (None,)), np.asarray, None
    if dtype.kind == "V" and not shape:
        return Bytes(), _opaque, dtype.itemsize
    plain = np.dtype(dtype.str)  # without what h5py keeps in it, such as the names of an enum
    return array_field(plain, shape), None, plain.itemsize * count


def _opaque(value: Any) -> bytes:
    return bytes(value.tobytes())


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return bytes(value).decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(f"the text is not UTF-8: {error.reason} at byte {error.start}") from error


def _texts(value: Any) -> Any:
    return [_texts(one) for one in value] if isinstance(value, np.ndarray) else _text(value)


def attributes(file: Any, datasets: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Metadata of the attributes of a file, "/", and of datasets by field, and of enums; a note on what is left out."""
    import h5py

    owners = {"/": file, **datasets}
    metadata, notes = attribute_metadata(
        {name: {key: _attribute(owner.attrs, key) for key in owner.attrs} for name, owner in owners.items()}
    )
    enums = {name: h5py.check_enum_dtype(data.dtype) for name, data in datasets.items()}
    named = {name: {key: int(value) for key, value in names.items()} for name, names in enums.items() if names}
    return metadata | ({"enums": named} if named else {}), notes


def _attribute(attributes: Any, key: str) -> Any:
    """The value of an attribute as JSON, None for one that is none, or is large."""
    import h5py

    try:
        about = attributes.get_id(key)
        if math.prod(about.shape or ()) > _MAX_ATTRIBUTE or h5py.check_ref_dtype(about.dtype) is not None:
            return None
        return _json(attributes[key])
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, MemoryError):
        return None


def _json(value: Any) -> Any:
    """Raises ValueError, TypeError for what JSON cannot say."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.ndarray):
        return [_json(one) for one in value.tolist()]
    if isinstance(value, (list, tuple)):
        return [_json(one) for one in value]
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, bytes):
        return plain.decode("utf-8")
    if not isinstance(plain, (str, bool, int, float)):
        raise TypeError
    return plain
