"""`DatasetWriter`: publishes a complete dataset or nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

from recordio.errors import DatasetError, SchemaError
from recordio.format.manifest import FILE_NAME, Manifest, ShardEntry
from recordio.format.schema import Sample, Schema
from recordio.remote.opening import StorageArgument
from recordio.statistics.records import merged_json
from recordio.writer.blocks import BlockBuilder
from recordio.writer.destination import open_destination, refuse_parity
from recordio.writer.inference import EXAMPLE, SchemaInference
from recordio.writer.metadata import plain_metadata, require_fit
from recordio.writer.packing import plain_columns
from recordio.writer.parity import objection
from recordio.writer.shard_sink import ShardSink
from recordio.writer.shard_writer import DEFAULT_SHARD_BYTES, WriteOptions
from recordio.writer.taken import Batch, Run, samples_of

Mode = Literal["create", "append", "overwrite"]


class DatasetWriter:
    """Writes samples into shards and publishes them as a dataset.

        with DatasetWriter("digits", metadata={"classes": names}) as writer:
            for image, label in samples:
                writer.write({"image": image, "label": label})

    Nothing is visible before `close`, which leaving the `with` block calls; leaving it by an exception publishes
    nothing. The same samples and options give the same bytes, whether they come by `write` or by `write_batch`.

    Args:
        path: the folder; it is made if need be. Or "s3://bucket/path", "gs://", "az://container/path": shards are made
            in the folder for temporary files, two or three of them at a time, and sent while the next is made.
        schema: the fields; None infers them from the first samples, 10,000 or 32 MiB of them, which wait in memory
            until then. A dimension that differs among them is free, a field that some lack is optional, and numbers
            have the narrowest type that holds all exactly; bools among integers are integers. Pictures have a mode
            ("L", "RGB" or "RGBA") that loses nothing of any. `schema` says what was decided.
        compression: None, "auto" (code what pays), "narrow", "zstd", "narrow+zstd", or these with
            ":LEVEL"; docs/performance.md compares them.
        shard_bytes: a shard ends with the block that reaches this length.
        shard_samples: a shard ends at exactly this many samples, if it was not full before.
        block_bytes: what a block aims at before coding: the unit of reading, checking and shuffling. None for 256 KiB,
            or for 2 KiB a field where that is more (from 129 fields on), but no more than `shard_bytes` then.
        metadata: a dict of anything JSON can say, given back by `ShardDataset.metadata`. Keys are strings, at any
            depth, and tuples come back as lists.
        mode: "create" refuses a folder that holds a dataset, "append" adds to it, "overwrite" replaces it; in both a
            reader sees the old dataset or the new one, never between.
        parity: writes a file of parity for every so many shards, 1 to 256: `repair` gives back any one of them, and any
            damage but where two are damaged at the same offset. A file is as long as the longest of its shards. None
            for none, or with mode="append" for what the dataset has: the parity of its last shards grows.
        storage: how an object store is reached, see `recordio.remote.options.StorageOptions`: endpoint, region, ...

    Raises:
        DatasetError: the folder is not free, or another writer is at work in it, or has published there meanwhile.
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
        block_bytes: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        mode: Mode = "create",
        parity: int | None = None,
        storage: StorageArgument = None,
    ) -> None:
        if mode not in ("create", "append", "overwrite"):
            raise SchemaError(f"unknown mode {mode!r}: expected 'create', 'append' or 'overwrite'")
        self._options = WriteOptions(
            compression=compression,
            shard_bytes=shard_bytes,
            shard_samples=shard_samples,
            block_bytes=block_bytes,
            parity=parity,
        )
        self._parity = self._options.new_parity
        self._destination = open_destination("path", path, storage)
        given = schema if isinstance(schema, Schema) or schema is None else Schema(schema)
        self._metadata = plain_metadata(metadata) if metadata is not None else {}
        require_fit(given, self._metadata)
        self._dataset_id: bytes | None = None
        self._sink: ShardSink | None = None
        self._schema = given
        self._inference = SchemaInference(partial(require_fit, metadata=self._metadata))
        self._kept: list[ShardEntry] = []
        self._statistics: Mapping[str, Any] | None = None  # of what is kept
        self._written = 0
        self._state = "open"
        try:
            self._destination.begin()
            self._start(mode, given, metadata is not None)
        except BaseException:
            self._leave()
            raise

    def _start(self, mode: Mode, schema: Schema | None, new_metadata: bool) -> None:
        old = self._destination.read(damaged=mode == "overwrite")
        if mode == "create":
            self._require_free(old)
        if mode == "append":
            if old is None:
                raise DatasetError("there is no dataset here to append to").at(file=self._destination.location)
            if schema is not None and schema != old.schema:
                raise SchemaError(f"the dataset has {old.schema}, not {schema}")
            schema = old.schema
            if (text := objection(old, self._parity)) is not None:
                raise DatasetError(text).at(file=self._destination.location)
            self._parity = old.parity
            self._dataset_id = old.dataset_id
            self._kept, self._statistics = list(old.shards), old.statistics
            self._metadata = self._metadata if new_metadata else dict(old.metadata)
            require_fit(schema, self._metadata, self._kept)
        refuse_parity(self._destination, self._parity)
        self._first = 1 + max(self._destination.numbers(), default=-1)
        if schema is not None:
            self._sink = self._new_sink(schema)

    def _new_sink(self, schema: Schema, inferred: bool = False) -> ShardSink:
        self._schema = schema
        sink = ShardSink(
            self._destination.folder,
            BlockBuilder(schema, self._options.block_target(schema), inferred),
            self._options,
            metadata=self._metadata,
            dataset_id=self._dataset_id,
            first=self._first,
        )
        sink.on_finished = self._destination.take
        return sink

    def _require_free(self, old: Manifest | None) -> None:
        path = self._destination.location
        if old is not None:
            raise DatasetError("there is a dataset here already; use mode='append' or mode='overwrite'").at(file=path)
        if self._destination.numbers():
            raise DatasetError(
                f"there are shards here but no {FILE_NAME}; move them away, or use mode='overwrite' to leave them aside"
            ).at(file=path)

    @property
    def samples(self) -> int:
        """How many samples this writer has taken."""
        return self._written

    @property
    def schema(self) -> Schema | None:
        """The fields; None while they are still to be inferred: until enough samples were written, or `close`."""
        return self._schema

    def write(self, sample: Sample) -> None:
        """Takes one sample, a dict of every field; an optional one may be left out or None.

        Raises:
            SchemaError: the sample does not fit: the message names the field, the sample, what was expected and got.
        """
        sink = self._sink
        try:
            full = self._infer(sample) if sink is None else sink.add(sample)
        except SchemaError as error:
            raise self._located(error, self._written)
        self._written += 1
        if full:
            self._begin() if sink is None else self._write_full_blocks(sink)

    def write_batch(self, columns: Mapping[str, Any]) -> None:
        """Takes many samples as columns: arrays (n, *shape) for fixed fields, sequences of n values for any field.

        Far faster than `write` for arrays. Raises SchemaError as `write` does; then nothing of the batch was taken.
        """
        sink = self._sink
        try:
            columns = plain_columns(columns)
            added = self._infer_columns(columns) if sink is None else sink.add_columns(columns)
        except SchemaError as error:
            row = error.place.sample if isinstance(error.place.sample, int) else 0
            error.place = type(error.place)(field=error.place.field)
            raise self._located(error, self._written + row)
        self._written += added
        if sink is not None:
            self._write_full_blocks(sink)
            sink.keep()
        elif self._inference.full:
            self._begin()

    def close(self) -> None:
        """Publishes. After this the dataset can be read. A second call does nothing."""
        if self._state == "failed":
            raise DatasetError("the writer failed before: nothing was published").at(file=self._destination.location)
        if self._state != "open":
            return
        try:
            self._publish()
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

    def _infer(self, sample: Sample) -> bool:
        """Takes one of the first samples. True when they are enough to decide on the schema."""
        self._require_open()
        self._inference.add(sample)
        return self._inference.full

    def _infer_columns(self, columns: Mapping[str, Any]) -> int:
        self._require_open()
        return self._inference.add_columns(columns)

    def _require_open(self) -> None:
        if self._state != "open":
            raise DatasetError(f"the writer is {self._state}").at(file=self._destination.location)

    def _begin(self) -> ShardSink:
        """Decides on the schema, and writes the samples that it was inferred from."""
        try:
            sink = self._sink = self._new_sink(self._inference.schema(), inferred=True)
            for part in self._inference.parts:
                self._write_taken(sink, part)
            sink.keep()
            self._inference.parts.clear()
        except BaseException:
            self._leave()  # samples are lost: never publish
            raise
        return sink

    def _write_taken(self, sink: ShardSink, part: Sample | Batch | Run) -> None:
        if isinstance(part, Batch):
            for columns in part.pieces():
                sink.add_columns(columns)
                sink.write_full_blocks()
        elif isinstance(part, Run) and part.packer is self._inference.packer:
            for row, nbytes in part.rows():
                if sink.add_row(row, nbytes):
                    sink.write_full_blocks()
        else:
            for sample in samples_of(part):
                if sink.add(sample):
                    sink.write_full_blocks()

    def _located(self, error: SchemaError, number: int) -> SchemaError:
        """Adds the sample's number, and advice when the schema was inferred."""
        seen = self._inference.samples
        if self._sink is not None and seen and "give schema=" not in error.fault:
            which = "first sample" if seen == 1 else f"first {seen:,} samples"
            error.fault += f"; the schema is that of the {which}: give one if others differ, {EXAMPLE}"
        return error.at(sample=number)

    def _write_full_blocks(self, sink: ShardSink) -> None:
        try:
            sink.write_full_blocks()
        except BaseException:
            self._leave()  # samples are lost: never publish
            raise

    def _publish(self) -> None:
        if self._sink is None and not self._inference.samples:
            raise SchemaError("no sample was written and no schema given: an empty dataset needs one")
        sink = self._sink or self._begin()
        sink.finish()
        shards = [*self._kept, *sink.finished.values()]
        added = [sink.measures.statistics().to_json()] if sink.finished or not self._kept else []
        statistics = merged_json([*([self._statistics] if self._kept else []), *added])
        manifest = Manifest(sink.identify(), sink.schema, self._metadata, shards, statistics, self._parity)
        self._destination.publish(manifest, sink.finished)

    def _leave(self, state: str = "failed") -> None:
        """Removes the shards that were not published, and releases the folder."""
        self._state = state
        if self._sink is not None:
            self._sink.discard()
            self._sink = None
        self._destination.end()
