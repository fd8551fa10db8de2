"""The pages of some blocks: a batch from any of them takes one or two gathers per field.

A random read makes a table of its blocks, a loader one for each window. A slot is the position of a block in its table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio import kernels
from recordio.errors import RecordIOError
from recordio.format.fields import Field
from recordio.format.narrow import NarrowPages
from recordio.format.page import Indices, Pages, VariablePages, pages
from recordio.format.ragged import Ragged
from recordio.format.schema import Columns
from recordio.reader.columns import grouped, scatter
from recordio.reader.ragged_column import gathered, joined_in_c

_FEW = 16  # values a group, up to which reading each alone costs less than a gather a group
MAX_MAPS = 8  # copy blocks from more shards than this together: gathers from many maps cost more

Mask = npt.NDArray[np.bool_]
Piece = tuple[Indices, Pages, Indices]  # slots, the pages that hold them, the number of each slot's page among these


@dataclass(frozen=True, slots=True)
class PageColumn:
    """One field of a table: the values of a slot are in page `page[slot]` of `groups[group[slot]]`.

    A single group has one page per slot, in order.
    """

    groups: list[Pages]
    group: Indices
    page: Indices

    @classmethod
    def of_shard(
        cls, mapped: Pages | None, decode: Callable[[list[int]], list[Pages]], in_place: Mask, blocks: Indices
    ) -> PageColumn:
        """A column of blocks of one shard.

        Args:
            mapped: the pages of all the shard's blocks, as they lie in its map.
            decode: gives the pages of blocks that are not read in place.
            in_place: bool (slots,), whether the page of a slot is.
            blocks: int64 (slots,), the number of each slot's block within the shard.
        """
        decoded = decode(blocks[~in_place].tolist())
        if not decoded:
            assert mapped is not None
            return cls([mapped.only(blocks)], blocks, blocks)
        groups = [*([mapped] if mapped is not None and len(decoded) < len(blocks) else []), *decoded]
        group = np.where(in_place, 0, np.cumsum(~in_place) - 1 + len(groups) - len(decoded))
        return cls(groups, group, np.where(in_place, blocks, 0))

    @classmethod
    def of(cls, kind: Field, slots: int, pieces: Iterable[Piece]) -> PageColumn:
        """A column of `slots` slots, each in one piece."""
        groups: list[Pages] = []
        group, page = np.zeros(slots, np.int64), np.arange(slots)
        for members, found, numbers in pieces:
            group[members], page[members] = len(groups), numbers
            groups.append(found)
        if not groups:
            nothing = np.zeros(0, np.int64)
            return cls([pages(kind, b"", nothing, nothing)], group, page)
        if len(groups) == 1 and not np.array_equal(page, np.arange(slots)):
            groups = [groups[0].only(page)]
        return cls(groups, group, page)

    def take(self, slot: Indices, row: Indices) -> Any:
        """The values at (slot, row), each int64 (n,), as Pages.take gives them."""
        if len(self.groups) == 1 or not len(slot):
            return self.groups[0].take(slot, row)
        if (found := self._taken(slot, row)) is not None:
            return found
        if len(slot) <= _FEW * len(self.groups) and self.groups[0].joins:
            return self._one_by_one(slot, row)
        numbers, order, runs = grouped(self.group[slot])
        each = [(self.groups[g], self.page[slot[run]], row[run]) for g, run in zip(numbers, runs, strict=True)]
        if self.groups[0].has_large_values:
            return np.array(scatter([group.views(page, rows) for group, page, rows in each], order))
        parts = []
        for group, page, rows in each:  # not a comprehension, which costs a frame
            parts.append(group.take(page, rows))
        return parts[0] if len(parts) == 1 else scatter(parts, order)

    def _taken(self, slot: Indices, row: Indices) -> Any:
        """A column from many pages in one call; None if there are no kernels for it, or they decline."""
        groups = self._kernels()
        if not groups:
            return None
        places = groups, self.group[slot], self.page[slot], row
        if isinstance(self.groups[0], VariablePages):
            return kernels.c.take(*places)
        out = self.groups[0].empty(len(row))
        return out if self.groups[0].joins and kernels.c.gather(*places, out) else None

    def _kernels(self) -> tuple[Any, ...]:
        """The groups for the kernels; none without them, or if they do not make columns of these values."""
        if kernels.c is None or isinstance(self.groups[0], NarrowPages) or self.groups[0].kernel is None:
            return ()
        return tuple([group.kernel for group in self.groups])

    def views(self, slot: Indices, row: Indices) -> list[npt.NDArray[Any]]:
        """The arrays at (slot, row), to be copied while the table is there. No value of a large one is read."""
        if len(self.groups) == 1 or not len(slot):
            return self.groups[0].views(slot, row)
        found, order, runs = grouped(self.group[slot])
        each = [self.groups[g].views(self.page[slot[run]], row[run]) for g, run in zip(found, runs, strict=True)]
        return scatter(each, order)  # type: ignore[no-any-return]

    def _one_by_one(self, slot: Indices, row: Indices) -> Any:
        gets = [group.get for group in self.groups]
        places = zip(self.group[slot].tolist(), self.page[slot].tolist(), row.tolist(), strict=True)
        return self.groups[0].joined([gets[group](page, row) for group, page, row in places])

    def ragged(self, kind: Field, slot: Indices, row: Indices) -> Ragged:
        """The values at (slot, row) of a variable field."""
        groups: Any = self.groups
        if together := self._kernels():
            group, page = (self.group[slot], self.page[slot]) if len(groups) > 1 else (None, slot)
            if (column := joined_in_c(kind, together, group, page, row)) is not None:
                return column
        if len(groups) == 1 or not len(slot):
            return gathered(kind, [(groups[0], slot, row)], None)
        if len(groups) > MAX_MAPS and len(slot) <= _FEW * len(groups):  # pages that are decoded one by one
            return Ragged.of(kind, self._one_by_one(slot, row))
        found, order, runs = grouped(self.group[slot])
        return gathered(
            kind, [(groups[g], self.page[slot[run]], row[run]) for g, run in zip(found, runs, strict=True)], order
        )


@dataclass(frozen=True, slots=True)
class PageTable:
    """The pages of some blocks, by field.

    Attributes:
        columns: the fields, in the order of the schema.
        failed: the error of each slot whose pages could not be read.
        ragged: the fields whose values are not to be objects.
    """

    columns: Mapping[str, PageColumn]
    failed: Mapping[int, RecordIOError]
    ragged: Mapping[str, Field] = field(default_factory=dict)

    def take(self, slot: Indices, row: Indices, *, views: bool = False) -> Columns:
        """The samples at (slot, row), each int64 (n,), as columns; images as stored.

        `views` gives arrays that are to be copied while the table is there, in lists, whose fields are all numbers.
        Raises the error of a slot whose pages could not be read.
        """
        for bad, error in self.failed.items():
            if (slot == bad).any():
                raise error
        if views:
            return {name: column.views(slot, row) for name, column in self.columns.items()}
        out = {}
        for name, column in self.columns.items():
            kind = self.ragged.get(name)
            out[name] = column.take(slot, row) if kind is None else column.ragged(kind, slot, row)
        return out
