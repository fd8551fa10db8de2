"""Reads pages into memory by plan: few large reads in the order of the files, many of them at a time.

Neighbouring pages share a read. Plain pages are read to where they stay, page by page as they lie in the file; coded
ones are decoded from a buffer. Every read is aligned, so that it can bypass the system's cache.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from time import perf_counter_ns
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from recordio.errors import CorruptError, RecordIOError
from recordio.format.checksum import checksum
from recordio.format.codec import Codec
from recordio.format.coded import decode_page_into
from recordio.format.fields import Field
from recordio.format.layout import padded
from recordio.format.page import Indices
from recordio.reader.columns import grouped
from recordio.reader.open_shard import check_stored
from recordio.reader.page_access import PageAccess, Projection
from recordio.reader.read_buffers import scratch
from recordio.reader.shard_indexes import PageEntries
from recordio.storage.base import DIRECT_ALIGNMENT, File
from recordio.storage.machine import share_of_files

if TYPE_CHECKING:
    from recordio.reader.open_dataset import OpenDataset

_PLAIN = int(Codec.PLAIN)
_MAX_GAP = 16 << 10  # reading a gap up to this size costs less than a second read
_MIN_IN_PLACE = 32 << 10  # smaller reads go through a buffer: aligning each of them would waste memory

_TINY = 16 << 10  # reads of this size on average take longer in Python than in the system's cache
_AHEAD = 32  # reads that the system is asked for, each perhaps of another file, if so many may be open
_CHUNK = 256  # reads planned in detail at a time

Mask = npt.NDArray[np.bool_]
Work = Callable[[], None]
Opener = Callable[[int], File]


class PlannedPage(NamedTuple):
    """A page to read: its slot and column, its place in the file and in memory, and its entry."""

    slot: int
    column: int
    begin: int
    end: int
    start: int
    stored_nbytes: int
    nbytes: int
    checksum: int
    codec: int
    checked: bool


Report = Callable[[Sequence[PlannedPage], Sequence[tuple[PlannedPage, RecordIOError]]], None]


def runs_of(shard: Indices, begin: Indices, end: Indices, unit: Indices | None = None) -> tuple[Indices, Indices]:
    """Groups pages into reads: (order, cuts), a sort by place and where each read begins among the sorted pages.

    Args:
        shard, begin, end: int64 (n,), where each page lies.
        unit: int64 (n,), pages of different units are never read together.
    """
    order = np.lexsort((begin, shard))
    shard, begin, end = shard[order], begin[order], end[order]
    apart = (shard[1:] != shard[:-1]) | (begin[1:] > end[:-1] + _MAX_GAP)
    if unit is not None:
        apart |= np.diff(unit[order]) != 0
    return order, np.flatnonzero(np.concatenate([[True], apart])) if len(order) else order


class SharedFile:
    """A shard's file, opened by the first of the reads that share it and closed with the last."""

    def __init__(self, opener: Opener, number: int) -> None:
        self._open = partial(opener, number)
        self._lock = threading.Lock()
        self._file: File | None = None

    def get(self) -> File:
        with self._lock:
            if self._file is None:
                self._file = self._open()
            return self._file


class _Read(NamedTuple):
    """A run of pages to read together, from `low` on. `base`: their place in memory if they stay as they are."""

    file: SharedFile
    low: int
    nbytes: int
    base: int | None
    pages: list[PlannedPage]


