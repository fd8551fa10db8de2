"""Packs and checks samples: each value becomes the bytes that it has in a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import numpy as np

from recordio import kernels
from recordio.errors import SchemaError
from recordio.format.fields import Bytes, Field, Text
from recordio.format.image_field import Image
from recordio.format.masks import has_masked, is_masked_array, is_missing
from recordio.format.numeric import Array, Numeric, Scalar
from recordio.format.page import Packed
from recordio.format.schema import Sample, Schema
from recordio.format.tensors import is_tensor, tensor_array
from recordio.images.encode import lossless_packer
from recordio.images.jpeg_file import picture_packer

Column = Packed | memoryview  # packed values, or the values of a fixed field end to end
PackedList = list[bytes | None]  # of one sample or more, for each a value of each field


class Packer:
    """Turns samples and columns into packed bytes. A SchemaError names the sample and changes nothing.

    With an `inferred` schema images are never converted: one that its mode would change does not fit.
    """

    def __init__(self, schema: Schema, inferred: bool = False) -> None:
        self.schema = schema
        self._names = tuple(schema)
        self._packs = [self._packer(name, inferred) for name in schema]
        self._any_optional = any(field.optional for field in schema.values())
        self._kernel = _kernel_of(schema)

    def _packer(self, name: str, inferred: bool) -> Any:
        field = self.schema[name]
        pack = field.packer()
        if isinstance(field, Image) and field.encoded:
            lossless = lossless_packer(name, field, alone=len(self.schema) == 1)
            pack = lossless if inferred else picture_packer(field)
        return optional(pack) if field.optional else pack

    def pack_into(self, sample: Sample, to: PackedList) -> int:
        """Appends what `pack` gives, in a third of the time where a kernel does it, and returns its bytes."""
        if self._kernel is not None and (nbytes := self._kernel(sample, to)) is not None:
            return nbytes
        row = self.pack(sample)
        to += row
        return sum([len(value) for value in row if value is not None])

    def pack(self, sample: Sample) -> list[bytes | None]:
        """One sample. Raises SchemaError with the field's name."""
        try:
            if self._any_optional:
                found = sum(name in sample for name in self._names)
                values = [sample.get(name) for name in self._names]
            else:
                found = len(self._names)
                values = [sample[name] for name in self._names]
            if found != len(sample) or found != len(self._names):
                self._refuse_names(sample)
            return [pack(value) for pack, value in zip(self._packs, values, strict=True)]
        except (KeyError, TypeError, AttributeError, SchemaError) as error:
            self._explain(sample, error)

    def _refuse_names(self, sample: Sample) -> None:
        missing = [n for n, field in self.schema.items() if n not in sample and not field.optional]
        extra = [name for name in sample if name not in self.schema.fields]
        if missing or extra:
            faults = [
                f"{fault} {', '.join(map(repr, names))}"
                for fault, names in (("missing", missing), ("unknown", extra))
                if names
            ]
            raise SchemaError(f"the sample's fields do not match the schema: {'; '.join(faults)}")

    def _explain(self, sample: Sample, error: Exception) -> NoReturn:
        """Raises the error of the field at fault. Only called after packing failed."""
        if not isinstance(sample, Mapping):
            raise SchemaError(f"a sample is a dict, not {type(sample).__name__}") from error
        self._refuse_names(sample)
        for name, pack in zip(self._names, self._packs, strict=True):
            try:
                pack(sample.get(name))
            except SchemaError as cause:
                raise cause.at(field=name) from None
        raise error

    def pack_columns(self, columns: Mapping[str, Any]) -> tuple[int, list[Column]]:
        """A batch: the number of samples, and one packed column per field. Raises SchemaError."""
        samples = column_length(columns)
        self._refuse_names(columns)
        packed = [
            pack_column(name, field, pack, columns[name] if name in columns else [None] * samples)
            for (name, field), pack in zip(self.schema.items(), self._packs, strict=True)
        ]
        return samples, packed


