"""recordio: training data in compressed, indexed, checksummed shards.

The public names. All but the errors are imported on first use, so `import recordio` is light and nothing in this
package imports the writer or the reader.
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
    WorkerError,
)

if TYPE_CHECKING:
    from recordio import transforms
    from recordio.edit.append import append
    from recordio.edit.clean import clean
    from recordio.edit.copy import copy
    from recordio.edit.merge import merge
    from recordio.edit.parity import parity
    from recordio.edit.reshard import reshard
    from recordio.edit.split import split
    from recordio.exports.export import export
    from recordio.format.fields import Bytes, Object, Text
    from recordio.format.image_field import Image
    from recordio.format.numeric import Array, Scalar
    from recordio.format.ragged import Ragged
    from recordio.format.schema import Schema
    from recordio.proof.compare import compare
    from recordio.proof.diff import diff
    from recordio.proof.sign import sign
    from recordio.reader.combined import ConcatDataset, Mixture
    from recordio.reader.dataset import ShardDataset
    from recordio.reader.loading.loader import DataLoader
    from recordio.reader.order.weights import class_weights
    from recordio.reader.verify import verify
    from recordio.salvage.repair import repair
    from recordio.tuning.tune import tune
    from recordio.writer.convert.convert import convert
    from recordio.writer.dataset_writer import DatasetWriter

__version__ = "0.1.0"

__all__ = [
    "Array",
    "Bytes",
    "ConcatDataset",
    "CorruptError",
    "DataLoader",
    "DatasetError",
    "DatasetWriter",
    "DecodeError",
    "Image",
    "MissingPackageError",
    "Mixture",
    "Object",
    "Ragged",
    "RecordIOError",
    "Scalar",
    "Schema",
    "SchemaError",
    "ShardDataset",
    "SourceError",
    "StorageError",
    "Text",
    "UnsupportedError",
    "WorkerError",
    "__version__",
    "append",
    "class_weights",
    "clean",
    "compare",
    "convert",
    "copy",
    "diff",
    "export",
    "merge",
    "parity",
    "repair",
    "reshard",
    "sign",
    "split",
    "transforms",
    "tune",
    "verify",
]

_HOMES = {
    "Array": "recordio.format.numeric",
    "Bytes": "recordio.format.fields",
    "ConcatDataset": "recordio.reader.combined",
    "DataLoader": "recordio.reader.loading.loader",
    "DatasetWriter": "recordio.writer.dataset_writer",
    "Image": "recordio.format.image_field",
    "Mixture": "recordio.reader.combined",
    "Object": "recordio.format.fields",
    "Ragged": "recordio.format.ragged",
    "Scalar": "recordio.format.numeric",
    "Schema": "recordio.format.schema",
    "ShardDataset": "recordio.reader.dataset",
    "Text": "recordio.format.fields",
    "append": "recordio.edit.append",
    "class_weights": "recordio.reader.order.weights",
    "clean": "recordio.edit.clean",
    "compare": "recordio.proof.compare",
    "convert": "recordio.writer.convert.convert",
    "copy": "recordio.edit.copy",
    "diff": "recordio.proof.diff",
    "export": "recordio.exports.export",
    "merge": "recordio.edit.merge",
    "parity": "recordio.edit.parity",
    "repair": "recordio.salvage.repair",
    "reshard": "recordio.edit.reshard",
    "sign": "recordio.proof.sign",
    "split": "recordio.edit.split",
    "tune": "recordio.tuning.tune",
    "verify": "recordio.reader.verify",
}

_MODULES = ("ray", "torch", "transforms")  # ray and torch are not public: `from recordio import *` needs neither

if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return import_module(f"recordio.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module 'recordio' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
