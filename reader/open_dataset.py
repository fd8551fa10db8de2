"""An open dataset: its manifest, a bounded number of open shards, a bounded cache of decoded pages.

Nothing here knows about order, views or batches. Samples and blocks are numbered through the whole dataset.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import weakref
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from recordio.arguments import choice, integer
from recordio.errors import CorruptError, DatasetError, RecordIOError
from recordio.format.manifest import Manifest
from recordio.format.page import Indices, Pages
from recordio.format.schema import Columns
from recordio.reader.columns import grouped
from recordio.reader.open_shard import OpenShard, PageAccess, Projection, Verify
from recordio.reader.order.shuffle import PLAN_NBYTES, Blocks
from recordio.reader.page_table import PageColumn, PageTable, Piece
from recordio.storage.base import Storage
from recordio.storage.dataset_files import ShardOpener, open_shard_file, read_manifest


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a dataset is read.

    Attributes:
        verify: "first" checks a page the first time this process touches it, "always" each time, "never" not at all.
        io: "mmap" reads from memory maps, "pread" with positioned reads: slower, but a file that is cut while it is
            read gives an error where a map would kill the process; for network disks.
        cache_bytes: decoded pages kept for random access, at most.
        max_open_shards: shards open at a time, at most; None for a quarter of the files that the process may open, up
            to 256.
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
    """Decoded pages, the least recently used going first. Safe for threads."""

    def __init__(self, nbytes: int) -> None:
        self._free_nbytes = nbytes
        self._pages: OrderedDict[tuple[int, int, int], Pages] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, key: tuple[int, int, int], make: Callable[[], Pages]) -> Pages:
        """The page of this key, made if it is not there."""
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
    """Lets malloc reuse the memory of batches instead of giving it back to the system after each.

    glibc raises its thresholds for that when a large block is freed (mallopt(3), M_MMAP_THRESHOLD), which any program
    with large arrays does sooner or later. Without it every batch pays for fresh pages, up to 80 % of its time. The
    block is never touched.
    """
    with contextlib.suppress(MemoryError):
        np.empty(31 << 20, np.uint8)


def _starts(counts: Indices) -> Indices:
    """int64 (n + 1,): where each run of these many begins, and where the last ends."""
    out = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=out[1:])
    return out


_open_datasets: weakref.WeakSet[OpenDataset] = weakref.WeakSet()


@dataclass(eq=False)
class OpenDataset:
    """An open dataset. Opens shards when they are needed; safe for threads, and after a fork."""

    storage: Storage
    manifest: Manifest
    options: ReadOptions
    manifest_digest: bytes
    shards: dict[int, OpenShard] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.first = [0, *np.cumsum([entry.samples for entry in self.manifest.shards], dtype=np.int64).tolist()]
        self.samples: int = self.first[-1]
        self._most_open = self.options.max_open_shards or max(
            1, min(256, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        )
        self._opener = ShardOpener(self.manifest)
        self.restart()
        _open_datasets.add(self)
        _keep_freed_memory()

    def restart(self) -> None:
        """Forgets every open thing; they are opened anew when needed. A forked child begins so."""
        self.shards.clear()
        mapped = self.options.io == "mmap"
        self._access = PageAccess(self.options.verify, mapped, PageCache(self.options.cache_bytes))
        self._lock = threading.Lock()

    @cached_property
    def content_nbytes(self) -> int:
        """The size of all pages as they are decoded."""
        return sum(entry.content_nbytes for entry in self.manifest.shards)

    @cached_property
    def blocks(self) -> Blocks:
        """All the blocks. A block's weight is its share of its shard's content, and the plan of its samples."""
        entries = self.manifest.shards
        runs = np.array([run for entry in entries for run in entry.runs], np.int64).reshape(-1, 2)
        counts = np.repeat(runs[:, 0], runs[:, 1])
        blocks = np.array([entry.blocks for entry in entries], np.int64)
        means = [entry.content_nbytes // max(1, entry.samples) + PLAN_NBYTES for entry in entries]
        weights = counts * np.repeat(np.array(means, np.int64), blocks)
        return Blocks(_starts(counts), weights, _starts(blocks))

    def projection(self, names: Any) -> Projection:
        """The fields of these names, all of them if None. Raises SchemaError."""
        return Projection.of(self.manifest.schema, names)

    def shard(self, number: int) -> OpenShard:
        """The open shard of this number in the manifest's list."""
        shard = self.shards.get(number)
        if shard is not None:
            return shard
        with self._lock:
            return self.shards.get(number) or self._open(number)

    def _open(self, number: int) -> OpenShard:
        entry = self.manifest.shards[number]
        while len(self.shards) >= self._most_open:
            self.shards.pop(next(iter(self.shards)))  # whoever still reads from it keeps it open
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
        """Whether another manifest stands where this one was."""
        try:
            return read_manifest(self.storage, "")[1] != self.manifest_digest
        except RecordIOError:
            return False

    def sampler(self, fields: Projection) -> Callable[[int], dict[str, Any]]:
        """The function that gives one sample by its number, 0 <= number < samples; images as they are stored."""
        first, shards, dataset = self.first, self.shards, weakref.proxy(self)

        def sample(number: int) -> dict[str, Any]:
            at = bisect_right(first, number) - 1
            shard = shards.get(at) or dataset.shard(at)
            return shard.sampler(fields)(number - first[at])

        return sample

    def located(self, error: CorruptError, numbers: Indices, fields: Projection) -> CorruptError:
        """The error of the first of these samples that cannot be read, with its place. For a batch that failed."""
        if error.place.byte is not None:  # a page's error knows its place
            return error
        sample = self.sampler(fields)
        for number in numbers.tolist():
            try:
                sample(number)
            except CorruptError as found:
                return found.at(sample=number)
        return error

    def location(self, number: int) -> dict[str, Any]:
        """Where a sample is, for an error's place."""
        at = bisect_right(self.first, number) - 1
        block = int(np.searchsorted(self.shard(at).index.first, number - self.first[at], side="right")) - 1
        return {"file": self.manifest.shards[at].name, "block": block, "sample": number}

    def take(self, numbers: Indices, fields: Projection) -> Columns:
        """Any samples as columns, in the order asked for; images as they are stored."""
        try:
            table, slot, row = self._table(numbers, fields)
            return table.take(slot, row)
        except CorruptError as error:
            raise self.located(error, numbers, fields) from error.__cause__

    def _table(self, numbers: Indices, fields: Projection) -> tuple[PageTable, Indices, Indices]:
        """A table of the blocks that hold these samples, and the slot and the row of each."""
        block = np.searchsorted(self.blocks.first, numbers, side="right") - 1
        row = numbers - self.blocks.first[block]
        if len(self.first) == 2 and (table := self.shard(0).table(fields)) is not None:
            self._touch(self.shard(0), fields, block)
            return table, block, row
        blocks, slot = np.unique(block, return_inverse=True)
        return self._new_table(blocks, fields), slot, row

    def _new_table(self, blocks: Indices, fields: Projection) -> PageTable:
        local, numbers, slots = self.by_shard(blocks)
        pieces: list[list[Piece]] = [[] for _ in fields.columns]
        for number, members in zip(numbers, slots, strict=True):
            shard, inside = self.shard(number), local[members]
            for column, found in zip(fields.columns, pieces, strict=True):
                found += _read_pieces(shard, column, members, inside)
        kinds = fields.schema.items()
        return PageTable(
            {name: PageColumn.of(kind, len(blocks), found) for (name, kind), found in zip(kinds, pieces, strict=True)},
            {},
        )

    @staticmethod
    def _touch(shard: OpenShard, fields: Projection, blocks: Indices) -> None:
        for column in fields.columns:
            shard.touch(column, blocks)

    def by_shard(self, blocks: Indices) -> tuple[Indices, list[int], list[Indices]]:
        """The number of each block within its shard, the shards, and the slots of each shard's blocks."""
        at = np.searchsorted(self.blocks.shard, blocks, side="right") - 1
        shards, _, slots = grouped(at)
        return blocks - self.blocks.shard[at], shards, slots


def _read_pieces(shard: OpenShard, column: int, slots: Indices, blocks: Indices) -> list[Piece]:
    """One field of these blocks of a shard, checked: those in place are one piece, each decoded page is its own."""
    reader, out = shard.reader(column), []
    in_place = reader.in_place[blocks]
    if in_place.any():
        assert reader.mapped is not None
        shard.touch(column, blocks[in_place])
        out.append((slots[in_place], reader.mapped, blocks[in_place]))
    for k in np.flatnonzero(~in_place).tolist():
        out.append((slots[k : k + 1], reader.page(int(blocks[k])), np.zeros(1, np.int64)))
    return out


def _restart_all() -> None:
    for dataset in list(_open_datasets):
        dataset.restart()


os.register_at_fork(after_in_child=_restart_all)
