"""A window: some blocks, all of their pages at hand, so that a batch from any of them is a gather or two a field."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from recordio.errors import RecordIOError
from recordio.format.layout import padded
from recordio.format.page import Indices, Pages, pages
from recordio.format.schema import Columns
from recordio.reader.open_dataset import Store
from recordio.reader.open_shard import Shard, grouped, scatter
from recordio.reader.order.shuffle import Mask

_MAX_MAPS = 8  # what lies in more shards than this is copied together: gathers from many maps cost more
_SMALL_NBYTES = 1024  # values of up to this size are copied together from two shards on: the copy is the cheaper part
MAPPED_NBYTES = 64 << 20  # of every dataset so much may be mapped at any time

Piece = Callable[[], None]
Memory = mmap.mmap | bytes
Run = Callable[[Iterable[Piece]], None]


@dataclass(frozen=True, slots=True)
class WindowField:
    """One field of a window: `groups[group[slot]]` holds the slot's values, in its page number `page[slot]`.

    A single group has a page for each slot.
    """

    groups: list[Pages]
    group: Indices
    page: Indices

    def take(self, slot: Indices, row: Indices) -> Any:
        if len(self.groups) == 1:
            return self.groups[0].take(slot, row)
        found, order, runs = grouped(self.group[slot])
        each = [(self.groups[g], self.page[slot[run]], row[run]) for g, run in zip(found, runs, strict=True)]
        if self.groups[0].has_large_values:
            return np.array(scatter([group.views(page, rows) for group, page, rows in each], order))
        parts = [group.take(page, rows) for group, page, rows in each]
        return parts[0] if len(parts) == 1 else scatter(parts, order)


@dataclass(frozen=True, slots=True)
class Window:
    """Loaded blocks. A slot is the place of a block among them."""

    fields: dict[str, WindowField]

    def take(self, slot: Indices, row: Indices) -> Columns:
        """The samples at (slot, row), each int64 (n,), as columns; images as they are stored."""
        return {name: field.take(slot, row) for name, field in self.fields.items()}


def _by_shard(store: Store, blocks: Indices) -> tuple[Indices, list[int], list[Indices]]:
    """The number of each block within its shard, the shards, and the slots of each shard's blocks."""
    at = np.searchsorted(store.blocks.shard, blocks, side="right") - 1
    shards, _, slots = grouped(at)
    return blocks - store.blocks.shard[at], shards, slots


@dataclass(frozen=True, slots=True)
class WindowLayout:
    """Where the pages of a window lie: enough for any process that has the dataset and the memory to read it.

    Attributes:
        blocks: int64 (b,), the blocks, numbered through the dataset.
        in_place: bool (fields, b), the pages that stay in the map of their shard.
        starts: int64 (fields, b), where each other page begins in memory.
        nbytes: the size of the memory.
        stays_mapped: leave what it has mapped in memory.
    """

    blocks: Indices
    in_place: Mask
    starts: Indices
    nbytes: int
    stays_mapped: bool

    def window(self, store: Store, memory: Memory) -> Window:
        """The window, whose pages have been read into this memory."""
        local, shards, slots = _by_shard(store, self.blocks)
        samples = store.blocks.first[self.blocks + 1] - store.blocks.first[self.blocks]
        mapped = [store.shard(n) if self.in_place[:, s].any() else None for n, s in zip(shards, slots, strict=True)]
        fields = {}
        for k, (name, kind) in enumerate(store.schema.items()):
            groups: list[Pages] = []
            group, page = np.zeros(len(local), np.int64), np.arange(len(local))
            if not self.in_place[k].all():
                groups.append(pages(kind, memory, self.starts[k], samples))
            for shard, members in zip(mapped, slots, strict=True):
                here = members[self.in_place[k, members]]
                found = shard.readers[store.columns[k]].mapped if shard is not None and len(here) else None
                if found is not None:
                    group[here], page[here] = len(groups), local[here]
                    groups.append(found)
            if len(groups) == 1 and self.in_place[k].any():
                groups = [groups[0].only(page)]
            fields[name] = WindowField(groups, group, page)
        return Window(fields)

    def unmap(self, store: Store) -> None:
        """Takes what the window has mapped out of this process's memory."""
        if self.stays_mapped:
            return
        local, shards, slots = _by_shard(store, self.blocks)
        for number, members in zip(shards, slots, strict=True):
            if (shard := store.shards.get(number)) is not None:
                shard.unmap(local[members])


