"""An open dataset: its manifest, a bounded number of open shards, a bounded cache of decoded pages.

Knows nothing of epochs, views or batches. Samples and blocks are numbered across the whole dataset.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import weakref
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from recordio.arguments import choice, integer
from recordio.errors import CorruptError, DatasetError, RecordIOError
from recordio.format.manifest import Manifest
from recordio.format.page import Indices, Pages
from recordio.format.schema import Columns
from recordio.reader.columns import grouped, scatter
from recordio.reader.open_shard import OpenShard, PageAccess, Projection, Verify
from recordio.reader.order.shuffle import PLAN_NBYTES, Blocks
from recordio.reader.page_table import PageColumn
from recordio.storage.base import Storage
from recordio.storage.dataset_files import ShardOpener, open_shard_file, read_manifest


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a dataset is read.

    Attributes:
        verify: "first" checks a page the first time this process touches it, "always" each time, "never" not at all.
        io: "mmap" reads from memory maps; "pread" uses positioned reads, for network disks: slower, but truncating a
            mapped file would kill the process.
        cache_bytes: limit of the cache of decoded pages, for random access.
        max_open_shards: limit of shards open at a time; None for a quarter of the process's file limit, up to 256.
    """

    verify: Verify = "first"
    io: Literal["mmap", "pread"] = "mmap"
    cache_bytes: int = 128 << 20
    max_open_shards: int | None = None

    def __post_init__(self) -> None:
        choice("verify", self.verify, ("first", "always", "never"))
        choice("io", self.io, ("mmap", "pread"))
        integer("cache_bytes", self.cache_bytes, 0)
        integer("max_open_shards", self.max_open_shards, 1, optional=True)


class PageCache:
    """An LRU cache of decoded pages. Thread-safe."""

    def __init__(self, nbytes: int) -> None:
        self._free_nbytes = nbytes
        self._pages: OrderedDict[tuple[int, int, int], Pages] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, key: tuple[int, int, int], make: Callable[[], Pages]) -> Pages:
        """The cached page, or a new one from `make`."""
        with self._lock:
            if key in self._pages:
                self._pages.move_to_end(key)
                return self._pages[key]
        page = make()
        with self._lock:
            if key not in self._pages:
                self._pages[key] = page
                self._free_nbytes -= page.nbytes
            while self._free_nbytes < 0 and len(self._pages) > 1:
                self._free_nbytes += self._pages.popitem(last=False)[1].nbytes
        return page


def _keep_freed_memory() -> None:
    """Lets malloc reuse the memory of batches instead of returning it to the system after each batch.

    glibc raises its thresholds when a large block is freed (mallopt(3), M_MMAP_THRESHOLD), as any program with large
    arrays does sooner or later. Otherwise every batch faults in fresh pages, up to 80 % of its time. The block itself
    is never touched.
    """
    with contextlib.suppress(MemoryError):
        np.empty(31 << 20, np.uint8)


def _starts(counts: Indices) -> Indices:
    """int64 (n + 1,): cumulative counts, beginning with 0."""
    out = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=out[1:])
    return out


_open_datasets: weakref.WeakSet[OpenDataset] = weakref.WeakSet()


