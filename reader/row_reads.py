"""Reads single samples of shards that are not open.

Once as many shards are open as may be, a shuffled pass by index would close one and map another for almost every
sample. So the rest of them are not mapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field as dataclass_field
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from recordio.errors import CorruptError
from recordio.format.rows import read_narrow_row, read_row
from recordio.reader.page_access import Projection
from recordio.reader.shard_indexes import RowForm
from recordio.storage.base import File
from recordio.storage.machine import share_of_files

if TYPE_CHECKING:
    from recordio.reader.open_dataset import OpenDataset


_MOST_PLACES = 1 << 15  # blocks, at some 400 bytes each

_Pages = Sequence[tuple[int, int]]  # where the pages of a block begin, and the bytes of narrow ones, 0 of others
_Place = tuple[File, int, int, _Pages]  # the file, the block's first sample, its samples, its pages
_kept: WeakSet[File] = WeakSet()  # files that this process keeps open for single samples, a twelfth of all at most


@dataclass(slots=True)
class _Known:
    """What is known of the files of a dataset until one of them becomes another one.

    It is replaced as a whole: a thread that still reads the former file adds to the former one, which nobody asks.

    Attributes:
        checked: the marks of `ShardIndexes.checked`, another array once a file is another one.
        ready: the RowForm of each block whose pages have been checked.
        files: the files that are kept, by the shard's position.
        places: by block, of files that are kept.
    """

    checked: Any
    ready: bytearray
    files: dict[int, File] = dataclass_field(default_factory=dict)
    places: dict[int, _Place] = dataclass_field(default_factory=dict)


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
        self._keeps_files = dataset.options.max_open_shards is None  # else none beyond those are to be open
        self._known = _Known(None, bytearray())

    def __call__(self, number: int, shard: int) -> dict[str, Any]:
        """The sample of this number, of a shard by its position in the manifest."""
        block = int(self._first.searchsorted(number, side="right")) - 1
        known, marks = self._known, self._dataset.indexes.checked
        if known.checked is not marks:  # at first, in a forked child, if a shard has become another file
            known = self._known = _Known(marks, bytearray(len(self._first) - 1))
        if (place := known.places.get(block)) is not None:
            return self._row(place, block, number)
        within_limit = self._dataset.shard_within_limit(shard)
        if within_limit is not None:
            return within_limit.sampler(self._fields)(number - self._dataset.first[shard])
        pages = self._readable(known, shard, block)
        if pages is not None:
            file = known.files.get(shard) or self._dataset.unkept_file(shard)
            if self._dataset.indexes.checked is marks:  # else the shard has become another file
                return self._row(self._placed(known, file, shard, block, pages), block, number)
        opened = self._dataset.transient(shard)  # a sampler does not keep its shard open
        sample = opened.sampler(self._fields)(number - self._dataset.first[shard])
        if (pages := self._readable(known, shard, block)) is not None:
            self._placed(known, opened.file, shard, block, pages)
        return sample

    def _row(self, place: _Place, block: int, number: int) -> dict[str, Any]:
        file, first, samples, pages = place
        row, read, found = number - first, file.read, {}
        for (name, kind), (offset, narrow) in zip(self._kinds, pages, strict=True):
            try:
                if narrow:
                    found[name] = read_narrow_row(kind, read, offset, samples, row, narrow)  # type: ignore[arg-type]
                else:
                    found[name] = read_row(kind, read, offset, samples, row)
            except CorruptError as error:
                raise error.at(**self._dataset.place_of_block(block), field=name)
        return found

    def _placed(self, known: _Known, file: File, shard: int, block: int, pages: _Pages) -> _Place:
        """The place of a block, kept with its file if there may be more of them."""
        first, end = self._first[block : block + 2].tolist()
        place = file, first, end - first, pages
        if shard not in known.files and self._keeps_files and len(_kept) < share_of_files(12):
            known.files[shard] = file
            _kept.add(file)
        if shard in known.files:
            if len(known.places) >= _MOST_PLACES:
                known.places.clear()
            known.places[block] = place
        return place

    def _readable(self, known: _Known, shard: int, block: int) -> _Pages | None:
        """The pages of a block; None if any of them is neither plain nor narrow, or needs more checks."""
        indexes = self._dataset.indexes
        if not known.ready[block]:
            form = RowForm.NOT if self._always else indexes.read_by_rows(shard, block, self._fields.numbers)
            if form is RowForm.NOT:
                return None
            known.ready[block] = form
        offsets = indexes.page_offsets(shard, block)
        narrow = self._none if known.ready[block] == RowForm.PLAIN else indexes.narrow_nbytes(shard, block)
        if offsets is None or narrow is None:
            return None
        return [(offsets[column], narrow[column]) for column in self._fields.columns]
