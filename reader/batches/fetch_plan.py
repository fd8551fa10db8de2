"""Fetching a window: which pages stay in the maps of their shards, where the others go, and what is left to do.

The plan is made first and moves nothing but the indexes of shards; `load` then reads, checks and decodes.
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

_MAX_MAPS = 8  # blocks of more shards than this are copied together: gathers from many maps cost more
_SMALL_NBYTES = 1024  # values of up to this size are copied together from two shards on: the copy is the cheaper part
MAPPED_NBYTES = 64 << 20  # this much of every dataset may stay mapped at any time

Work = Callable[[], None]
Run = Callable[[Iterable[Work]], None]


@dataclass(frozen=True, slots=True)
class WindowLayout:
    """Where the pages of a window lie: enough for any process that has the dataset and the memory to read it.

    Attributes:
        blocks: int64 (b,), the blocks, numbered through the dataset.
        in_place: bool (fields, b), the pages that stay in the map of their shard.
        starts: int64 (fields, b), where each other page begins in memory.
        nbytes: the size of the memory.
        stays_mapped: leave its part of the maps in memory when it is freed.
    """

    blocks: Indices
    in_place: Mask
    starts: Indices
    nbytes: int
    stays_mapped: bool

    def table(
        self, dataset: OpenDataset, fields: Projection, memory: Memory, failed: Mapping[int, RecordIOError]
    ) -> PageTable:
        """The pages, which have been read into this memory but for those in place and those that failed."""
        local, numbers, slots = dataset.by_shard(self.blocks)
        samples = dataset.blocks.first[self.blocks + 1] - dataset.blocks.first[self.blocks]
        every = np.arange(len(self.blocks))
        columns = {}
        for k, ((name, kind), column) in enumerate(zip(fields.schema.items(), fields.columns, strict=True)):
            pieces: list[Piece] = []
            if not self.in_place[k].all():
                pieces.append((every, pages(kind, memory, self.starts[k], samples), every))
            for number, members in zip(numbers, slots, strict=True):
                here = members[self.in_place[k, members]]
                mapped = dataset.shard(number).reader(column).mapped if len(here) else None
                if mapped is not None:
                    pieces.append((here, mapped, local[here]))
            columns[name] = PageColumn.of(kind, len(every), pieces)
        return PageTable(columns, failed)

    def unmap(self, dataset: OpenDataset) -> None:
        """Takes the window's part of the maps out of this process's memory."""
        if self.stays_mapped:
            return
        local, numbers, slots = dataset.by_shard(self.blocks)
        for number, members in zip(numbers, slots, strict=True):
            if (shard := dataset.shards.get(number)) is not None:
                shard.unmap(local[members])


class FetchPlan:
    """Blocks, numbered through the dataset, that are to become a window.

    Plain pages stay in the map of their shard, or of a few shards if values are large; all other pages are read and
    decoded into memory of `layout.nbytes`. `has_work` is false when every page is in place and has been checked. A page
    that cannot be read goes into `failed` by its slot: the batch that needs it raises the error.

    Args:
        dataset: the dataset.
        fields: the fields to fetch.
        blocks: int64 (b,), the blocks.
        mapped_limit: a dataset of this size may stay mapped: remapping makes large plain values 25 % slower.
    """

    def __init__(
        self, dataset: OpenDataset, fields: Projection, blocks: Indices, mapped_limit: int = MAPPED_NBYTES
    ) -> None:
        self._dataset, self._fields = dataset, fields
        self.failed: dict[int, RecordIOError] = {}
        self._local, self._shards, self._slots = dataset.by_shard(blocks)
        # Sizes first, shard by shard: one may be closed and opened again before its pages are read.
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
        self._is_copy = 2 * decoded > int(self._nbytes.sum())  # the maps have done their work once it is loaded
        stays = dataset.content_nbytes <= (MAPPED_NBYTES if self._is_copy else mapped_limit)
        self.layout = WindowLayout(blocks, self._in_place, ends - extents, decoded, stays)
        self.has_work = not self._ready.all()

    def _survey(self, number: int, slots: Indices) -> bool:
        """Sizes and places of a shard's pages. False for a shard that cannot be opened."""
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
        """bool (fields,): the fields that are copied together even where they are plain."""
        shards = len(self._shards)
        small: Mask = self._nbytes.sum(axis=1) <= _SMALL_NBYTES * samples
        return small & (shards > 1) | (shards > _MAX_MAPS)

    def load(self, memory: Memory, run: Run) -> PageTable:
        """The window; the memory must not be used for anything else while the window is.

        `run` does the pieces of work, in any order, in any threads.
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
