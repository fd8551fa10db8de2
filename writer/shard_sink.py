"""Samples into shards: one loop for `DatasetWriter` and for the units of a conversion."""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from recordio.format.checksum import digest
from recordio.format.manifest import ShardEntry, shard_name
from recordio.format.schema import Columns, Sample
from recordio.format.shard import ShardHeader
from recordio.process_guard import ThreadPool
from recordio.statistics.measures import Measures
from recordio.storage.atomic import TEMPORARY, sync_folder
from recordio.storage.base import storage_error
from recordio.writer.blocks import BlockBuilder, FullBlock
from recordio.writer.packing import PackedList
from recordio.writer.shard_writer import ShardWriter, WriteOptions

_UNLIMITED = 1 << 63
_BEHIND = 2  # groups of blocks that wait to be written, or are


class ShardSink:
    """Collects samples into blocks, writes the blocks, and starts the next shard when one is full.

    Contract: a shard keeps its temporary name until the caller renames it. Packing errors leave the sink as it was.
    Write errors lose samples: the caller must `discard`.

    Attributes:
        schema: the schema of the samples.
        finished: temporary path and manifest entry of each shard that is complete and synced.
        measures: measure what is written.
        on_finished: called with path and entry of each shard that is finished.
    """

    on_finished: Callable[[Path, ShardEntry], None] | None = None

    def __init__(
        self,
        folder: Path,
        builder: BlockBuilder,
        options: WriteOptions,
        *,
        metadata: Mapping[str, Any],
        dataset_id: bytes | None,
        first: int,
        measures: Measures | None = None,
    ) -> None:
        """
        Args:
            folder: where the shards are written.
            builder: packs the samples and cuts the blocks.
            options: when a shard is full, and how pages are compressed.
            metadata: goes into the header of every shard.
            dataset_id: 16 bytes; None derives them from the schema and the first block.
            first: number of the first shard.
            measures: None for new ones.
        """
        self.schema = builder.schema
        self.measures = measures or Measures(builder.schema)
        self._dataset_id = dataset_id
        self.finished: dict[Path, ShardEntry] = {}
        self._folder = folder
        self._builder = builder
        self._options = options
        self._metadata = metadata
        self._next = first
        self._shard: ShardWriter | None = None

    def add(self, sample: Sample) -> bool:
        """Takes one sample. True when `write_full_blocks` is due. Raises SchemaError."""
        return self._builder.add(sample) or self._options.shard_samples is not None

    def add_row(self, row: PackedList, nbytes: int) -> bool:
        """`add` of a sample that is packed as this schema says, and has so many bytes."""
        return self._builder.add_row(row, nbytes) or self._options.shard_samples is not None

    def add_columns(self, columns: Mapping[str, Any]) -> int:
        """Takes a batch and returns its length. The sink borrows the arrays until `keep`. Raises SchemaError."""
        before = self._builder.waiting
        self._builder.add_columns(columns)
        return self._builder.waiting - before

    def keep(self) -> None:
        """Copies what is still borrowed from the caller's arrays."""
        self._builder.keep()

    def write_full_blocks(self) -> None:
        """Raises StorageError."""
        while block := self._builder.take(self._free_rows()):
            self.write_block(block)

    def take_full_blocks(self) -> list[FullBlock]:
        """For `write_block`, of a shard without limits; they borrow nothing."""
        return [block.owned() for block in iter(self._builder.take, None)]

    def open_shard(self, first: FullBlock | None = None) -> ShardWriter:
        """Starts a shard with its first block in view. Only an empty shard needs to be started by the caller."""
        header = ShardHeader(self.identify(first), self._next, self.schema, self._metadata)
        path = self._folder / f".{shard_name(self._next)}{TEMPORARY}"
        self._shard = ShardWriter(path, header, self._options, self.measures)
        self._next += 1
        return self._shard

    def identify(self, first: FullBlock | None = None) -> bytes:
        """The dataset's id. Derived once, from the schema and the first block: equal input gives equal bytes."""
        if self._dataset_id is None:
            schema = json.dumps(self.schema.to_json()).encode()
            self._dataset_id = digest([schema, first.content() if first else b""])
        return self._dataset_id

    def finish(self) -> None:
        """Writes the samples that are left and finishes the last shard. Raises StorageError."""
        if block := self._builder.flush():
            self.write_block(block)
        self._finish_shard()

    def discard(self) -> None:
        """Removes every shard that still has its temporary name."""
        if self._shard is not None:
            self._shard.abandon()
            self._shard = None
        for path in self.finished:
            path.unlink(missing_ok=True)
        self.finished = {}

    def _free_rows(self) -> int | None:
        """Samples that still fit the shard; None without a limit."""
        limit = self._options.shard_samples
        if limit is None:
            return None
        return limit - (self._shard.samples if self._shard else 0)

    def write_block(self, block: FullBlock) -> None:
        shard = self._shard or self.open_shard(block)
        shard.write_block(block)
        if shard.nbytes >= self._options.shard_bytes or self._free_rows() == 0:
            self._finish_shard()
            self._builder.restart()

    def _finish_shard(self) -> None:
        if self._shard is not None:
            path, entry = self._shard.path, self._shard.finish()
            self.finished[path] = entry
            self._shard = None
            if self.on_finished is not None:
                self.on_finished(path, entry)


