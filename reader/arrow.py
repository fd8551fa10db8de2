"""Columns of stored samples as Arrow tables, without a copy where Arrow lays values out as NumPy does.

field                          Arrow
-----------------------------  --------------------------------------------------------------------
scalar                         the number; a missing value is null
array, pixels                  a list for each dimension: fixed_size_list, or list where it is free
text                           string
bytes, pictures as files       binary
object                         string: JSON, with bytes as {"base64": ...}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ma

from recordio.display.text import exact_json
from recordio.errors import SchemaError
from recordio.format.fields import Field, Object
from recordio.format.masks import missing_rows
from recordio.format.numeric import Numeric, Scalar
from recordio.format.ragged import Ragged
from recordio.format.ragged_arrow import arrow_type, ragged_array
from recordio.format.schema import Columns, Schema
from recordio.packages import pyarrow
from recordio.reader.stored import stored_chunks

if TYPE_CHECKING:
    from recordio.reader.view import DatasetView


def arrow_schema(schema: Schema) -> Any:
    """The pyarrow.Schema of these fields. Raises SchemaError for one that Arrow has no type for."""
    pa = pyarrow()
    return pa.schema([pa.field(name, _named_type(name, kind), kind.optional) for name, kind in schema.items()])


def arrow_table(columns: Columns, schema: Schema) -> Any:
    """A pyarrow.Table of columns as `take` gives them, with pictures as stored.

    Args:
        columns: arrays (n, *shape), masked arrays or lists of n values, of each field of the schema.
        schema: the fields, in the order of the columns of the table.

    Raises SchemaError for a field that Arrow has no type for: complex numbers, and arrays with a dimension of 0.
    """
    types = arrow_schema(schema)
    found = []
    for name, kind in schema.items():
        try:
            found.append(_array(columns[name], kind))
        except SchemaError as error:
            raise error.at(field=name)
    return pyarrow().table(found, schema=types)


def dataset_table(view: DatasetView) -> Any:
    """All samples of a view as a pyarrow.Table, in its order, in chunks of some 64 MiB. Raises SchemaError."""
    tables = [arrow_table(columns, view.schema) for columns in stored_chunks(view)]
    return pyarrow().concat_tables(tables) if tables else arrow_schema(view.schema).empty_table()


def _named_type(name: str, kind: Field) -> Any:
    try:
        return arrow_type(kind)
    except SchemaError as error:
        raise error.at(field=name)


def _array(column: Any, kind: Field) -> Any:
    """A column as an Arrow array; a chunked one if it is text or bytes of over 2 GiB."""
    pa = pyarrow()
    if isinstance(kind, Object):
        column = [None if value is None else exact_json(value) for value in column]
    if not isinstance(kind, Numeric) or getattr(kind, "encoded", False):
        return pa.array(column, arrow_type(kind))
    if isinstance(column, np.ndarray):
        missing = missing_rows(column) if isinstance(column, ma.MaskedArray) else None
        return _fixed(ma.getdata(column), kind, missing)
    return _free(column, kind)


def _fixed(values: Any, kind: Numeric, missing: Any) -> Any:
    """Arrays of one shape."""
    pa = pyarrow()
    if isinstance(kind, Scalar):
        return pa.array(values, arrow_type(kind), mask=missing)
    found = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in reversed(values.shape[2:]):
        found = pa.FixedSizeListArray.from_arrays(found, size)
    mask = None if missing is None else pa.array(missing)
    return pa.FixedSizeListArray.from_arrays(found, values.shape[1], mask=mask).cast(arrow_type(kind))


def _free(column: Sequence[Any], kind: Numeric) -> Any:
    """Arrays of several shapes. A missing one has no elements where its dimensions are free, zeros elsewhere."""
    return ragged_array(Ragged.of(kind, column), large=False).cast(arrow_type(kind))
