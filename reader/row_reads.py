"""Single samples of shards that are not open, without opening them for good.

A shuffled pass by index over more shards than may be open would close one and map another for almost every sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recordio.errors import CorruptError
from recordio.format.narrow import read_narrow_row
from recordio.format.page import read_row
from recordio.reader.page_access import Projection
from recordio.reader.shard_indexes import RowForm
from recordio.storage.base import File

if TYPE_CHECKING:
    from recordio.reader.open_dataset import OpenDataset


class RowReads:
    """Gives single samples; images as stored. Checked pages, plain or narrow, take a few small reads for each.

    Other pages are read, checked and decoded as a whole, and decoded ones are kept in the dataset's cache.
    """

    def __init__(self, dataset: OpenDataset, fields: Projection) -> None:
        self._dataset = dataset
        self._fields = fields
        self._kinds = list(fields.schema.items())
        self._none = [0] * len(dataset.manifest.schema)
        self._first = dataset.blocks.first
        # Over a network a page is read as a whole.
        self._always = dataset.options.verify == "always" or dataset.storage.is_remote
        self._checked: Any = None
        self._ready = bytearray()

    def __call__(self, number: int, shard: int) -> dict[str, Any]:
        """The sample of this number, of a shard by its position in the manifest."""
        block = int(self._first.searchsorted(number, side="right")) - 1
        marks = self._dataset.indexes.checked
        places = self._readable(shard, block)
        if places is not None:
            file = self._dataset.unkept_file(shard)
            if self._dataset.indexes.checked is marks:  # else the shard has become another file
                return self._row(file, block, number - int(self._first[block]), places)
        opened = self._dataset.transient(shard)  # a sampler does not keep its shard open
        return opened.sampler(self._fields)(number - self._dataset.first[shard])

    def _row(self, file: File, block: int, row: int, places: Sequence[tuple[int, int]]) -> dict[str, Any]:
        samples, found = int(self._first[block + 1] - self._first[block]), {}
        for (name, kind), (offset, narrow) in zip(self._kinds, places, strict=True):
            try:
                if narrow:
                    found[name] = read_narrow_row(kind, file.read, offset, samples, row, narrow)  # type: ignore[arg-type]
                else:
                    found[name] = read_row(kind, file.read, offset, samples, row)
            except CorruptError as error:
                raise error.at(**self._dataset.place_of_block(block), field=name)
        return found

    def _readable(self, shard: int, block: int) -> list[tuple[int, int]] | None:
        """Where the pages of a block begin, and the bytes of narrow ones, 0 of others.

        None if any of them is neither, or needs more checks.
        """
        indexes = self._dataset.indexes
        if indexes.checked is not self._checked:  # at first, in a forked child, if a shard has become another file
            self._ready, self._checked = bytearray(len(self._first) - 1), indexes.checked
        if not self._ready[block]:
            form = RowForm.NOT if self._always else indexes.read_by_rows(shard, block, self._fields.numbers)
            if form is RowForm.NOT:
                return None
            self._ready[block] = form
        offsets = indexes.page_offsets(shard, block)
        narrow = self._none if self._ready[block] == RowForm.PLAIN else indexes.narrow_nbytes(shard, block)
        if offsets is None or narrow is None:
            return None
        return [(offsets[column], narrow[column]) for column in self._fields.columns]