class _Behind:
    """Codes and writes the full blocks of a shard in a thread, while the next samples are made."""

    def __init__(self, sink: ShardSink) -> None:
        self._sink = sink
        self._pool: ThreadPool | None = ThreadPool(1, "recordio-write")
        self._writing: deque[Future[Any]] = deque()
        self._has_failed = False
        try:
            self._pool.submit(int)
        except RuntimeError:  # the system has no more threads: the caller's has to do
            self._pool = None

    def write_full_blocks(self) -> None:
        """Raises StorageError for blocks before these, or on leaving the context."""
        if blocks := self._sink.take_full_blocks():
            while len(self._writing) >= _BEHIND:
                self._writing.popleft().result()
            if self._pool is None:
                self._write(blocks)
            else:
                self._writing.append(self._pool.submit(self._write, blocks))

    def _write(self, blocks: list[FullBlock]) -> None:
        for block in blocks:
            if self._has_failed:
                return
            try:
                self._sink.write_block(block)
            except BaseException:
                self._has_failed = True  # or blocks that wait already would be written without this one
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is not None:
            self._has_failed = True
        interrupted: KeyboardInterrupt | None = None
        while not all(future.done() for future in self._writing):
            try:
                wait(self._writing)
            except KeyboardInterrupt as error:  # a thread left writing would write into files of the next conversion
                self._has_failed, interrupted = True, error
        if self._pool is not None:
            self._pool.shutdown()
        if interrupted is not None:
            raise interrupted
        if exception[0] is None:
            for future in self._writing:
                future.result()


def write_shard(
    folder: Path,
    header: ShardHeader,
    samples: Iterable[Sample],
    options: WriteOptions,
    batches: Iterable[Columns] = (),
    measures: Measures | None = None,
) -> ShardEntry:
    """Writes all the samples, then those in batches of columns, to one shard. `measures` take them.

    The shard appears in `folder` in one step and is durable. Its limits in `options` do not apply, and no samples make
    an empty one. Its bytes do not depend on which samples come in batches. On any error, one raised by `samples` or
    `batches` included, no file is left.
    """
    path = folder / shard_name(header.number)
    path.with_name(f".{path.name}{TEMPORARY}").unlink(missing_ok=True)
    unlimited = replace(options, shard_bytes=_UNLIMITED, shard_samples=None)
    builder = BlockBuilder(header.schema, options.block_target(header.schema))
    sink = ShardSink(
        folder,
        builder,
        unlimited,
        metadata=header.metadata,
        dataset_id=header.dataset_id,
        first=header.number,
        measures=measures,
    )
    try:
        sink.open_shard()
        with _Behind(sink) as behind:
            for sample in samples:
                if sink.add(sample):
                    behind.write_full_blocks()
            for columns in batches:
                sink.add_columns(columns)
                behind.write_full_blocks()
                sink.keep()
        sink.finish()
        ((temporary, entry),) = sink.finished.items()
        rename(temporary, path)
    except BaseException:
        sink.discard()
        raise
    sync_folder(folder)
    return entry


def rename(temporary: Path, path: Path) -> None:
    """Gives a finished file its name, in place of any file that has it. Raises StorageError."""
    try:
        os.replace(temporary, path)
    except OSError as error:
        raise storage_error("rename", path, error) from error


def shard_numbers(folder: Path) -> list[int]:
    """The numbers of all shard files in a folder, published or not."""
    numbers = (shard_number(path.name) for path in folder.glob("shard-*.rio"))
    return [number for number in numbers if number is not None]


def shard_number(name: str) -> int | None:
    """The number of the shard in a file of this name; None if it is no shard's."""
    found = re.fullmatch(r"shard-(\d+)\.rio", name, re.ASCII)
    return int(found[1]) if found else None
