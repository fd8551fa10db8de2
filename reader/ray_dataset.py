"""A dataset as one of Ray Data: a read task for each shard, columns of Arrow, no sample passes through the driver."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from recordio.errors import MissingPackageError
from recordio.format.fields import Bytes, Field, Text
from recordio.format.image_field import Image
from recordio.format.numeric import Array, Scalar
from recordio.reader.dataset import ShardDataset
from recordio.reader.processing import Decode

try:
    import pyarrow as pa
    import ray.data
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask
    from ray.data.extensions import (
        ArrowPythonObjectArray,
        ArrowTensorArray,
        ArrowVariableShapedTensorArray,
        ArrowVariableShapedTensorType,
    )
except ImportError as error:
    raise MissingPackageError.needed("datasets of Ray", "ray", "ray", error) from error

_BLOCK_NBYTES = 64 << 20  # of what is stored: a block of Ray is best between 1 and 128 MiB


def read(path: str | os.PathLike[str], *, fields: Sequence[str] | None = None, decode: Decode | None = None) -> Any:
    """The dataset at a path as a `ray.data.Dataset`, read by the tasks that use it.

    Every machine of the cluster has to see the path. Scalars are Arrow's numbers, text is `string`, bytes are `binary`;
    arrays are tensors of Ray, those of one free dimension lists; objects, and numbers that Arrow lacks, are Python's.
    Missing values are null. A task reads a shard, in blocks of some 64 MiB.

    Args:
        path: the dataset's folder.
        fields: the fields to read; None for all, as `ShardDataset` has it.
        decode: "numpy" decodes pictures, to tensors (H, W, C); None gives their files, as `binary`.

    Raises DatasetError, CorruptError, SchemaError as `ShardDataset` does.
    """
    return ray.data.read_datasource(_Shards(ShardDataset(path, fields=fields, decode=decode)))


class _Shards(Datasource):  # type: ignore[misc]
    """A task for each shard. The dataset pickles as its path, and finds the same version of it everywhere."""

    def __init__(self, dataset: ShardDataset) -> None:
        super().__init__()
        self._dataset = dataset

    def get_name(self) -> str:
        return "recordio"

    def estimate_inmemory_data_size(self) -> int:
        return sum(entry.content_nbytes for entry in self._dataset.store.manifest.shards)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        schema = _block(self._dataset, 0, 0).schema
        facts = [(shard.samples, shard.content_nbytes, shard.name) for shard in self._dataset.store.manifest.shards]
        tasks = []
        begin = 0
        for samples, nbytes, name in facts or [(0, 0, "")]:
            metadata = BlockMetadata(samples, nbytes, input_files=[name], exec_stats=None)
            rows = max(1, samples * _BLOCK_NBYTES // max(1, nbytes))
            work = partial(_blocks, self._dataset, begin, begin + samples, rows)
            tasks.append(ReadTask(work, metadata, schema=schema, per_task_row_limit=per_task_row_limit))
            begin += samples
        return tasks


def _blocks(dataset: ShardDataset, begin: int, end: int, rows: int) -> Iterator[Any]:
    for start in range(begin, max(end, begin + 1), rows):  # at least one: an empty dataset has columns too
        yield _block(dataset, start, min(start + rows, end))


def _block(dataset: ShardDataset, begin: int, end: int) -> Any:
    """A table of these samples."""
    columns = dataset.take(np.arange(begin, end))
    decoded = dataset._decode is not None
    return pa.table({name: _column(field, columns[name], decoded) for name, field in dataset.schema.items()})


def _column(field: Field, values: Any, decoded: bool) -> Any:
    """A column of Arrow, of a type that depends on the field alone."""
    if isinstance(field, Text):
        return pa.array(values, pa.large_string())
    if isinstance(field, Bytes) or (isinstance(field, Image) and field.encoded and not decoded):
        return pa.array(values, pa.large_binary())
    if isinstance(field, Scalar) and field.dtype.kind != "c":
        mask = np.ma.getmaskarray(values) if field.optional else None
        return pa.array(np.ma.getdata(values), pa.from_numpy_dtype(field.dtype), mask=mask)
    if isinstance(field, (Array, Image)) and not field.optional and field.dtype.kind != "c":
        return _tensors(field, values)
    return ArrowPythonObjectArray.from_objects([None if one is np.ma.masked else one for one in values])


def _tensors(field: Array | Image, values: Any) -> Any:
    shape: Sequence[int | None] = (None, None, None) if field.shape is None else field.shape
    if None not in shape:
        return ArrowTensorArray.from_numpy(np.asarray(values).reshape(-1, *shape))
    if len(shape) == 1:
        ends = np.cumsum([0, *map(len, values)])
        flat = np.concatenate([np.empty(0, field.dtype), *values])
        return pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), pa.array(flat))
    if not len(values):
        kind = ArrowVariableShapedTensorType(pa.from_numpy_dtype(field.dtype), len(shape))
        return pa.ExtensionArray.from_storage(kind, pa.array([], kind.storage_type))
    return ArrowVariableShapedTensorArray.from_numpy(list(values))
