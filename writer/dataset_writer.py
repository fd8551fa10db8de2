"""`DatasetWriter`: samples in, a published dataset out, or nothing at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from recordio.errors import DatasetError, SchemaError
from recordio.format.checksum import digest
from recordio.format.manifest import FILE_NAME, Manifest, ShardEntry, shard_name
from recordio.format.schema import Sample, Schema
from recordio.format.shard import ShardHeader
from recordio.storage.atomic import TEMPORARY, FolderLock
from recordio.writer.blocks import BlockBuilder, FullBlock, first_row
from recordio.writer.metadata import plain_metadata, require_room
from recordio.writer.publish import clear_remains, commit, read_manifest
from recordio.writer.shard_writer import DEFAULT_BLOCK_BYTES, DEFAULT_SHARD_BYTES, ShardWriter, WriteOptions

Mode = Literal["create", "append", "overwrite"]
_EXAMPLE = "such as {'tokens': Array('int32', (None,)), 'source': Text(optional=True)}"


class DatasetWriter:
    """Writes samples into shards and publishes them as a dataset.

        with DatasetWriter("digits", metadata={"classes": names}) as writer:
            for image, label in samples:
                writer.write({"image": image, "label": label})

    Nothing is visible before `close`, which leaving the `with` block calls; leaving it by an exception publishes
    nothing. The same samples and options give the same bytes, whether they come by `write` or by `write_batch`.

    Args:
        path: the folder; it is made if need be.
        schema: the fields; those of the first sample if None, none optional, every array of the same shape,
            and every picture one that the mode of the first ("L", "RGB" or "RGBA") loses nothing of.
        compression: None, "auto" (code what pays), "zstd" or "zstd:LEVEL".
        shard_bytes: a shard ends with the block that reaches this length.
        shard_samples: a shard ends at exactly this many samples, if it was not full before.
        block_bytes: what a block aims at before coding: the unit of reading, checking and shuffling.
        metadata: a dict of anything JSON can say, given back by `ShardDataset.metadata`. Keys are strings, at any
            depth, and tuples come back as lists.
        mode: "create" refuses a folder that holds a dataset, "append" adds to it, "overwrite" replaces it; in both a
            reader sees the old dataset or the new one, never between.

    Raises:
        DatasetError: the folder is not free, or another writer is at work in it.
        SchemaError: an argument or a sample does not fit; the sample was not taken, and writing can go on.
        StorageError: the system refused; what was published before is untouched.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        schema: Schema | Mapping[str, Any] | None = None,
        *,
        compression: str | None = "auto",
        shard_bytes: int = DEFAULT_SHARD_BYTES,
        shard_samples: int | None = None,
        block_bytes: int = DEFAULT_BLOCK_BYTES,
        metadata: Mapping[str, Any] | None = None,
        mode: Mode = "create",
    ) -> None:
        if mode not in ("create", "append", "overwrite"):
            raise SchemaError(f"unknown mode {mode!r}: expected 'create', 'append' or 'overwrite'")
        self._options = WriteOptions(compression, shard_bytes, shard_samples, block_bytes)
        self._folder = Path(os.path.abspath(os.fsdecode(path)))
        given = schema if isinstance(schema, Schema) or schema is None else Schema(schema)
        self._metadata = plain_metadata(metadata) if metadata is not None else {}
        require_room(given, self._metadata)
        self._dataset_id: bytes | None = None
        self._shard: ShardWriter | None = None
        self._builder: BlockBuilder | None = None
        self._inferred = False
        self._kept: list[ShardEntry] = []
        self._finished: dict[Path, ShardEntry] = {}
        self._written = 0
        self._lock = FolderLock(self._folder)
        self._state = "open"
        try:
            clear_remains(self._folder)
            self._start(mode, given, metadata is not None)
        except BaseException:
            self._leave()
            raise

    def _start(self, mode: Mode, schema: Schema | None, new_metadata: bool) -> None:
        old = None if mode == "overwrite" else read_manifest(self._folder)
        if mode == "create":
            self._require_free(old)
        if mode == "append":
            if old is None:
                raise DatasetError("there is no dataset here to append to").at(file=os.fspath(self._folder))
            if schema is not None and schema != old.schema:
                raise SchemaError(f"the dataset has {old.schema}, not {schema}")
            schema, self._dataset_id, self._kept = old.schema, old.dataset_id, list(old.shards)
            self._metadata = self._metadata if new_metadata else dict(old.metadata)
            require_room(schema, self._metadata, self._kept)
        self._number = 1 + max(_numbers(self._folder), default=-1)
        if schema is not None:
            self._builder = BlockBuilder(schema, self._options.block_bytes)

    def _require_free(self, old: Manifest | None) -> None:
        place = os.fspath(self._folder)
        if old is not None:
            raise DatasetError("there is a dataset here already; use mode='append' or mode='overwrite'").at(file=place)
        if _numbers(self._folder):
            raise DatasetError(
                f"there are shards here but no {FILE_NAME}; move them away, or use mode='overwrite' to leave them aside"
            ).at(file=place)

    @property
    def samples(self) -> int:
        """How many samples this writer has taken."""
        return self._written

    def write(self, sample: Sample) -> None:
        """Takes one sample, a dict of every field; an optional one may be left out or None.

        Raises:
            SchemaError: the sample does not fit: the message names the field, the sample, what was expected and got.
        """
        builder = self._builder or self._begin(sample)
        try:
            full = builder.add(sample)
        except SchemaError as error:
            raise self._misfit(error, self._written)
        self._builder = builder
        self._written += 1
        if full or self._options.shard_samples is not None:
            self._write_blocks(builder)

    def write_batch(self, columns: Mapping[str, Any]) -> None:
        """Takes many samples as columns: arrays (n, *shape) for fixed fields, sequences of n values for any field.

        Far faster than `write` for arrays. Raises SchemaError as `write` does; then nothing of the batch was taken.
        """
        builder = self._builder or self._begin(first_row(columns))
        before = builder.waiting
        try:
            builder.add_columns(columns)
        except SchemaError as error:
            inside = error.place.sample
            error.place = type(error.place)(field=error.place.field)
            raise self._misfit(error, self._written + (inside if isinstance(inside, int) else 0))
        self._builder = builder
        self._written += builder.waiting - before
        self._write_blocks(builder)
        builder.keep()

    def close(self) -> None:
        """Publishes. After this the dataset can be read. A second call does nothing."""
        if self._state == "failed":
            raise DatasetError("the writer failed before: nothing was published").at(file=os.fspath(self._folder))
        if self._state != "open":
            return
        try:
            self._finish_all()
            manifest = Manifest(
                self._identity(b""), self._require_schema(), self._metadata, [*self._kept, *self._finished.values()]
            )
            commit(self._folder, manifest, {path: entry.name for path, entry in self._finished.items()})
            self._finished = {}
        except BaseException:
            self._leave()
            raise
        self._leave("closed")

    def abort(self) -> None:
        """Publishes nothing and removes what was written."""
        self._leave("closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _begin(self, sample: Sample) -> BlockBuilder:
        if self._state != "open":
            raise DatasetError(f"the writer is {self._state}").at(file=os.fspath(self._folder))
        schema = Schema.infer(sample)
        require_room(schema, self._metadata, self._kept)
        self._inferred = True
        return BlockBuilder(schema, self._options.block_bytes, inferred=True)

    def _misfit(self, error: SchemaError, number: int) -> SchemaError:
        if self._inferred and number and "give schema=" not in error.fault:
            error.fault += f"; the schema is that of the first sample: give one if others differ, {_EXAMPLE}"
        return error.at(sample=number)

    def _require_schema(self) -> Schema:
        if self._builder is None:
            raise SchemaError("no sample was written and no schema given: an empty dataset needs one")
        return self._builder.schema

    def _identity(self, first: bytes) -> bytes:
        """The dataset's id: 16 bytes from its schema and first samples, so that the same input gives the same bytes."""
        if self._dataset_id is None:
            schema = json.dumps(self._require_schema().to_json()).encode()
            self._dataset_id = digest([schema, first])
        return self._dataset_id

    def _write_blocks(self, builder: BlockBuilder) -> None:
        try:
            while block := builder.take(self._room()):
                self._write_block(block, builder)
        except BaseException:
            self._leave()  # samples are lost: nothing may be published any more
            raise

    def _room(self) -> int | None:
        """Samples that still fit the shard; None for any number."""
        most = self._options.shard_samples
        return None if most is None else most - (self._shard.samples if self._shard else 0)

    def _write_block(self, block: FullBlock, builder: BlockBuilder) -> None:
        if self._shard is None:
            first = b"".join(
                bytes(c) if isinstance(c, memoryview) else b"".join(v or b"" for v in c)
                for f in block.fields
                for c in f
            )
            header = ShardHeader(self._identity(first), self._number, self._require_schema(), self._metadata)
            path = self._folder / f".{shard_name(self._number)}{TEMPORARY}"
            self._shard = ShardWriter(path, header, self._options)
            self._number += 1
        self._shard.write_block(block)
        if self._shard.nbytes >= self._options.shard_bytes or self._room() == 0:
            self._finish_shard()
            builder.restart()

    def _finish_shard(self) -> None:
        if self._shard is not None:
            shard, self._shard = self._shard, None
            self._finished[shard.path] = shard.finish()

    def _finish_all(self) -> None:
        if self._builder is not None and (block := self._builder.flush()):
            self._write_block(block, self._builder)
        self._finish_shard()

    def _leave(self, state: str = "failed") -> None:
        """Gives everything back; what is not published goes."""
        self._state, self._builder = state, None
        if self._shard is not None:
            self._shard.abandon()
            self._shard = None
        for path in self._finished:
            path.unlink(missing_ok=True)
        self._finished = {}
        self._lock.release()


def _numbers(folder: Path) -> list[int]:
    """The numbers of all the shard files in a folder, published or not."""
    texts = [path.name[len("shard-") : -len(".rio")] for path in folder.glob("shard-*.rio")]
    return [int(text) for text in texts if text.isdecimal()]