class PageReads:
    """The plan to read some pages of blocks.

    Args:
        entries: the entries of the pages of b blocks, f fields.
        wanted: bool (b, f), the pages to read.
        shard: int64 (b,), the shard of each block.
        samples: int64 (b,), the samples of each block.
        fields: the f fields.
        access: how to read.

    Attributes:
        starts: int64 (b, f), the offset in memory of each page that is read.
        nbytes: bytes of memory.
        spent: nanoseconds of each read that was done: reading, and checking and decoding.
    """

    def __init__(
        self,
        entries: PageEntries,
        wanted: Mask,
        shard: Indices,
        samples: Indices,
        fields: Iterable[Field],
        access: PageAccess,
    ) -> None:
        self.spent: list[tuple[int, int]] = []
        self._entries = entries
        self._samples = samples
        self._fields = tuple(fields)
        self._access = access
        # The size of a page of fixed values was checked with the index.
        self._needs_sum_only = [access.verify != "never" and one.row_nbytes is not None for one in self._fields]
        self.starts, self.nbytes = np.zeros(wanted.shape, np.int64), 0
        self._cuts = self._shard = np.zeros(0, np.int64)
        if not wanted.any():
            return
        slot, column = np.nonzero(wanted)
        begin, end = entries.offset[slot, column], entries.end[slot, column]
        unit = entries.offset[:, 0][slot] // access.most_nbytes
        order, self._cuts = runs_of(shard[slot], begin, end, unit)
        self._slot, self._column, self._begin, self._end = slot[order], column[order], begin[order], end[order]
        self._shard = shard[self._slot[self._cuts]]
        self.nbytes = self._place()

    def _place(self) -> int:
        """Gives every page its place in memory: first the reads that stay as they are, then the pages of the others."""
        cuts, stops = self._cuts, np.append(self._cuts[1:], len(self._slot))
        self._stops = stops
        self._low = self._begin[cuts] // DIRECT_ALIGNMENT * DIRECT_ALIGNMENT
        self._nbytes = -(-self._end[stops - 1] // DIRECT_ALIGNMENT) * DIRECT_ALIGNMENT - self._low
        plain = np.logical_and.reduceat(self._entries.codec[self._slot, self._column] == _PLAIN, cuts)
        self._stays = plain & (self._nbytes >= _MIN_IN_PLACE)
        extents = np.where(self._stays, self._nbytes, 0)
        self._base = np.cumsum(extents) - extents
        pages = stops - cuts
        stays = np.repeat(self._stays, pages)
        decoded = np.where(stays, 0, padded(self._entries.nbytes[self._slot, self._column]))
        self._start = np.where(
            stays,
            np.repeat(self._base - self._low, pages) + self._begin,
            int(extents.sum()) + np.cumsum(decoded) - decoded,
        )
        self.starts[self._slot, self._column] = self._start
        return int(extents.sum() + decoded.sum())

    def work(self, memory: memoryview, opener: Opener, report: Report) -> Iterator[Work]:
        """The reads, to be done in any order and in any threads.

        Args:
            memory: of `nbytes`; nothing else may use it meanwhile.
            opener: opens a shard's file.
            report: told of the pages of each read when it is done.
        """
        reads, access = self._reads(opener), self._access
        if access.remote:
            self._ask_for_all(opener)
        elif not access.direct:
            reads = _asked_for(reads)
        pieces = (partial(self._do, read, memory, report) for read in reads)
        tiny = len(self._cuts) and int(self._nbytes.sum()) < _TINY * len(self._cuts)
        if tiny and not access.direct and not access.remote:  # threads would only wait for the interpreter's lock
            yield partial(one_by_one, pieces)
        else:
            yield from pieces

    def _ask_for_all(self, opener: Opener) -> None:
        shards, _, runs = grouped(self._shard)
        for number, run in zip(shards, runs, strict=True):
            begin, end = self._begin[self._cuts[run]], self._end[self._stops[run] - 1]
            with contextlib.suppress(RecordIOError):  # raised again by the read
                opener(number).will_need(zip(begin.tolist(), (end - begin).tolist(), strict=True))

    def _reads(self, opener: Opener) -> Iterator[_Read]:
        last, file, runs = -1, None, len(self._cuts)
        for first in range(0, runs, _CHUNK):
            chunk = slice(first, min(first + _CHUNK, runs))
            pages = self._pages(int(self._cuts[chunk.start]), int(self._stops[chunk.stop - 1]))
            for number, low, nbytes, stays, base, count in zip(
                *(each[chunk].tolist() for each in (self._shard, self._low, self._nbytes, self._stays, self._base)),
                (self._stops - self._cuts)[chunk].tolist(),
                strict=True,
            ):
                if number != last or file is None:
                    last, file = number, SharedFile(opener, number)
                yield _Read(file, low, nbytes, base if stays else None, list(islice(pages, count)))

    def _pages(self, begin: int, end: int) -> Iterator[PlannedPage]:
        slot, column = self._slot[begin:end], self._column[begin:end]
        entries, at = self._entries, (slot, column)
        each = (
            slot, column, self._begin[begin:end], self._end[begin:end], self._start[begin:end],
            entries.stored_nbytes[at], entries.nbytes[at], entries.checksum[at], entries.codec[at], entries.checked[at],
        )  # fmt: skip
        return map(PlannedPage._make, zip(*(one.tolist() for one in each), strict=True))

    def _do(self, read: _Read, memory: memoryview, report: Report) -> None:
        """Reads, checks and decodes some pages."""
        low, nbytes, pages = read.low, read.nbytes, read.pages
        done: list[PlannedPage] = []
        failed: list[tuple[PlannedPage, RecordIOError]] = []
        try:
            file = read.file.get()
        except RecordIOError as error:
            report(done, [(page, error) for page in pages])
            return
        target = scratch(nbytes) if read.base is None else memory[read.base : read.base + nbytes]
        began, alone = perf_counter_ns(), False
        skip = 0 if self._access.direct else pages[0].begin - low
        try:
            file.read_into(target[skip:], low + skip, pages[-1].end - low - skip, direct=self._access.direct)
        except RecordIOError:
            alone = True  # to find out which of the pages cannot be read
        was_read = perf_counter_ns()
        for page in pages:
            stored = target[page.begin - low : page.end - low]
            try:
                if alone:
                    file.read_into(stored, page.begin, len(stored))
                self._finish_read(file, page, stored, memory if read.base is None else None)
                done.append(page)
            except RecordIOError as error:
                failed.append((page, error))
        self.spent.append((was_read - began, perf_counter_ns() - was_read))
        if self._access.drops:
            file.wont_need(low, nbytes)
        report(done, failed)

    def _finish_read(self, file: File, page: PlannedPage, stored: memoryview, memory: memoryview | None) -> None:
        """Finishes a page; reads it again if what was wrong came from a copy."""
        try:
            self._finish(page, stored, memory)
        except CorruptError:
            if not file.discard(page.begin, len(stored)):
                raise
            file.read_into(stored, page.begin, len(stored))
            self._finish(page, stored, memory)

    def _finish(self, page: PlannedPage, stored: memoryview, memory: memoryview | None) -> None:
        """Checks a page, and decodes or copies it into the memory unless it stays where it is."""
        if not page.checked and not (self._needs_sum_only[page.column] and checksum(stored) == page.checksum):
            self._check(page, stored)
        if memory is None:
            return
        data, out = stored[: page.stored_nbytes], memory[page.start : page.start + page.nbytes]
        if page.codec == _PLAIN:
            out[:] = data
        else:
            field, samples = self._fields[page.column], int(self._samples[page.slot])
            decode_page_into(page.codec, field, samples, data, out)

    def _check(self, page: PlannedPage, stored: memoryview) -> None:
        field, samples, data = self._fields[page.column], int(self._samples[page.slot]), stored[: page.stored_nbytes]
        check_stored(self._access.verify, field, samples, stored, data, page.checksum, page.codec)


def one_by_one(work: Iterable[Work]) -> None:
    """Does the pieces of work here."""
    for piece in work:
        piece()


def _asked_for(reads: Iterable[_Read]) -> Iterator[_Read]:
    """The same reads, a few of which the system is asked for ahead: those that do not go on where the last one ended.

    Reads that do are recognised by the system, which asks for more than it is told here.
    """
    ahead: deque[_Read] = deque()
    most, file, end = min(_AHEAD, share_of_files(64)), None, 0
    for read in reads:
        if read.file is not file or read.low > end:
            with contextlib.suppress(RecordIOError):  # raised again by the read
                read.file.get().will_need([(read.low, read.nbytes)])
        file, end = read.file, read.low + read.nbytes
        ahead.append(read)
        if len(ahead) > most:
            yield ahead.popleft()
    yield from ahead


def reporter(dataset: OpenDataset, blocks: Indices, fields: Projection, failed: dict[int, RecordIOError]) -> Report:
    """Notes the pages of these blocks that have been checked, and in `failed` the first error of each slot."""
    checked, numbers, columns, names = dataset.indexes.checked, blocks.tolist(), fields.columns, list(fields.schema)

    def report(done: Sequence[PlannedPage], bad: Sequence[tuple[PlannedPage, RecordIOError]]) -> None:
        for page in done:
            if not page.checked:
                checked[numbers[page.slot], columns[page.column]] = True
        for page, error in bad:
            found = type(error)(error.fault, error.place)  # pages that were read together share the error
            found.__cause__ = error.__cause__
            place = dataset.place_of_block(numbers[page.slot])
            failed.setdefault(page.slot, found.at(**place, field=names[page.column], byte=page.begin))

    return report
