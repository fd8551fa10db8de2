"""One field of an open shard: its pages in the map, and those that are decoded one by one."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recordio.format.fields import Field
from recordio.format.narrow import stored_pages
from recordio.format.page import Pages, pages

if TYPE_CHECKING:
    from recordio.reader.open_shard import OpenShard

Getter = Callable[[int, int], Any]
Mask = npt.NDArray[np.bool_]


class FieldReader:
    """One field of an open shard.

    Attributes:
        in_place: bool (blocks,), whether each page is read from the map as it is stored.
        all_in_place: whether all pages are.
        mapped: the pages in the map, by block number; None if none is read from it.
    """

    def __init__(self, shard: OpenShard, column: int) -> None:
        self._shard: OpenShard = weakref.proxy(shard)  # no cycle: an unused shard closes at once
        self._column = column
        self._field: Field = shard.fields[column]
        self.in_place: Mask = shard.in_place[:, column]
        self.all_in_place = bool(self.in_place.all())
        self.mapped: Pages | None = None
        if self.in_place.any() and shard.memory is not None:
            starts, entries = shard.index.page_offsets[:, column], shard.index.pages[:, column]
            self.mapped = stored_pages(self._field, shard.memory, starts, shard.index.samples, entries)
        self._sources: list[Any] | None = None

    def getter(self) -> Getter:
        """A function from (block, row) to the value; the page must be ready."""
        if self.mapped is None:
            return lambda block, row: self.page(block).get(0, row)
        get, in_place = self.mapped.get, self.in_place.tolist()
        if self.all_in_place:
            return get
        return lambda block, row: get(block, row) if in_place[block] else self.page(block).get(0, row)

    def source(self) -> Any:
        """Single values for `Rows` of the kernels: pages, a function as `getter` gives it, or a list by block of pages
        and weak references to decoded ones, which the page cache drops.
        """
        mapped = None if self.mapped is None else self.mapped.kernel
        if self.all_in_place:
            return mapped or self.getter()
        if not self._pages_in(0, b"").kernel:
            return self.getter()
        if self._sources is None:
            self._sources = [mapped if there else None for there in self.in_place.tolist()]
        return self._sources

    def pages_of(self, blocks: list[int]) -> list[Pages]:
        """The decoded pages of some blocks."""
        number = self._shard.number
        known = self._shard.cache.known([(number, block, self._column) for block in blocks])
        return [self.page(block) if page is None else page for block, page in zip(blocks, known, strict=True)]

    def page(self, block: int) -> Pages:
        """The decoded page of a block, from the cache or checked now."""
        page = self._shard.cache((self._shard.number, block, self._column), lambda: self._load(block))
        if self._sources is not None and page.kernel is not None:
            self._sources[block] = weakref.ref(page.kernel)
        return page

    def _load(self, block: int) -> Pages:
        return self._pages_in(block, self._shard.content(block, self._column))

    def _pages_in(self, block: int, content: bytes) -> Pages:
        return pages(self._field, content, np.zeros(1, np.int64), self._shard.index.samples[block : block + 1])
