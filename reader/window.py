"""A window: some blocks, all of their pages at hand, so that a batch from any of them is one gather a field."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np

from recordio.layout import padded
from recordio.page import Indices, Pages, pages
from recordio.reader.store import Store
from recordio.schema import Columns


class Arena:
    """Memory for one window after another. Fresh pages cost more than the decoding into them, so it is kept."""

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None

    def reserve(self, nbytes: int) -> mmap.mmap:
        """Memory of at least that size; what was in it before is lost."""
        if self._memory is None or len(self._memory) < nbytes:
            self._memory = None
            self._memory = mmap.mmap(-1, max(nbytes, mmap.PAGESIZE))
        return self._memory


@dataclass(frozen=True, slots=True)
class Window:
    """Loaded blocks. A slot is the place of a block among them.

    `columns` has for each field its pages, and the page in which each slot's values are.
    """

    columns: dict[str, tuple[Pages, Indices]]

    def take(self, slot: Indices, row: Indices) -> Columns:
        """The samples at (slot, row), each int64 (n,), as columns; images as they are stored."""
        return {name: pages.take(page[slot], row) for name, (pages, page) in self.columns.items()}


def load_window(store: Store, blocks: Indices, arena: Arena) -> Window:
    """Loads and checks blocks, numbered through the dataset. Raises CorruptError, StorageError.

    Pages that lie plain in one shard's map stay there; all others are read and decoded into the arena, which must not be
    used again while the window is.
    """
    at = np.searchsorted(store.shard_block, blocks, side="right") - 1
    local = blocks - store.shard_block[at]
    columns: dict[str, tuple[Pages, Indices]] = {}
    loaded: list[tuple[str, int]] = []
    for name, column in zip(store.schema, store.columns, strict=True):
        source = store.shard(int(at[0])).direct(column) if (at == at[0]).all() else None
        if source is None:
            loaded.append((name, column))
        else:
            store.shard(int(at[0])).touch(column, local)
            columns[name] = source, local
    if loaded:
        columns.update(_load(store, at, local, loaded, arena))
    return Window({name: columns[name] for name in store.schema})


def _load(
    store: Store, at: Indices, local: Indices, fields: list[tuple[str, int]], arena: Arena
) -> dict[str, tuple[Pages, Indices]]:
    numbers = [column for _, column in fields]
    sizes, samples = np.zeros((len(at), len(fields)), np.int64), np.zeros(len(at), np.int64)
    shards = np.unique(at).tolist()
    for shard in shards:  # all sizes first: a shard may be closed and opened again before its pages are read
        index, here = store.shard(shard).index, at == shard
        sizes[here] = index.pages["nbytes"][local[here]][:, numbers]
        samples[here] = index.samples[local[here]]
    extents = padded(sizes.T.ravel())
    starts = (np.cumsum(extents) - extents).reshape(len(fields), len(at))
    memory = arena.reserve(int(extents.sum()))
    room = memoryview(memory)
    for shard in shards:
        reader = store.shard(shard)
        for slot in np.flatnonzero(at == shard).tolist():
            for k, column in enumerate(numbers):
                start = int(starts[k, slot])
                reader.content_into(int(local[slot]), column, room[start : start + int(sizes[slot, k])])
    slots = np.arange(len(at))
    return {
        name: (pages(store.schema[name], memory, starts[k], samples), slots) for k, (name, _) in enumerate(fields)
    }
