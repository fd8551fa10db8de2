"""A window: some blocks, all of their pages at hand, so that a batch from any of them is a gather or two a field."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from recordio.layout import padded
from recordio.page import Indices, Pages, pages
from recordio.reader.arena import Arena
from recordio.reader.shard import grouped, scatter
from recordio.reader.store import Store
from recordio.schema import Columns

_MAX_MAPS = 8  # a field that lies in more shards than this is copied together: gathers from many maps cost more

Work = Callable[[], None]
Run = Callable[[Iterable[Work]], None]


@dataclass(frozen=True, slots=True)
class WindowField:
    """One field of a window: `groups[group[slot]]` holds the slot's values, in its page number `page[slot]`."""

    groups: list[Pages]
    group: Indices
    page: Indices

    def take(self, slot: Indices, row: Indices) -> Any:
        if len(self.groups) == 1:
            return self.groups[0].take(self.page[slot], row)
        found, order, runs = grouped(self.group[slot])
        parts = [self.groups[g].take(self.page[slot[run]], row[run]) for g, run in zip(found, runs, strict=True)]
        return parts[0] if len(parts) == 1 else scatter(parts, order)


@dataclass(frozen=True, slots=True)
class Window:
    """Loaded blocks. A slot is the place of a block among them."""

    fields: dict[str, WindowField]

    def take(self, slot: Indices, row: Indices) -> Columns:
        """The samples at (slot, row), each int64 (n,), as columns; images as they are stored."""
        return {name: field.take(slot, row) for name, field in self.fields.items()}


class WindowLoad:
    """Blocks, numbered through the dataset, on their way to become a window.

    Plain pages stay in the maps of their shards, unless the shards are many; all other pages are read and decoded
    into an arena. `has_work` is false when every page is in place and has been checked. Opening a shard raises what
    `Store.shard` does.
    """

    def __init__(self, store: Store, blocks: Indices) -> None:
        self._store = store
        self._at = np.searchsorted(store.shard_block, blocks, side="right") - 1
        self._local = blocks - store.shard_block[self._at]
        self._shards, _, self._slots = grouped(self._at)
        # Sizes first, shard by shard: one may be closed and opened again before its pages are read.
        shape = len(store.columns), len(blocks)
        self._nbytes, self._samples = np.zeros(shape, np.int64), np.zeros(len(blocks), np.int64)
        self._in_place, self._ready = np.zeros(shape, bool), np.zeros(shape, bool)
        for number, slots in zip(self._shards, self._slots, strict=True):
            self._survey(number, slots)
        self.has_work = not self._ready.all()

    def _survey(self, number: int, slots: Indices) -> None:
        shard, local = self._store.shard(number), self._local[slots]
        self._samples[slots] = shard.index.samples[local]
        self._nbytes[:, slots] = shard.index.pages["nbytes"][local][:, self._store.columns].T
        if len(self._shards) <= _MAX_MAPS:
            for k, (column, reader) in enumerate(shard.readers.items()):
                self._in_place[k, slots] = reader.in_place[local]
                self._ready[k, slots] = reader.in_place[local] & shard.is_checked(column, local)

    def load(self, arena: Arena, run: Run) -> Window:
        """The window; the arena must not be used again while the window is.

        `run` does the pieces of work, in any order, in any threads. Raises CorruptError, StorageError.
        """
        extents = np.where(self._in_place, 0, padded(self._nbytes))
        ends = np.cumsum(extents.ravel()).reshape(extents.shape)
        starts = ends - extents
        memory = arena.reserve(int(ends[-1, -1]))
        if self.has_work:
            run(self._work(memoryview(memory), starts))
        return Window({name: self._field(k, name, memory, starts[k]) for k, name in enumerate(self._store.schema)})

    def _work(self, room: memoryview, starts: Indices) -> Iterator[Work]:
        for number, slots in zip(self._shards, self._slots, strict=True):
            shard = self._store.shard(number)
            for k, column in enumerate(self._store.columns):
                for slot in slots[~self._ready[k, slots]].tolist():
                    if self._in_place[k, slot]:
                        yield lambda c=column, b=self._local[slot : slot + 1], s=shard: s.touch(c, b)  # type: ignore[misc]
                    else:
                        start, block = int(starts[k, slot]), int(self._local[slot])
                        target = room[start : start + int(self._nbytes[k, slot])]
                        yield lambda c=column, b=block, t=target, s=shard: s.content_into(b, c, t)  # type: ignore[misc]

    def _field(self, k: int, name: str, memory: mmap.mmap, starts: Indices) -> WindowField:
        groups: list[Pages] = []
        group, page = np.zeros(len(self._at), np.int64), np.arange(len(self._at))
        if not self._in_place[k].all():
            groups.append(pages(self._store.schema[name], memory, starts, self._samples))
        for number, slots in zip(self._shards, self._slots, strict=True):
            here = slots[self._in_place[k, slots]]
            mapped = self._store.shard(number).readers[self._store.columns[k]].mapped if len(here) else None
            if mapped is not None:
                group[here], page[here] = len(groups), self._local[here]
                groups.append(mapped)
        return WindowField(groups, group, page)
