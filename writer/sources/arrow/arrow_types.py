"""Which field a column of Arrow becomes, and how its values are made: decided by its type, and by what is known of it.

Nothing is rounded. Moments and spans are the integers that Arrow stores, decimals are text with every digit; what the
field alone would not say is kept as the name of the Arrow type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from recordio.errors import SourceError
from recordio.format.fields import Bytes, Field, Object, Text
from recordio.format.numeric import Array, Scalar, Shape
from recordio.packages import pyarrow
from recordio.writer.sources.arrow import arrow_columns as columns
from recordio.writer.sources.arrow.arrow_columns import Converter, is_list
from recordio.writer.sources.arrow.arrow_files import all_fields
from recordio.writer.sources.arrow.hf_features import Feature
from recordio.writer.sources.foreign_errors import reading

_FILE_FIELDS = {"bytes", "path"}
_SHAPED = ("Array2D", "Array3D", "Array4D", "Array5D")
_PICKLED = b"arrow.py_extension_type"
_MOMENTS = {"timestamp": "int64", "date64": "int64", "time64": "int64", "duration": "int64"}
_FLOATS = {"halffloat": "float16", "float": "float32", "double": "float64"}
_SHORT_MOMENTS = {"date32": "int32", "time32": "int32"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: its name.
        field: what it becomes, `optional` where values may be missing.
        converter: makes its values.
        arrow: the name of its type.
        kept: whether the name of the type says more than the field.
        role: "file" for structs of the bytes and the name of a file, "nothing" for a column of the type null.
        lists: whether it is an Array of lists, which can hold none with a missing value inside.
    """

    name: str
    field: Field
    converter: Converter
    arrow: str
    kept: bool = False
    role: Literal["", "file", "nothing"] = ""
    lists: bool = False

    def optionally(self, optional: bool) -> Column:
        return replace(self, field=replace(self.field, optional=optional))  # type: ignore[call-arg]


def column_of(about: Any, feature: Feature | None) -> Column:
    """The column of a pyarrow.Field. Raises SourceError for a type that is not read."""
    _refuse_pickles(about)
    kind = about.type
    shaped = feature is not None and feature.type in _SHAPED and _shaped(kind, feature.shape)
    if shaped and feature is not None:
        field = Array(shaped, feature.shape)
        converter = partial(columns.arrays, shape=field.shape, dtype=field.dtype)
        return Column(about.name, field, converter, str(kind), lists=True)
    try:
        return _column(about.name, kind)
    except SourceError as error:
        raise error.at(field=about.name)


def as_object(about: Any) -> Column:
    """The column as objects: Python's lists and dicts."""
    plain = _plain_type(about.type)
    with reading(f"a column of {about.type} is not read"):
        pyarrow().nulls(0, about.type).cast(plain)
    return Column(about.name, Object(), partial(columns.objects, plain=plain), str(about.type), kept=True)


def _column(name: str, kind: Any) -> Column:
    types, text = pyarrow().types, str(kind)
    if isinstance(kind, pyarrow().BaseExtensionType):
        return _extension(name, kind)
    if types.is_null(kind):
        return Column(name, Object(), columns.values, text, role="nothing")
    if dtype := _dtype(kind):
        return Column(name, Scalar(dtype), columns.numbers, text, kept=_is_moment(kind))
    if _is_text(kind):
        return Column(name, Text(), columns.values, text)
    if _is_bytes(kind):
        return Column(name, Bytes(), columns.values, text)
    if types.is_decimal(kind):
        return Column(name, Text(), columns.decimals, text, kept=True)
    if types.is_dictionary(kind):
        return _dictionary(name, kind)
    if is_file(kind):
        return Column(name, Bytes(), columns.files, text, role="file")
    if found := _lists(kind):
        dtype, shape = found
        converter = partial(columns.arrays, shape=shape, dtype=np.dtype(dtype))
        return Column(name, Array(dtype, shape), converter, text, kept=_is_moment(_innermost(kind)), lists=True)
    return as_object(pyarrow().field(name, kind))


def _dictionary(name: str, kind: Any) -> Column:
    found = _column(name, kind.value_type)
    if isinstance(found.field, (Text, Bytes)) and found.converter is columns.values:
        return replace(found, arrow=str(kind))
    return replace(found, converter=partial(columns.decoded, converter=found.converter), arrow=str(kind))


