"""Single samples of shards that are not open, without opening them for good.

A shuffled pass by index over more shards than may be open would close one and map another for almost every sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recordio.errors import CorruptError
from recordio.format.page import read_row
from recordio.reader.page_access import Projection
from recordio.storage.base import File

if TYPE_CHECKING:
    from recordio.reader.open_dataset import OpenDataset


class RowReads:
    """Gives single samples; images as stored. Plain pages that have been checked take a few small reads for each.

    Other pages are read, checked and decoded as a whole, and decoded ones are kept in the dataset's cache.
    """

    def __init__(self, dataset: OpenDataset, fields: Projection) -> None:
        self._dataset = dataset
        self._fields = fields
        self._kinds = list(fields.schema.items())
        self._first = dataset.blocks.first
        # Over a network a page is read as a whole.
        self._always = dataset.options.verify == "always" or dataset.storage.is_remote
        self._checked: Any = None
        self._ready = bytearray()

    def __call__(self, number: int, shard: int) -> dict[str, Any]:
        """The sample of this number, of a shard by its position in the manifest."""
        block = int(self._first.searchsorted(number, side="right")) - 1
        marks = self._dataset.indexes.checked
        offsets = self._readable(shard, block)
        if offsets is not None:
            file = self._dataset.unkept_file(shard)
            if self._dataset.indexes.checked is marks:  # else the shard has become another file
                return self._row(file, block, number - int(self._first[block]), offsets)
        opened = self._dataset.transient(shard)  # a sampler does not keep its shard open
        return opened.sampler(self._fields)(number - self._dataset.first[shard])

    def _row(self, file: File, block: int, row: int, offsets: Sequence[int]) -> dict[str, Any]:
        samples, found = int(self._first[block + 1] - self._first[block]), {}
        for (name, kind), offset in zip(self._kinds, offsets, strict=True):
            try:
                found[name] = read_row(kind, file.read, offset, samples, row)
            except CorruptError as error:
                raise error.at(**self._dataset.place_of_block(block), field=name)
        return found

    def _readable(self, shard: int, block: int) -> list[int] | None:
        """Where the pages of a block begin, if all of them are plain and need no more checks."""
        indexes = self._dataset.indexes
        if indexes.checked is not self._checked:  # at first, in a forked child, if a shard has become another file
            self._ready, self._checked = bytearray(len(self._first) - 1), indexes.checked
        if not self._ready[block]:
            if self._always or not indexes.are_plain_and_checked(shard, block, self._fields.numbers):
                return None
            self._ready[block] = True
        offsets = indexes.page_offsets(shard, block)
        return None if offsets is None else [offsets[column] for column in self._fields.columns]