class WindowLoad:
    """Blocks, numbered through the dataset, on their way to become a window.

    Plain pages stay in the map of their shard, or of a few shards if values are large; all other pages are read and
    decoded into memory of `layout.nbytes`. `has_work` is false when every page is in place and has been checked.
    Opening a shard raises what `Store.shard` does.

    Args:
        failed: called with a slot and the error of a page that cannot be read, which is raised if there is none.
        room: a dataset of this size may stay mapped: what is mapped anew costs large plain values a quarter more.
    """

    def __init__(
        self,
        store: Store,
        blocks: Indices,
        failed: Callable[[int, RecordIOError], None] | None = None,
        room: int = MAPPED_NBYTES,
    ) -> None:
        self._store = store
        self._failed = failed
        self._local, self._shards, self._slots = _by_shard(store, blocks)
        # Sizes first, shard by shard: one may be closed and opened again before its pages are read.
        shape = len(store.columns), len(blocks)
        self._nbytes = np.zeros(shape, np.int64)
        self._in_place, self._ready = np.zeros(shape, bool), np.zeros(shape, bool)
        opened = [self._survey(number, slots) for number, slots in zip(self._shards, self._slots, strict=True)]
        copied = self._together(int((store.blocks.first[blocks + 1] - store.blocks.first[blocks]).sum()))
        self._in_place[copied] = False
        self._ready &= self._in_place
        for slots, is_open in zip(self._slots, opened, strict=True):
            self._ready[:, slots] |= not is_open
        extents = np.where(self._in_place, 0, padded(self._nbytes))
        ends = np.cumsum(extents.ravel()).reshape(extents.shape)
        decoded = int(ends[-1, -1])
        self._is_copy = 2 * decoded > int(self._nbytes.sum())  # so that the maps have done their work when it is loaded
        stays = store.content_nbytes <= (MAPPED_NBYTES if self._is_copy else room)
        self.layout = WindowLayout(blocks, self._in_place, ends - extents, decoded, stays)
        self.has_work = not self._ready.all()

    def _survey(self, number: int, slots: Indices) -> bool:
        """Sizes and places of a shard's pages. False for a shard that is left out."""
        try:
            shard = self._store.shard(number)
        except RecordIOError as error:
            if self._failed is None:
                raise
            for slot in slots.tolist():
                self._failed(slot, error)
            return False
        local = self._local[slots]
        self._nbytes[:, slots] = shard.index.pages["nbytes"][local][:, self._store.columns].T
        for k, (column, reader) in enumerate(shard.readers.items()):
            self._in_place[k, slots] = reader.in_place[local]
            self._ready[k, slots] = shard.is_checked(column, local)
        return True

    def _together(self, samples: int) -> Mask:
        """bool (fields,): those that are copied together even where they are plain."""
        shards = len(self._shards)
        small: Mask = self._nbytes.sum(axis=1) <= _SMALL_NBYTES * samples
        return small & (shards > 1) | (shards > _MAX_MAPS)

    def load(self, memory: Memory, run: Run) -> Window:
        """The window; the memory must not be used for anything else while the window is.

        `run` does the pieces of work, in any order, in any threads. Raises CorruptError, StorageError.
        """
        if self.has_work:
            run(self._work(memoryview(memory)))
            if self._is_copy:
                self.layout.unmap(self._store)
        return self.layout.window(self._store, memory)

    def _work(self, room: memoryview) -> Iterator[Piece]:
        for number, slots in zip(self._shards, self._slots, strict=True):
            if self._ready[:, slots].all():
                continue
            shard = self._store.shard(number)
            for k, column in enumerate(self._store.columns):
                for slot in slots[~self._ready[k, slots]].tolist():
                    start, block = int(self.layout.starts[k, slot]), int(self._local[slot])
                    target = None if self._in_place[k, slot] else room[start : start + int(self._nbytes[k, slot])]
                    yield partial(self._read, shard, slot, block, column, target)

    def _read(self, shard: Shard, slot: int, block: int, column: int, target: memoryview | None) -> None:
        try:
            if target is None:
                shard.touch(column, np.array([block]))
            else:
                shard.content_into(block, column, target)
        except RecordIOError as error:
            if self._failed is None:
                raise
            self._failed(slot, error)
