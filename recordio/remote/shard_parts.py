"""The parts of a shard in which it is fetched: its header, each page, and its index with the footer.

A page's part reaches to the next page, and that of a block's first page begins with the block's header: every byte of a
shard belongs to one part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from recordio.format.index import Index
from recordio.format.layout import padded
from recordio.format.page import Indices
from recordio.remote.page_sink import CHECK, MAX_GAP
from recordio.storage.base import ShardPlace

MAX_RANGE = 8 << 20

Parts = tuple[int, int]  # the first part, and the one behind the last


def _starts(index: Index) -> Indices:
    """Where the part of each page begins."""
    starts = index.page_offsets.copy()
    starts[:, :1] = index.block_offsets[:, None]
    return starts.ravel()


class ShardParts:
    """Where the parts of a shard begin and end. Before its index is known, all pages together are one part.

    Attributes:
        bounds: int64 (parts + 1,).
        is_whole: whether the index is known.
    """

    def __init__(self, place: ShardPlace, index: Index | None) -> None:
        self.is_whole = index is not None
        starts = np.empty(0, np.int64) if index is None else _starts(index)
        behind = max(0, place.index_offset)  # a forged manifest may leave no room for an index
        header = min([place.header_nbytes, behind, *starts[:1].tolist()])
        self.bounds: Indices = np.concatenate([[0, header], starts[1:], [behind, place.nbytes]])
        self._index = index

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def of(self, offset: int, nbytes: int) -> Parts:
        """The parts that a range touches."""
        first = int(self.bounds.searchsorted(offset, side="right")) - 1
        return first, int(self.bounds.searchsorted(offset + nbytes, side="left"))

    def touched(self, ranges: Iterable[tuple[int, int]]) -> npt.NDArray[np.bool_]:
        """bool (parts,): those that any of the ranges touches."""
        table = np.array(list(ranges), np.int64).reshape(-1, 2)
        first = np.searchsorted(self.bounds, table[:, 0], side="right") - 1
        behind = np.searchsorted(self.bounds, table.sum(axis=1), side="left")
        steps = np.zeros(len(self) + 1, np.int64)
        np.add.at(steps, np.clip(first, 0, len(self)), 1)
        np.add.at(steps, np.clip(behind, 0, len(self)), -1)
        found: npt.NDArray[np.bool_] = np.cumsum(steps)[:-1] > 0
        return found

    def requests(self, wanted: npt.NDArray[np.bool_], max_gap: int = MAX_GAP) -> Iterator[Parts]:
        """Runs of parts to fetch at once: joined over gaps up to a size, cut where they get large."""
        parts = np.flatnonzero(wanted)
        for some in np.split(parts, np.searchsorted(parts, [1, len(self) - 1])):  # header and index stay alone
            for first, behind in joined(self.bounds[some], self.bounds[some + 1], max_gap):
                yield some.item(first), some.item(behind - 1) + 1

    def extent(self, parts: Parts) -> tuple[int, int]:
        """Where some parts begin and end."""
        return self.bounds.item(parts[0]), self.bounds.item(parts[1])

    def number(self, part: int) -> int:
        """A part's number, the same before and after the index is known: header, index, then the pages."""
        return 0 if part == 0 else 1 if part == len(self) - 1 else part + 1

    def numbers(self, parts: Parts) -> Indices:
        """int64 (n,): the numbers of some parts; those of pages follow one another."""
        found = np.arange(*parts) + 1
        found[found == 1] = 0
        found[found == len(self)] = 1
        return found

    def are_numbered(self, parts: Parts) -> bool:
        """Whether each of these parts has a number: pages have none before the index is known."""
        return self.is_whole or parts in ((0, 1), (2, 3))

    def checks(self, parts: Parts) -> bytes:
        """The pages among these parts, as the helper checks them."""
        if self._index is None:
            return b""
        pages, first = self._index.pages, max(parts[0], 1) - 1
        behind = min(parts[1], len(self) - 1) - 1
        offsets = self._index.page_offsets.ravel()[first:behind]
        some = pages.ravel()[first:behind]
        nbytes = padded(some["stored_nbytes"].astype(np.int64))
        rows = zip(offsets.tolist(), nbytes.tolist(), some["checksum"].tolist(), strict=True)
        return b"".join(CHECK.pack(*row) for row in rows)


def joined(begins: Indices, ends: Indices, max_gap: int) -> Iterator[tuple[int, int]]:
    """The first of ascending ranges that are fetched at once, and the one behind the last.

    They are joined over gaps up to a size, and cut where they get large.
    """
    low, high, first = begins.tolist(), ends.tolist(), 0
    for one in range(1, len(low)):
        if low[one] - high[one - 1] > max_gap or high[one] - low[first] > MAX_RANGE:
            yield first, one
            first = one
    if low:
        yield first, len(low)
