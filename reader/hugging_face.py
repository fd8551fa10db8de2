"""Arrow tables as Hugging Face's `datasets` has them: pictures are structs, and the schema says what the columns are.

Their features stand as JSON in the metadata of the schema, so a Parquet file of such a table has pictures and classes
for `datasets.load_dataset`, and plain columns for everybody else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recordio.format.fields import Bytes, Field, Object, Text
from recordio.format.image_field import Image
from recordio.format.numeric import Numeric, Scalar
from recordio.format.schema import Schema
from recordio.packages import optional, pyarrow
from recordio.reader.arrow import arrow_schema, arrow_table
from recordio.reader.joining import LABEL
from recordio.reader.stored import stored_chunks

if TYPE_CHECKING:
    from recordio.format.schema import Columns
    from recordio.reader.view import DatasetView

_KEY = b"huggingface"


def hf_dataset(view: DatasetView) -> Any:
    """All samples of a view as a datasets.Dataset. Raises SchemaError, MissingPackageError."""
    datasets = optional("datasets", "datasets of Hugging Face", "hf")
    schema = hf_schema(view.schema, view.metadata)
    tables = [hf_table(columns, view.schema, view.metadata) for columns in stored_chunks(view)]
    return datasets.Dataset(pyarrow().concat_tables([schema.empty_table(), *tables]))


def hf_schema(schema: Schema, metadata: Mapping[str, Any]) -> Any:
    """The pyarrow.Schema of these fields with their features. Raises SchemaError as `arrow_schema` does."""
    pa = pyarrow()
    classes = class_names(schema, metadata)
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    found = []
    for field, (name, kind) in zip(arrow_schema(schema), schema.items(), strict=True):
        if isinstance(kind, Image) and kind.encoded:
            field = field.with_type(picture)
        elif name == LABEL and classes is not None:
            field = field.with_type(pa.int64())
        found.append(field.with_nullable(True))  # `datasets` believes no feature of a field that is not
    features = {name: _feature(name, kind, classes) for name, kind in schema.items()}
    return pa.schema(found, {_KEY: json.dumps({"info": {"features": features}})})


def hf_table(columns: Columns, schema: Schema, metadata: Mapping[str, Any]) -> Any:
    """Columns as `take` gives them, with pictures as stored, as a pyarrow.Table of `hf_schema`."""
    pa = pyarrow()
    table = arrow_table(columns, schema)
    found = []
    for column, field in zip(table.columns, hf_schema(schema, metadata), strict=True):
        if pa.types.is_struct(field.type):
            parts = [_picture(chunk, field.type) for chunk in column.chunks]
            found.append(pa.chunked_array(parts, field.type))
        else:
            found.append(column.cast(field.type))
    return pa.table(found, schema=hf_schema(schema, metadata))


def _picture(files: Any, kind: Any) -> Any:
    """The bytes of pictures as structs without a path."""
    pa = pyarrow()
    return pa.StructArray.from_arrays(
        [files, pa.nulls(len(files), pa.string())], fields=list(kind), mask=files.is_null()
    )


def class_names(schema: Schema, metadata: Mapping[str, Any]) -> list[str] | None:
    """The names of the classes of the field `label`, None if it has none or they are no different texts."""
    kind, names = schema.fields.get(LABEL), metadata.get("classes")
    if not isinstance(kind, Scalar) or kind.dtype.kind not in "iu" or not isinstance(names, list) or not names:
        return None
    return names if all(isinstance(one, str) for one in names) and len(set(names)) == len(names) else None


def _feature(name: str, kind: Field, classes: list[str] | None) -> dict[str, Any]:
    if isinstance(kind, Image) and kind.encoded:
        return {"_type": "Image"}
    if name == LABEL and classes is not None:
        return {"names": classes, "_type": "ClassLabel"}
    if isinstance(kind, (Text, Object)):
        return {"dtype": "string", "_type": "Value"}
    if isinstance(kind, Bytes):
        return {"dtype": "binary", "_type": "Value"}
    assert isinstance(kind, Numeric)
    found: dict[str, Any] = {"dtype": kind.dtype.name, "_type": "Value"}
    for size in reversed(kind.shape):
        found = {"feature": found, "length": -1 if size is None else size, "_type": "List"}
    return found
