"""An open dataset: its manifest, a bounded number of open shards, a bounded cache of decoded pages.

Knows nothing of epochs, views or batches. Samples and blocks are numbered across the whole dataset.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any, get_args

import numpy as np

from recordio.arguments import choice, integer
from recordio.errors import CorruptError, RecordIOError
from recordio.format.manifest import Manifest
from recordio.format.page import Indices
from recordio.format.schema import Columns
from recordio.format.shard_table import shard_name, starts_of
from recordio.lazy import lazy
from recordio.reader.columns import grouped, scatter
from recordio.reader.io_choice import Io, IoChoice, choose_io
from recordio.reader.open_shard import OpenShard
from recordio.reader.open_shards import OpenShards
from recordio.reader.order.blocks import Blocks
from recordio.reader.page_access import PageAccess, Projection, Verify
from recordio.reader.page_cache import PageCache
from recordio.reader.page_table import PageColumn, PageTable
from recordio.reader.row_reads import RowReads
from recordio.reader.scan import is_scan, scanned
from recordio.reader.shard_indexes import PageEntries, ShardIndexes, blocks_of
from recordio.storage.base import File, Storage
from recordio.storage.machine import share_of_files
from recordio.storage.shard_files import ShardFiles


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a dataset is read.

    Attributes:
        verify: "first" checks a page the first time this process touches it, "always" each time, "never" not at all.
        io: "mmap", "pread", "direct" or "auto"; see ShardDataset.
        page_cache_bytes: limit of the cache of decoded pages, for random access.
        max_open_shards: limit of shards open at a time; None for an eighth of the process's file limit, a sixteenth
            with "direct". All datasets together have a quarter of it.
    """

    verify: Verify = "first"
    io: Io = "auto"
    page_cache_bytes: int = 128 << 20
    max_open_shards: int | None = None

    def __post_init__(self) -> None:
        choice("verify", self.verify, ("first", "always", "never"))
        choice("io", self.io, get_args(Io))
        integer("page_cache_bytes", self.page_cache_bytes, 0)
        integer("max_open_shards", self.max_open_shards, 1, optional=True)


def _keep_freed_memory() -> None:
    """Lets malloc reuse the memory of batches instead of returning it to the system after each batch.

    glibc raises its thresholds when a large block is freed (mallopt(3), M_MMAP_THRESHOLD), as any program with large
    arrays does sooner or later. Otherwise every batch faults in fresh pages, up to 80 % of its time. The block itself
    is never touched.
    """
    with contextlib.suppress(MemoryError):
        np.empty(31 << 20, np.uint8)


_open_datasets: weakref.WeakSet[OpenDataset] = weakref.WeakSet()
_open_shards = OpenShards()


