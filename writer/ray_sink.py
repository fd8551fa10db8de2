"""Writes a dataset of Ray Data: its tasks write shards, one committer publishes those of the tasks that succeeded.

A task has numbers for its shards by its own number, and each attempt at it a folder of its own below the destination.
What the tasks return when they succeed is published; what failed or repeated attempts left goes with the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import uuid
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from recordio.arguments import choice, folder_path
from recordio.errors import DatasetError, MissingPackageError, SchemaError
from recordio.format import strict_json
from recordio.format.fields import Bytes, Field, Object, Text
from recordio.format.manifest import Manifest, ShardEntry
from recordio.format.numeric import Array, Scalar
from recordio.format.schema import Schema
from recordio.remote.urls import is_url, shown
from recordio.statistics.measures import Measures
from recordio.statistics.records import merged_json
from recordio.storage.atomic import FolderLock, remove, write_file
from recordio.storage.dataset_files import SOURCE
from recordio.writer.blocks import BlockBuilder
from recordio.writer.metadata import plain_metadata, require_fit
from recordio.writer.publish import clear_remains, commit, readable_manifest
from recordio.writer.shard_sink import ShardSink, shard_numbers
from recordio.writer.shard_writer import DEFAULT_SHARD_BYTES, WriteOptions

try:
    import pyarrow as pa
    from ray.data.block import BlockAccessor
    from ray.data.datasource import Datasink
    from ray.data.extensions import ArrowPythonObjectType, get_arrow_extension_tensor_types
except ImportError as error:
    raise MissingPackageError.needed("datasets of Ray", "ray", "ray", error) from error

_STAGING = ".ray-"
_RUN, _SCHEMA = "run.json", "schema.json"
_NOT_SHARED = "the machines of the cluster do not see the same files: the destination has to be a folder that all share"
_SHARDS_OF_A_TASK = 1000
_ROWS = 4096  # a block of Ray is taken so many rows at a time


class _Run(NamedTuple):
    """What all tasks of a run have in common, as a file for them says it."""

    dataset_id: bytes
    first: int

    def write(self, path: Path) -> None:
        write_file(path, json.dumps({"dataset_id": self.dataset_id.hex(), "first": self.first}).encode())

    @classmethod
    def read(cls, path: Path) -> _Run:
        try:
            facts = strict_json.loads(path.read_bytes(), "run")
        except OSError as error:
            raise DatasetError(_NOT_SHARED).at(file=str(path)) from error
        return cls(bytes.fromhex(facts["dataset_id"]), facts["first"])


class _Written(NamedTuple):
    """What a task wrote: path and manifest entry of each shard, in order, and the statistics of its samples."""

    shards: list[tuple[str, dict[str, Any]]]
    statistics: dict[str, Any]

    def first(self) -> int:
        """The number of the first shard."""
        return int(self.shards[0][1]["number"])


def _agreed(path: Path, schema: Schema) -> Schema:
    """The schema of the run: that of the file, which the first task with a block writes."""
    own = path.with_name(f"{path.name}-{uuid.uuid4().hex}")
    write_file(own, json.dumps(schema.to_json()).encode())
    with contextlib.suppress(FileExistsError):
        os.link(own, path)
    return Schema.from_json(strict_json.loads(path.read_bytes(), "schema"))


class Sink(Datasink):  # type: ignore[misc]
    """Where `ray.data.Dataset.write_datasink` writes a dataset of ours.

        ds.write_datasink(recordio.ray.Sink("out.rio", schema={"image": Image(), "label": Scalar("int64")}))

    The dataset appears at once, when all tasks have succeeded; shards are in the order of the tasks, and so are the
    parts of its statistics. Failed and repeated tasks leave nothing in it. Shards end at `shard_bytes`, or with what a
    task gets.

    Args:
        path: the folder of the dataset, which all machines of the cluster share.
        schema: the fields; None takes them from the first block: numbers, text, bytes, tensors, lists of numbers;
            anything else becomes an Object. None is optional then, and bytes are not taken for pictures.
        compression, shard_bytes, block_bytes, metadata: as `DatasetWriter` has them.
        mode: "create" refuses a folder that holds a dataset, "overwrite" replaces it.

    Raises SchemaError for an argument, DatasetError when the writing starts and the folder is not free.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        schema: Schema | Mapping[str, Any] | None = None,
        *,
        compression: str | None = "auto",
        shard_bytes: int = DEFAULT_SHARD_BYTES,
        block_bytes: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        mode: str = "create",
    ) -> None:
        self._mode = choice("mode", mode, ("create", "overwrite"))
        self._options = WriteOptions(compression=compression, shard_bytes=shard_bytes, block_bytes=block_bytes)
        if isinstance(path, str) and is_url(path):
            raise DatasetError("tasks write into a folder that they share; `recordio copy` brings it into a store").at(
                file=shown(path)
            )
        self._folder = Path(os.path.abspath(folder_path("path", path)))
        self._schema = schema if isinstance(schema, Schema) or schema is None else Schema(schema)
        self._metadata = plain_metadata(metadata or {})
        require_fit(self._schema, self._metadata)
        self._staging = self._folder / f"{_STAGING}{uuid.uuid4().hex}"
        self._lock: FolderLock | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None}  # the lock is this process's

    def get_name(self) -> str:
        return "recordio"

    def on_write_start(self, schema: Any = None) -> None:
        """On the driver: locks the folder, and says to the tasks what they have in common."""
        self._lock = FolderLock(self._folder)
        try:
            clear_remains(self._folder)
            numbers = shard_numbers(self._folder)
            if self._mode == "create" and (numbers or readable_manifest(self._folder) is not None):
                raise DatasetError("there is a dataset here, or shards; mode='overwrite' replaces it").at(
                    file=str(self._folder)
                )
            self._clear()
            self._staging.mkdir()
            _Run(secrets.token_bytes(16), 1 + max(numbers, default=-1)).write(self._staging / _RUN)
        except BaseException:
            self._leave()
            raise

    def write(self, blocks: Iterable[Any], ctx: Any) -> _Written | None:
        """In a task: writes its blocks. Returns what it wrote, None without any sample."""
        tables = (table for block in blocks if (table := BlockAccessor.for_block(block).to_arrow()).num_rows)
        first = next(tables, None)
        if first is None:
            return None
        run = _Run.read(self._staging / _RUN)
        schema = self._schema or _agreed(self._staging / _SCHEMA, schema_of_arrow(first.schema))
        attempt = self._staging / uuid.uuid4().hex
        attempt.mkdir()
        sink = ShardSink(
            attempt,
            BlockBuilder(schema, self._options.block_target(schema)),
            self._options,
            metadata=self._metadata,
            dataset_id=run.dataset_id,
            first=run.first + ctx.task_idx * _SHARDS_OF_A_TASK,
        )
        try:
            for table in chain([first], tables):
                _write_table(sink, table)
            sink.finish()
        except BaseException:
            sink.discard()
            raise
        if len(sink.finished) > _SHARDS_OF_A_TASK:
            raise SchemaError(f"a task made more than {_SHARDS_OF_A_TASK} shards: give a larger shard_bytes")
        shards = [(str(path), entry.to_json()) for path, entry in sink.finished.items()]
        return _Written(shards, sink.measures.statistics().to_json())

    def on_write_complete(self, write_result: Any) -> None:
        """On the driver: publishes the shards of all tasks."""
        made = sorted(filter(None, write_result.write_returns), key=_Written.first)
        shards = {Path(path): ShardEntry.from_json(entry) for task in made for path, entry in task.shards}
        if self._lock is None:  # there was no task
            self.on_write_start()
        missing = next((path for path in shards if not path.exists()), None)
        if missing is not None:
            raise DatasetError(_NOT_SHARED).at(file=str(missing))
        run, schema = _Run.read(self._staging / _RUN), self._written_schema()
        measured = [task.statistics for task in made] or [Measures(schema).statistics().to_json()]
        entries = list(shards.values())
        manifest = Manifest(run.dataset_id, schema, self._metadata, entries, merged_json(measured))
        remove([self._folder / SOURCE])
        commit(self._folder, manifest, {path: entry.name for path, entry in shards.items()})
        self._leave()

    def _written_schema(self) -> Schema:
        if self._schema is not None:
            return self._schema
        try:
            return Schema.from_json(strict_json.loads((self._staging / _SCHEMA).read_bytes(), "schema"))
        except FileNotFoundError:
            raise SchemaError("no sample was written and no schema given: an empty dataset needs one") from None

    def on_write_failed(self, error: Exception) -> None:
        """On the driver: publishes nothing and removes what was written."""
        self._leave()

    def _leave(self) -> None:
        if self._lock is not None:
            self._clear()
            self._lock.release()
            self._lock = None

    def _clear(self) -> None:
        """Removes what this run or a dead one has written. The folder is locked."""
        for left in self._folder.glob(f"{_STAGING}*"):
            shutil.rmtree(left, ignore_errors=True)