def _extension(name: str, kind: Any) -> Column:
    if kind.extension_name == "arrow.fixed_shape_tensor":
        permuted = list(kind.permutation or ()) != sorted(kind.permutation or ())
        dtype = _dtype(kind.value_type)
        if permuted or dtype is None:
            raise SourceError(f"a column of {kind} is not read: its elements would have to be turned around")
        field = Array(dtype, tuple(kind.shape))
        converter = partial(columns.tensors, shape=field.shape, dtype=field.dtype)
        return Column(name, field, converter, str(kind), lists=True)
    return replace(_column(name, kind.storage_type), arrow=str(kind), kept=True)


def is_file(kind: Any) -> bool:
    """Whether a type is the struct in which datasets keeps a picture or a sound: its bytes and its name."""
    types = pyarrow().types
    if not types.is_struct(kind) or {kind.field(k).name for k in range(kind.num_fields)} != _FILE_FIELDS:
        return False
    inside = {kind.field(k).name: kind.field(k).type for k in range(kind.num_fields)}
    data, name = inside["bytes"], inside["path"]
    known = (_is_bytes(data) or types.is_null(data)) and (_is_text(name) or types.is_null(name))
    return kind.num_fields == 2 and known and not (types.is_null(data) and types.is_null(name))


def _is_text(kind: Any) -> bool:
    types = pyarrow().types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_bytes(kind: Any) -> bool:
    types = pyarrow().types
    plain = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(plain or types.is_fixed_size_binary(kind)) and not types.is_decimal(kind)


def _is_moment(kind: Any) -> bool:
    return _stem(kind) in _MOMENTS | _SHORT_MOMENTS


def _stem(kind: Any) -> str:
    return str(kind).partition("[")[0]


def _dtype(kind: Any) -> str | None:
    """The dtype of a type of numbers, or of moments and spans; None for others."""
    types = pyarrow().types
    if types.is_boolean(kind):
        return "bool"
    if types.is_integer(kind) or types.is_floating(kind):
        return _FLOATS.get(str(kind), str(kind))
    return (_MOMENTS | _SHORT_MOMENTS).get(_stem(kind))


def _innermost(kind: Any) -> Any:
    return _innermost(kind.value_type) if is_list(kind) else kind


def _sizes(kind: Any) -> list[int | None]:
    """The length of the lists at each depth, None where lists may differ."""
    if not is_list(kind):
        return []
    size = kind.list_size if pyarrow().types.is_fixed_size_list(kind) else None
    return [size, *_sizes(kind.value_type)]


def _lists(kind: Any) -> tuple[str, Shape] | None:
    """dtype and shape of lists that always make a regular array: only the outermost may differ in length."""
    sizes, dtype = _sizes(kind), _dtype(_innermost(kind))
    return (dtype, tuple(sizes)) if sizes and dtype and None not in sizes[1:] else None


def _shaped(kind: Any, shape: Sequence[int | None]) -> str | None:
    """The dtype of nested lists that a feature gives a shape for, None where it does not fit."""
    if isinstance(kind, pyarrow().BaseExtensionType):
        kind = kind.storage_type
    fits = len(_sizes(kind)) == len(shape) and None not in shape[1:] and all(n is None or n > 0 for n in shape)
    return _dtype(_innermost(kind)) if fits and not _is_moment(_innermost(kind)) else None


def _plain_type(kind: Any) -> Any:
    """The type that holds the same as bools, numbers, text, bytes, lists, structs and maps. Raises SourceError."""
    package, types = pyarrow(), pyarrow().types
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind):
        return kind
    if dtype := _dtype(kind):
        return package.type_for_alias(dtype)
    if _is_text(kind) or types.is_decimal(kind):
        return package.large_string()
    if _is_bytes(kind):
        return kind if types.is_fixed_size_binary(kind) else package.large_binary()
    if types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if types.is_fixed_size_list(kind):
        return package.list_(_plain_type(kind.value_type), kind.list_size)
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        if _plain_type(kind.value_type) == kind.value_type:
            return kind
        raise SourceError(f"a column of {kind} is not read: cast it to lists first")  # PyArrow does it wrongly
    if is_list(kind):
        return package.large_list(_plain_type(kind.value_type))
    if types.is_map(kind):
        return package.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    if types.is_struct(kind):
        inside = (kind.field(number) for number in range(kind.num_fields))
        return package.struct([(one.name, _plain_type(one.type)) for one in inside])
    raise SourceError(f"a column of {kind} is not read: cast it to another type first")


def _refuse_pickles(about: Any) -> None:
    for one in all_fields(about):
        if (one.metadata or {}).get(b"ARROW:extension:name") == _PICKLED:
            text = "its type is a pickled Python object, which could run any program when it is read, so it is not read"
            raise SourceError(text).at(field=about.name)
