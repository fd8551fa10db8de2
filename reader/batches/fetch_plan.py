"""Fetches a window: decides which pages stay in the maps of their shards, and reads the others into memory.

The plan comes first and reads only the indexes of shards; `load` then reads, checks and decodes pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from recordio.errors import RecordIOError
from recordio.format.layout import padded
from recordio.format.page import Indices, pages
from recordio.reader.batches.memory import Memory
from recordio.reader.open_dataset import OpenDataset
from recordio.reader.open_shard import OpenShard, Projection
from recordio.reader.order.shuffle import Mask
from recordio.reader.page_table import PageColumn, PageTable, Piece

_MAX_MAPS = 8  # copy blocks from more shards than this together: gathers from many maps cost more
_SMALL_NBYTES = 1024  # copy values of up to this size together from two shards on: cheaper than two gathers
MAPPED_NBYTES = 64 << 20  # datasets of up to this size stay mapped

Work = Callable[[], None]
Run = Callable[[Iterable[Work]], None]


@dataclass(frozen=True, slots=True)
class WindowLayout:
    """Where the pages of a window lie. With it any process that has the dataset and the memory can read the window.

    Attributes:
        blocks: int64 (b,), the block of each slot.
        in_place: bool (fields, b), the pages that stay in the map of their shard.
        starts: int64 (fields, b), the offset in memory of each other page.
        nbytes: the size of the memory.
        stays_mapped: keep its pages mapped when the window is freed.
    """

    blocks: Indices
    in_place: Mask
    starts: Indices
    nbytes: int
    stays_mapped: bool

    def table(
        self, dataset: OpenDataset, fields: Projection, memory: Memory, failed: Mapping[int, RecordIOError]
    ) -> PageTable:
        """The pages of the window: in place, in this memory, or failed."""
        local, shards, slots = dataset.by_shard(self.blocks)
        samples = dataset.blocks.first[self.blocks + 1] - dataset.blocks.first[self.blocks]
        every = np.arange(len(self.blocks))
        columns = {}
        for k, ((name, kind), column) in enumerate(zip(fields.schema.items(), fields.columns, strict=True)):
            pieces: list[Piece] = []
            if not self.in_place[k].all():
                pieces.append((every, pages(kind, memory, self.starts[k], samples), every))
            for shard, own in zip(shards, slots, strict=True):
                in_place = own[self.in_place[k, own]]
                mapped = dataset.shard(shard).reader(column).mapped if len(in_place) else None
                if mapped is not None:
                    pieces.append((in_place, mapped, local[in_place]))
            columns[name] = PageColumn.of(kind, len(every), pieces)
        return PageTable(columns, failed)

    def unmap(self, dataset: OpenDataset) -> None:
        """Takes the window's pages out of this process's memory, unless they stay mapped."""
        if self.stays_mapped:
            return
        local, shards, slots = dataset.by_shard(self.blocks)
        for number, own in zip(shards, slots, strict=True):
            if (shard := dataset.shards.get(number)) is not None:
                shard.unmap(local[own])


class FetchPlan:
    """The plan to load blocks as a window.

    Plain pages stay in the map of their shard, or of a few shards if values are large; all other pages are read and
    decoded into memory of `layout.nbytes`. `has_work` is false when every page is in place and has been checked. A page
    that cannot be read puts its error into `failed` by its slot, and fails the batches that need the slot.

    Args:
        dataset: the dataset.
        fields: the fields to fetch.
        blocks: int64 (b,), the block of each slot.
        mapped_limit: datasets of up to this size stay mapped: remapping makes large plain values 25 % slower.
    """

    def __init__(
        self, dataset: OpenDataset, fields: Projection, blocks: Indices, mapped_limit: int = MAPPED_NBYTES
    ) -> None:
        self._dataset = dataset
        self._fields = fields
        self.failed: dict[int, RecordIOError] = {}
        self._local, self._shards, self._slots = dataset.by_shard(blocks)
        # All sizes now: a shard may be closed and reopened before its pages are read.
        shape = len(fields.columns), len(blocks)
        self._nbytes = np.zeros(shape, np.int64)
        self._in_place, self._ready = np.zeros(shape, bool), np.zeros(shape, bool)
        opened = [self._survey(number, slots) for number, slots in zip(self._shards, self._slots, strict=True)]
        copied = self._copied_together(int((dataset.blocks.first[blocks + 1] - dataset.blocks.first[blocks]).sum()))
        self._in_place[copied] = False
        self._ready &= self._in_place
        for slots, is_open in zip(self._slots, opened, strict=True):
            self._ready[:, slots] |= not is_open
        extents = np.where(self._in_place, 0, padded(self._nbytes))
        ends = np.cumsum(extents.ravel()).reshape(extents.shape)
        decoded = int(ends[-1, -1])
        self._is_copy = 2 * decoded > int(self._nbytes.sum())  # then the maps are not needed after loading
        stays = dataset.content_nbytes <= (MAPPED_NBYTES if self._is_copy else mapped_limit)
        self.layout = WindowLayout(blocks, self._in_place, ends - extents, decoded, stays)
        self.has_work = not self._ready.all()

    def _survey(self, number: int, slots: Indices) -> bool:
        """Notes the size and state of a shard's pages. False if the shard cannot be opened."""
        try:
            shard = self._dataset.shard(number)
        except RecordIOError as error:
            self.failed.update(dict.fromkeys(slots.tolist(), error))
            return False
        local, columns = self._local[slots], self._fields.columns
        self._nbytes[:, slots] = shard.index.pages["nbytes"][local][:, columns].T
        for k, column in enumerate(columns):
            self._in_place[k, slots] = shard.reader(column).in_place[local]
            self._ready[k, slots] = shard.is_checked(column, local)
        return True

    def _copied_together(self, samples: int) -> Mask:
        """bool (fields,): the fields of which plain pages are copied too."""
        shards = len(self._shards)
        small: Mask = self._nbytes.sum(axis=1) <= _SMALL_NBYTES * samples
        return small & (shards > 1) | (shards > _MAX_MAPS)

    def load(self, memory: Memory, run: Run) -> PageTable:
        """The pages of the window. Nothing else may use the memory meanwhile.

        `run` executes the pieces of work, in any order and in any threads.
        """
        if self.has_work:
            run(self._work(memoryview(memory)))
            if self._is_copy:
                self.layout.unmap(self._dataset)
        return self.layout.table(self._dataset, self._fields, memory, self.failed)

    def _work(self, memory: memoryview) -> Iterator[Work]:
        for number, slots in zip(self._shards, self._slots, strict=True):
            if self._ready[:, slots].all():
                continue
            shard = self._dataset.shard(number)
            for k, column in enumerate(self._fields.columns):
                for slot in slots[~self._ready[k, slots]].tolist():
                    start, block = int(self.layout.starts[k, slot]), int(self._local[slot])
                    target = None if self._in_place[k, slot] else memory[start : start + int(self._nbytes[k, slot])]
                    yield partial(self._read, shard, slot, block, column, target)

    def _read(self, shard: OpenShard, slot: int, block: int, column: int, target: memoryview | None) -> None:
        try:
            if target is None:
                shard.touch(column, np.array([block]))
            else:
                shard.content_into(block, column, target)
        except RecordIOError as error:
            self.failed[slot] = error