def _write_table(sink: ShardSink, table: Any) -> None:
    for start in range(0, table.num_rows, _ROWS):
        some = table.slice(start, _ROWS)
        sink.add_columns({name: _values(sink.schema.get(name), some.column(name)) for name in some.column_names})
        sink.write_full_blocks()
        sink.keep()


def _values(field: Field | None, column: Any) -> Any:
    """A column as a writer takes it: an array, or a list with None where a value is missing."""
    if isinstance(field, Scalar) and not column.null_count and not isinstance(column.type, pa.BaseExtensionType):
        return column.to_numpy()
    if _is_tensor(column.type) and not column.null_count:
        return BlockAccessor.for_block(pa.table({"x": column})).to_numpy("x")
    return column.to_pylist()


def _is_tensor(kind: Any) -> bool:
    return isinstance(kind, tuple(get_arrow_extension_tensor_types()))


def schema_of_arrow(schema: Any) -> Schema:
    """The fields of a table of Arrow, none optional. Raises SchemaError for a type that has to be said."""
    return Schema({field.name: _field(field.name, field.type) for field in schema})


def _field(name: str, kind: Any) -> Field:
    is_a = pa.types
    if _is_tensor(kind):
        return Array(kind.value_type.to_pandas_dtype(), tuple(kind.shape))
    if is_a.is_boolean(kind) or is_a.is_integer(kind) or is_a.is_floating(kind):
        return Scalar(kind.to_pandas_dtype())
    if is_a.is_string(kind) or is_a.is_large_string(kind):
        return Text()
    if is_a.is_binary(kind) or is_a.is_large_binary(kind):
        return Bytes()
    if is_a.is_list(kind) or is_a.is_large_list(kind) or is_a.is_fixed_size_list(kind):
        inner = kind.value_type
        if is_a.is_boolean(inner) or is_a.is_integer(inner) or is_a.is_floating(inner):
            length = kind.list_size if is_a.is_fixed_size_list(kind) else None
            return Array(inner.to_pandas_dtype(), (length,))
        return Object()
    if is_a.is_struct(kind) or isinstance(kind, ArrowPythonObjectType):
        return Object()
    raise SchemaError(f"no field holds Arrow's {kind}: convert the column, or give schema=").at(field=name)