@dataclass(eq=False)
class OpenDataset:
    """An open dataset. Opens shards on demand. Thread-safe, and usable after a fork."""

    storage: Storage
    manifest: Manifest
    options: ReadOptions
    manifest_digest: bytes
    shards: dict[int, OpenShard] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._first = _starts(self.manifest.table.samples)
        self.first: list[int] = self._first.tolist()
        self.samples = self.first[-1]
        self._most_open = self.options.max_open_shards or max(
            1, min(256, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        )
        self._opener = ShardOpener(self.manifest)
        self._projections: dict[tuple[str, ...] | None, Projection] = {}
        self.restart()
        _open_datasets.add(self)
        _keep_freed_memory()

    def restart(self) -> None:
        """Drops all open shards and cached pages; they come back on demand. A forked child starts with this."""
        self.shards.clear()
        mapped = self.options.io == "mmap"
        self._access = PageAccess(self.options.verify, mapped, PageCache(self.options.cache_bytes))
        self._lock = threading.Lock()

    @cached_property
    def content_nbytes(self) -> int:
        """The decoded size of all pages."""
        return sum(self.manifest.table.content_nbytes.tolist())  # exact: an int64 could overflow

    @cached_property
    def blocks(self) -> Blocks:
        """All blocks. A block's weight is its share of its shard's content plus the plan of its samples."""
        table = self.manifest.table
        counts = table.block_samples()
        means = table.content_nbytes // np.maximum(1, table.samples) + PLAN_NBYTES
        return Blocks(_starts(counts), counts * np.repeat(means, table.blocks), _starts(table.blocks))

    def projection(self, names: Sequence[str] | None) -> Projection:
        """The fields of these names, all of them if None. Raises SchemaError.

        Equal names give the same projection: open shards keep what they have built for it.
        """
        wanted = None if names is None else tuple(names)
        if wanted not in self._projections:
            self._projections[wanted] = Projection.of(self.manifest.schema, wanted)
        return self._projections[wanted]

    def shard(self, number: int) -> OpenShard:
        """An open shard, by its position in the manifest."""
        shard = self.shards.get(number)
        if shard is not None:
            return shard
        with self._lock:
            return self.shards.get(number) or self._open(number)

    def _open(self, number: int) -> OpenShard:
        entry = self.manifest.shards[number]
        while len(self.shards) >= self._most_open:
            self.shards.pop(next(iter(self.shards)))  # a running read keeps it open
        try:
            file = open_shard_file(self.storage, entry)
            shard = OpenShard(file, entry, self.manifest, self._opener.read(file, entry), self._access)
        except CorruptError as error:
            if self._replaced():
                raise DatasetError("the dataset was replaced since it was opened; open it again").at(
                    file=entry.name
                ) from error
            raise
        self.shards[number] = shard
        return shard

    def _replaced(self) -> bool:
        """Whether the manifest on disk is another one by now."""
        try:
            return read_manifest(self.storage, "")[1] != self.manifest_digest
        except RecordIOError:
            return False

    def sampler(self, fields: Projection) -> Callable[[int], dict[str, Any]]:
        """A function from 0 <= number < samples to the sample; images as stored."""
        first, shards, dataset = self.first, self.shards, weakref.proxy(self)

        def sample(number: int) -> dict[str, Any]:
            at = bisect_right(first, number) - 1
            shard = shards.get(at) or dataset.shard(at)
            read = shard.samplers.get(fields) or shard.sampler(fields)
            return read(number - first[at])

        return sample

    def located(self, error: CorruptError, numbers: Indices, fields: Projection) -> CorruptError:
        """The error of a failed batch, with the location of its first damaged sample."""
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
        k = bisect_right(self.first, number) - 1
        block = int(np.searchsorted(self.shard(k).index.first, number - self.first[k], side="right")) - 1
        return {"file": self.manifest.shards[k].name, "block": block, "sample": number}

    def take(self, numbers: Indices, fields: Projection) -> Columns:
        """Any samples as columns, in the requested order; images as stored."""
        try:
            return self._take(numbers, fields)
        except CorruptError as error:
            raise self.located(error, numbers, fields) from error.__cause__

    def _take(self, numbers: Indices, fields: Projection) -> Columns:
        """Shard by shard, so that no more than one of them is held open."""
        if not len(numbers):
            return {name: PageColumn.of(kind, 0, []).take(numbers, numbers) for name, kind in fields.schema.items()}
        if len(self.first) == 2:
            return self._take_from(0, numbers, fields)
        at = np.searchsorted(self._first, numbers, side="right") - 1
        shards, order, runs = grouped(at)
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

    def by_shard(self, blocks: Indices) -> tuple[Indices, list[int], list[Indices]]:
        """Each block's number within its shard, the shards, and the slots of each shard's blocks."""
        shard = np.searchsorted(self.blocks.shard, blocks, side="right") - 1
        shards, _, slots = grouped(shard)
        return blocks - self.blocks.shard[shard], shards, slots


def _restart_all() -> None:
    for dataset in list(_open_datasets):
        dataset.restart()


os.register_at_fork(after_in_child=_restart_all)