def _kernel_of(schema: Schema) -> Callable[[Sample, PackedList], int | None] | None:
    """Appends the packed values of a sample to a list, and returns their bytes, None if it is not of plain values.

    None for a schema of other fields.
    """
    if kernels.c is None:
        return None
    fields = [_form(kernels.c, name, field) for name, field in schema.items()]
    if None in fields:
        return None
    return kernels.c.RowPacker(np.ndarray, tuple(fields)).pack  # type: ignore[no-any-return]


def _form(c: Any, name: str, field: Field) -> tuple[str, int, bool, int, bytes, tuple[int, ...]] | None:
    """What the kernel is told of a field; None for one that it does not pack."""
    if isinstance(field, (Text, Bytes)):
        return name, c.PACK_TEXT if isinstance(field, Text) else c.PACK_BYTES, field.optional, 0, b"", ()
    forms = {"i": c.PACK_INT, "u": c.PACK_UINT, "f": c.PACK_FLOAT}
    if isinstance(field, Scalar) and field.dtype.kind in forms:
        return name, forms[field.dtype.kind], field.optional, field.dtype.itemsize, b"", ()
    if isinstance(field, Array) and field.dtype.kind != "b" and len(field.shape) <= c.MAX_PACKED_NDIM:
        form = np.empty(1, field.dtype.newbyteorder("=")).data.format.encode()
        shape = tuple(-1 if size is None else size for size in field.shape)
        return name, c.PACK_ARRAY, field.optional, field.dtype.itemsize, form, shape
    return None


def column_length(columns: Mapping[str, Any]) -> int:
    """The common length of the columns. Raises SchemaError."""
    lengths = {}
    for name, column in columns.items():
        if (
            not hasattr(column, "__len__")
            or isinstance(column, (str, bytes, Mapping))
            or getattr(column, "ndim", 1) == 0
        ):
            raise SchemaError(f"a column is a sequence of values, not {type(column).__name__}").at(field=name)
        lengths[name] = len(column)
    if len(set(lengths.values())) > 1:
        raise SchemaError(f"the columns differ in length: {lengths}")
    return next(iter(lengths.values()), 0)


def plain_columns(columns: Mapping[str, Any]) -> Mapping[str, Any]:
    """The columns of a batch, tensors as arrays. Raises SchemaError."""
    if not isinstance(columns, Mapping):
        raise SchemaError(f"a batch is a dict of columns, not {type(columns).__name__}")
    out = {}
    for name, column in columns.items():
        try:
            out[name] = tensor_array(column) if is_tensor(column) else column
        except SchemaError as error:
            raise error.at(field=name)
    return out


def optional(pack: Any) -> Any:
    """The packer of an optional field: None for a missing value."""
    return lambda value: None if value is None or is_missing(value) else pack(value)


def pack_column(name: str, field: Field, pack: Any, column: Any) -> Column:
    """The values of a column, packed by `pack`. Raises SchemaError with the row of the first that does not fit."""
    out: list[bytes | None] = []
    nbytes = fixed_nbytes(field)
    try:
        if nbytes is not None and isinstance(field, Numeric) and hasattr(column, "dtype"):
            array = field.batch(column)
            return memoryview(array.reshape(-1).view(np.uint8)) if array.size else memoryview(b"")  # type: ignore[arg-type]
        out.extend(map(pack, unmasked(column)))
    except SchemaError as error:
        raise error.at(field=name, sample=len(out))
    return new_column(nbytes, out)


def fixed_nbytes(field: Field) -> int | None:
    """The bytes of each value of a field in a block, None if they differ or values may be missing."""
    return None if field.optional else field.row_nbytes


def new_column(nbytes: int | None, values: Iterable[Any]) -> Column:
    """The packed values of a field with this `fixed_nbytes`; end to end, in a tenth of the memory, where it has one."""
    return list(values) if nbytes is None else memoryview(b"".join(values))


def unmasked(column: Any) -> Any:
    """The values of a column; missing ones are `np.ma.masked`. Raises SchemaError for a partly masked row."""
    if not is_masked_array(column):
        return column
    if not has_masked(column):
        return column.data
    rows = [(row.any(), row.all()) for row in np.ma.getmaskarray(column)]
    if any(some and not every for some, every in rows):
        raise SchemaError("an array is masked in part: a value is there or it is missing")
    return [np.ma.masked if some else value for (some, _), value in zip(rows, column.data, strict=True)]
