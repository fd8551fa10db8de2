"""recordio: training data in compressed, indexed, checksummed shards.

The public names. All but the errors are imported when they are first asked for, so `import recordio` is light and
nothing in this package imports the writer or the reader.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recordio.errors import (
    CorruptError,
    DatasetError,
    DecodeError,
    MissingPackageError,
    RecordIOError,
    SchemaError,
    SourceError,
    StorageError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from recordio.reader.dataset import ShardDataset
    from recordio.reader.loader import DataLoader
    from recordio.reader.verify import verify
    from recordio.schema import Array, Bytes, Image, Object, Scalar, Schema, Text
    from recordio.writer.convert import convert
    from recordio.writer.dataset_writer import DatasetWriter

__version__ = "0.1.0"

__all__ = [
    "Array",
    "Bytes",
    "CorruptError",
    "DataLoader",
    "DatasetError",
    "DatasetWriter",
    "DecodeError",
    "Image",
    "MissingPackageError",
    "Object",
    "RecordIOError",
    "Scalar",
    "Schema",
    "SchemaError",
    "ShardDataset",
    "SourceError",
    "StorageError",
    "Text",
    "UnsupportedError",
    "__version__",
    "convert",
    "verify",
]

_HOMES = {
    "DataLoader": "recordio.reader.loader",
    "DatasetWriter": "recordio.writer.dataset_writer",
    "ShardDataset": "recordio.reader.dataset",
    "convert": "recordio.writer.convert",
    "verify": "recordio.reader.verify",
} | dict.fromkeys(["Array", "Bytes", "Image", "Object", "Scalar", "Schema", "Text"], "recordio.schema")

if not TYPE_CHECKING:  # a checker that saw it would believe every name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'recordio' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
