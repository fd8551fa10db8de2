"""Fetches a window: decides which pages stay in the maps of their shards, and reads the others into memory.

The plan comes first and reads only the indexes of shards; `load` then reads, checks and decodes pages.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns

import numpy as np

from recordio.errors import RecordIOError
from recordio.format.codec import read_in_place
from recordio.format.page import Indices, pages
from recordio.reader.batches.load_times import LoadTimes
from recordio.reader.batches.memory import Memory
from recordio.reader.columns import grouped
from recordio.reader.open_dataset import OpenDataset
from recordio.reader.order.shuffle import Mask
from recordio.reader.page_access import PageAccess, Projection
from recordio.reader.page_reads import PageReads, Work, reporter, runs_of
from recordio.reader.page_table import PageColumn, PageTable, Piece
from recordio.reader.shard_indexes import PageEntries
from recordio.storage.base import File, Range

_SMALL_NBYTES = 1024  # copy values of up to this size together from two shards on: cheaper than two gathers
_QUICK_NBYTES = 1 << 20  # checking the pages of so small a dataset in its maps takes less than handing that to a thread
_QUICK_READS_NBYTES = 1 << 18  # to decode so many bytes takes less than that too, if they have been read before
MAPPED_NBYTES = 64 << 20  # datasets of up to this size stay mapped

Run = Callable[[Iterable[Work]], None]


@dataclass(frozen=True, slots=True)
class WindowLayout:
    """Where the pages of a window lie. With it any process that has the dataset and the memory can read the window.

    Attributes:
        blocks: int64 (b,), the block of each slot.
        in_place: bool (fields, b), the pages that stay in the map of their shard.
        starts: int64 (fields, b), the offset of each other page in the window's memory.
        nbytes: the size of the memory.
        stays_mapped: keep its pages mapped when the window is freed.
    """

    blocks: Indices
    in_place: Mask
    starts: Indices
    nbytes: int
    stays_mapped: bool

    def table(
        self, dataset: OpenDataset, fields: Projection, memory: Memory, failed: Mapping[int, RecordIOError], start: int
    ) -> PageTable:
        """The pages of the window: in place, in this memory from `start` on, or failed."""
        samples = dataset.samples_of(self.blocks)
        every = np.arange(len(self.blocks))
        failed, mapped = dict(failed), self._maps(dataset)
        columns = {}
        for k, ((name, kind), column) in enumerate(zip(fields.schema.items(), fields.columns, strict=True)):
            pieces: list[Piece] = []
            if not self.in_place[k].all():
                pieces.append((every, pages(kind, memory, self.starts[k] + start, samples), every))
            for number, slots, local in mapped:
                own = self.in_place[k, slots]
                if not own.any():
                    continue
                try:
                    found = dataset.shard(number).reader(column).mapped
                except RecordIOError as error:
                    failed.update(dict.fromkeys(slots.tolist(), error))
                    continue
                assert found is not None, "a page in place is mapped"
                pieces.append((slots[own], found, local[own]))
            columns[name] = PageColumn.of(kind, len(every), pieces)
        return PageTable(columns, failed, fields.ragged)

    def unmap(self, dataset: OpenDataset) -> None:
        """Takes the window's pages out of this process's memory, unless they stay mapped."""
        if self.stays_mapped:
            return
        for number, _, local in self._maps(dataset):
            if (shard := dataset.shards.get(number)) is not None:
                shard.unmap(local)

    def _maps(self, dataset: OpenDataset) -> list[tuple[int, Indices, Indices]]:
        """(shard, slots, blocks within the shard) of the blocks with pages in place."""
        slots = np.flatnonzero(self.in_place.any(axis=0))
        local, shards, own = dataset.by_shard(self.blocks[slots])
        return [(number, slots[one], local[one]) for number, one in zip(shards, own, strict=True)]


class FetchPlan:
    """The plan to load blocks as a window.

    Plain and narrow pages stay in the map of their shard, or of a few shards if values are large; all other pages are
    read and decoded into memory of `layout.nbytes`. `has_work` is false when every page is in place, has been checked,
    and stays mapped. A page that cannot be read puts its error into `failed` by its slot, and fails the batches that
    need it. `is_quick`: to load it takes less than to hand that to a thread.

    Args:
        dataset: the dataset.
        fields: the fields to fetch.
        blocks: int64 (b,), the block of each slot.
        mapped_limit: datasets of up to this size stay mapped: remapping makes large plain values 25 % slower.
        access: how to read, if not as the dataset does by itself.
    """

    def __init__(
        self,
        dataset: OpenDataset,
        fields: Projection,
        blocks: Indices,
        mapped_limit: int = MAPPED_NBYTES,
        access: PageAccess | None = None,
    ) -> None:
        access = access or dataset.access
        self._dataset = dataset
        self._fields = fields
        self.failed: dict[int, RecordIOError] = {}
        self._marks = dataset.indexes.checked
        shard, samples = dataset.shard_of(blocks), dataset.samples_of(blocks)
        shards = len(set(shard.tolist()))
        self._whole: dict[int, File] = {}
        reads_whole = shards > access.maps and not (access.direct or access.drops)
        entries, errors = dataset.entries(blocks, fields.columns, self._whole if reads_whole else None)
        readable = self._readable(shard, errors)
        in_place = read_in_place(entries.codec) & access.mapped & readable[:, None]
        in_place[:, _copied_together(entries, shards, access.maps, int(samples.sum()))] = False
        wanted = ~in_place & readable[:, None]
        self._reads = PageReads(entries, wanted, shard, samples, fields.schema.values(), access)
        stays = dataset.content_nbytes <= mapped_limit
        self.layout = WindowLayout(blocks, in_place.T, self._reads.starts.T, self._reads.nbytes, stays)
        self._touched = in_place if not stays else in_place & ~entries.checked
        self._entries, self._shard = entries, shard
        self.times = LoadTimes(1, 0, int(entries.nbytes.sum()), int(entries.stored_nbytes.sum()))
        self._touching: list[int] = []  # nanoseconds of each slot whose pages were checked in place
        self.has_work = bool(self._touched.any()) or self._reads.nbytes > 0
        if not self._reads.nbytes:
            self.is_quick = dataset.content_nbytes <= _QUICK_NBYTES
        else:  # of a dataset that fits into memory, pages that were checked are still there
            is_small = access.mapped and dataset.io.fits and self._reads.nbytes <= _QUICK_READS_NBYTES
            self.is_quick = is_small and bool(entries.checked[readable].all())

    def _readable(self, shard: Indices, errors: Mapping[int, RecordIOError]) -> Mask:
        """bool (b,): the blocks whose shard has an index."""
        for number, error in errors.items():
            self.failed.update(dict.fromkeys(np.flatnonzero(shard == number).tolist(), error))
        readable = np.ones(len(shard), bool)
        readable[list(self.failed)] = False
        return readable

    def load(self, memory: Memory, run: Run, start: int = 0) -> PageTable:
        """The pages of the window, in the memory from `start` on. Nothing else may use that part meanwhile.

        `run` executes the pieces of work, in any order and in any threads. `times` says what that took.
        """
        began = perf_counter_ns()
        if self.has_work:
            run(self._work(memoryview(memory)[start:]))
        self.times.note(self._reads.spent, self._touching, perf_counter_ns() - began)
        table = self.layout.table(self._dataset, self._fields, memory, self.failed, start)
        if self._dataset.indexes.checked is self._marks:
            return table
        # A shard has become another file: what was found checked in it no longer is.
        self._entries.checked[:], self._touched = False, self.layout.in_place.T
        run(self._work(memoryview(memory)[start:]))
        return self.layout.table(self._dataset, self._fields, memory, self.failed, start)

    def _work(self, memory: memoryview) -> Iterator[Work]:
        dataset, blocks = self._dataset, self.layout.blocks
        yield from self._reads.work(memory, self._file, reporter(dataset, blocks, self._fields, self.failed))
        yield from self._touches()

    def _file(self, number: int) -> File:
        """The file of a shard: in memory the first time, if it has just been read as a whole."""
        return self._whole.pop(number, None) or self._dataset.file(number)

    def _touches(self) -> Iterator[Work]:
        """Checks the pages in place, in the order of the files, once the system has been asked to read them all.

        It is asked in every epoch: a page that it has dropped would come back in small pieces, fault by fault.
        """
        entries = self._entries
        slot, column = np.nonzero(self._touched)
        begin, end = entries.offset[slot, column], entries.end[slot, column]
        order, cuts = runs_of(self._shard[slot], begin, end)
        if not len(order):
            return
        slot, column, begin, end = slot[order], column[order], begin[order], end[order]
        lengths = np.maximum.reduceat(end, cuts) - begin[cuts]
        numbers, _, runs = grouped(self._shard[slot[cuts]])
        for number, run in zip(numbers, runs, strict=True):
            ranges = zip(begin[cuts[run]].tolist(), lengths[run].tolist(), strict=True)
            yield partial(self._advise, number, list(ranges))
        for one in dict.fromkeys(slot[~entries.checked[slot, column]].tolist()):
            yield partial(self._touch, one)

    def _advise(self, number: int, ranges: list[Range]) -> None:
        with contextlib.suppress(RecordIOError):  # raised again where the pages are checked or read
            self._dataset.file(number).will_need(ranges)

    def _touch(self, slot: int) -> None:
        dataset, number = self._dataset, int(self._shard[slot])
        block = int(self.layout.blocks[slot] - dataset.blocks.shard[number])
        began = perf_counter_ns()
        try:
            dataset.shard(number).touch(block, self._fields.numbers[self._touched[slot]])
        except RecordIOError as error:
            self.failed[slot] = error
        self._touching.append(perf_counter_ns() - began)


def _copied_together(entries: PageEntries, shards: int, maps: int, samples: int) -> Mask:
    """bool (f,): the fields of which plain pages are copied too, from so many shards with so many samples.

    `maps`: copy all of them if there are more shards than this.
    """
    small: Mask = entries.nbytes.sum(axis=0) <= _SMALL_NBYTES * samples
    return small & (shards > 1) | (shards > maps)