@dataclass(eq=False)
class OpenDataset:
    """An open dataset. Opens shards on demand. Thread-safe, and usable after a fork."""

    storage: Storage
    manifest: Manifest
    options: ReadOptions
    manifest_digest: bytes
    shards: dict[int, OpenShard] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._first = starts_of(self.manifest.table.samples)
        self.first: list[int] = self._first.tolist()
        self.samples = self.first[-1]
        self._files = ShardFiles(self.storage, self.manifest, self.manifest_digest)
        self._indexes: ShardIndexes | None = None
        self.nbytes = sum(self.manifest.table.nbytes.tolist())  # exact: an int64 could overflow
        self.io: IoChoice = choose_io(self.options.io, self.storage, self.nbytes)
        # A shard takes up to two descriptors, for its file and for its map or for direct reads. These need as many
        # again for the shards that are read at the moment, whereas a map is of use only while it is kept.
        own = share_of_files(16 if self.io.kind == "direct" else 8)
        self.most_open = self.options.max_open_shards or own
        self._projections: dict[Any, Projection] = {}
        self.restart()
        _open_datasets.add(self)
        _keep_freed_memory()

    def restart(self) -> None:
        """Drops all open shards and cached pages; they come back on demand. A forked child starts with this."""
        self.shards.clear()
        self.page_cache = PageCache(self.options.page_cache_bytes)
        self.access = PageAccess(
            verify=self.options.verify,
            cache=self.page_cache,
            mapped=self.io.kind == "mmap",
            direct=self.io.kind == "direct",
            drops=self.io.kind == "pread" and not self.io.fits,
            remote=self.storage.is_remote,
        )
        self._lock = threading.Lock()
        if self._indexes is not None:
            self._indexes.restart()

    @property
    def indexes(self) -> ShardIndexes:
        """The indexes of the shards."""
        if self._indexes is None:
            self._indexes = ShardIndexes(self._files, self.manifest, self.blocks.first, self.blocks.shard)
        return self._indexes

    @lazy
    def content_nbytes(self) -> int:
        """The decoded size of all pages."""
        return sum(self.manifest.table.content_nbytes.tolist())

    @lazy
    def blocks(self) -> Blocks:
        """All blocks."""
        return blocks_of(self.manifest)

    def projection(self, names: Sequence[str] | None, ragged: frozenset[str] = frozenset()) -> Projection:
        """The fields of these names, all of them if None, some of them ragged. Raises SchemaError.

        Equal names give the same projection: open shards keep what they have built for it.
        """
        wanted = None if names is None else tuple(names), ragged
        if wanted not in self._projections:
            self._projections[wanted] = Projection.of(self.manifest.schema, *wanted)
        return self._projections[wanted]

    def shown_fields(self) -> list[str] | None:
        """All fields but the names of files, which a conversion keeps to be read on request. None for all."""
        record = self.manifest.metadata.get("conversion")
        names = record.get("names") if isinstance(record, dict) else None
        every = list(self.manifest.schema)
        hidden = [name for name in every if name in names] if isinstance(names, list) else []
        return [name for name in every if name not in hidden] if 0 < len(hidden) < len(every) else None

    def shard(self, number: int) -> OpenShard:
        """An open shard, by its position in the manifest."""
        shard = self.shards.get(number)
        if shard is not None:
            return shard
        with self._lock:
            return self.shards.get(number) or self._open(number)

    def shard_within_limit(self, number: int) -> OpenShard | None:
        """The same, but None if another shard would have to be closed for it, and this dataset has its share."""
        with self._lock:
            shard = self.shards.get(number)
            if shard is None and _open_shards.has_room(self, len(_open_datasets)):
                shard = self._open(number)
            return shard

    def file(self, number: int) -> File:
        """The open file of a shard, by its position in the manifest. Kept open if that is within the limit."""
        shard = self.shards.get(number) or self.shard_within_limit(number)
        return self._files.open(number) if shard is None else shard.file

    def unkept_file(self, number: int) -> File:
        """The file of a shard, opened for a single use."""
        return self._files.open(number)

    def _open(self, number: int) -> OpenShard:
        shard = self.transient(number)
        _open_shards.keep(self, number, shard)
        return shard

    def transient(self, number: int) -> OpenShard:
        """A shard that closes with the last reference to it."""
        first, end = self.blocks.shard[number : number + 2].tolist()
        return OpenShard(
            file=self._files.open(number),
            number=self.manifest.table.numbers.item(number),
            manifest=self.manifest,
            index=partial(self.indexes.of, number),
            checked=self.indexes.checked[first:end],
            access=self.access,
        )

    def entries(
        self, blocks: Indices, columns: Sequence[int], whole: dict[int, File] | None = None
    ) -> tuple[PageEntries, dict[int, RecordIOError]]:
        """`ShardIndexes.entries`, with every page still to be checked if `verify` is "always"."""
        found, failed = self.indexes.entries(blocks, columns, whole)
        if self.options.verify == "always":
            found.checked[:] = False
        return found, failed

    def sampler(self, fields: Projection) -> Callable[[int], dict[str, Any]]:
        """A function from 0 <= number < samples to the sample; images as stored."""
        first, shards, dataset = self.first, self.shards, weakref.proxy(self)
        rows: list[RowReads] = []  # made when they are needed

        def sample(number: int) -> dict[str, Any]:
            at = bisect_right(first, number) - 1
            shard = shards.get(at)
            if shard is None:
                rows[:] = rows or [RowReads(dataset, fields)]
                return rows[0](number, at)
            read = shard.samplers.get(fields) or shard.sampler(fields)
            return read(number - first[at])

        return sample

    def located(self, error: CorruptError, numbers: Indices, fields: Projection) -> RecordIOError:
        """The error of a failed batch, with the location of its first damaged sample.

        A shard in a store can be replaced while it is open, unlike a file: then the error says so.
        """
        found = self._located(error, numbers, fields)
        return self._files.explained(found) if self.storage.is_remote else found

    def _located(self, error: CorruptError, numbers: Indices, fields: Projection) -> CorruptError:
        if error.place.byte is not None:  # a page's error has its location
            return error
        sample = self.sampler(fields)
        for number in numbers.tolist():
            try:
                sample(number)
            except CorruptError as found:
                return found.at(sample=number)
        return error

    def location(self, number: int) -> dict[str, Any]:
        """The location of a sample, for errors."""
        return self.place_of_block(int(np.searchsorted(self.blocks.first, number, side="right")) - 1) | {
            "sample": number
        }

    def place_of_block(self, block: int) -> dict[str, Any]:
        """The location of a block, for errors."""
        shard = int(np.searchsorted(self.blocks.shard, block, side="right")) - 1
        return {
            "file": shard_name(self.manifest.table.numbers.item(shard)),
            "block": block - int(self.blocks.shard[shard]),
        }

    def take(self, numbers: Indices, fields: Projection) -> Columns:
        """Any samples as columns, in the requested order; images as stored."""
        try:
            return self._take(numbers, fields)
        except CorruptError as error:
            raise self.located(error, numbers, fields) from error.__cause__

    def _take(self, numbers: Indices, fields: Projection) -> Columns:
        if not len(numbers):
            empty = {name: PageColumn.of(kind, 0, []) for name, kind in fields.schema.items()}
            return PageTable(empty, {}, fields.ragged).take(numbers, numbers)
        if is_scan(self, numbers, fields):
            return scanned(self, numbers, fields)
        if self.storage.is_remote or (len(self.first) > 2 and not self.io.fits):
            self._will_need(numbers, fields)
        if len(self.first) == 2:
            return self._take_from(0, numbers, fields)
        at = np.searchsorted(self._first, numbers, side="right") - 1
        shards, order, runs = grouped(at)
        # Shard by shard, so that no more than one of them is held open.
        parts = [self._take_from(s, numbers[run] - self._first[s], fields) for s, run in zip(shards, runs, strict=True)]
        if len(parts) == 1:
            return parts[0]
        return {name: scatter([part[name] for part in parts], order) for name in fields.schema}

    def _take_from(self, number: int, samples: Indices, fields: Projection) -> Columns:
        """Samples of one shard, by a table of all its blocks if they are read in place, or of the blocks asked for."""
        shard = self.shard(number)
        block = np.searchsorted(shard.index.first, samples, side="right") - 1
        row = samples - shard.index.first[block]
        table = shard.table(fields)
        if table is None:
            blocks, block = np.unique(block, return_inverse=True)
            table = shard.table_of(blocks, fields)
        else:
            shard.touch_all(fields, block)
        return table.take(block, row)

    def _will_need(self, numbers: Indices, fields: Projection) -> None:
        """Asks for the pages of these samples, all at once, but for those that are decoded already."""
        blocks = np.unique(np.searchsorted(self.blocks.first, numbers, side="right") - 1)
        self._ask_for_pages(blocks, fields, self.page_cache.holds)

    def ask_for(self, windows: Sequence[Indices], fields: Projection) -> None:
        """Asks a store for the pages of blocks whose indexes were asked for, window after window. Waits for indexes."""
        for blocks in windows:
            self._ask_for_pages(blocks, fields)

    def ask_for_indexes(self, shards: Indices) -> None:
        """Asks a store over a network for the indexes of some shards, all at once. Waits for nothing."""
        self._files.ask_for_indexes(self.indexes.unknown(shards))

    def _ask_for_pages(
        self, blocks: Indices, fields: Projection, is_here: Callable[[tuple[int, int, int]], bool] = lambda page: False
    ) -> None:
        entries, failed = self.entries(blocks, fields.columns)
        local, shards, slots = self.by_shard(blocks)
        for position, own in zip(shards, slots, strict=True):
            if position in failed:
                continue
            pages = product([self.manifest.table.numbers.item(position)], local[own].tolist(), fields.columns)
            places = (one[own].ravel().tolist() for one in (entries.offset, entries.stored_nbytes))
            ranges = zip(pages, zip(*places, strict=True), strict=True)
            self.file(position).will_need(place for page, place in ranges if not is_here(page))

    def samples_of(self, blocks: Indices) -> Indices:
        """int64 (n,): the number of samples in each block."""
        found: Indices = self.blocks.first[blocks + 1] - self.blocks.first[blocks]
        return found

    def shard_of(self, blocks: Indices) -> Indices:
        """int64 (n,): the shard of each block, by its position in the manifest."""
        found: Indices = np.searchsorted(self.blocks.shard, blocks, side="right") - 1
        return found

    def by_shard(self, blocks: Indices) -> tuple[Indices, list[int], list[Indices]]:
        """Each block's number within its shard, the shards, and the slots of each shard's blocks."""
        shard = self.shard_of(blocks)
        shards, _, slots = grouped(shard)
        return blocks - self.blocks.shard[shard], shards, slots


def _restart_all() -> None:
    _open_shards.restart()
    for dataset in list(_open_datasets):
        dataset.restart()


os.register_at_fork(after_in_child=_restart_all)
