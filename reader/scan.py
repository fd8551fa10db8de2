"""Reads whole blocks into memory, for requests of nearly all their samples."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from recordio.errors import RecordIOError
from recordio.format.page import Indices, pages
from recordio.format.schema import Columns
from recordio.reader.columns import grouped, scatter
from recordio.reader.fetch_threads import FetchThreads
from recordio.reader.page_access import Projection
from recordio.reader.page_reads import PageReads, one_by_one, reporter
from recordio.reader.page_table import MAX_MAPS, PageColumn, PageTable
from recordio.storage.base import File
from recordio.storage.memory import new_memory

if TYPE_CHECKING:
    from recordio.reader.open_dataset import OpenDataset

_MIN_SAMPLES = 64
_MIN_BLOCKS = 8
_MIN_BLOCKS_OF_MAP = 4  # to map a shard of fewer blocks takes longer than to read them
_MAX_NBYTES = 64 << 20  # in memory at a time
_MIN_NBYTES_FOR_THREADS = 4 << 20


def is_scan(dataset: OpenDataset, numbers: Indices, fields: Projection) -> bool:
    """Whether nearly all samples of a run of blocks are asked for, and are not at hand in a few maps."""
    n = len(numbers)
    if n < _MIN_SAMPLES:
        return False
    low, high = int(numbers.min()), int(numbers.max())
    if 10 * n < 9 * (high - low):
        return False
    first, last = np.searchsorted(dataset.blocks.first, [low, high], side="right").tolist()
    if last - first < _MIN_BLOCKS:
        return False
    shards = dataset.shard_of(np.array([first - 1, last - 1])).tolist()
    every = range(shards[0], shards[-1] + 1)
    too_short = len(every) > MAX_MAPS and last - first < _MIN_BLOCKS_OF_MAP * len(every)
    if too_short or len(every) > dataset.most_open:
        return True
    try:
        return any(dataset.shard(number).table(fields) is None for number in every)
    except RecordIOError:  # perhaps of a shard between those that are asked for: only they are read
        return True


def scanned(dataset: OpenDataset, numbers: Indices, fields: Projection) -> Columns:
    """These samples as columns; images as stored. Raises CorruptError, UnsupportedError, StorageError."""
    block = np.searchsorted(dataset.blocks.first, numbers, side="right") - 1
    blocks, slot = np.unique(block, return_inverse=True)
    row = numbers - dataset.blocks.first[block]
    nbytes = dataset.blocks.nbytes[blocks].astype(np.float64)  # what a manifest says could overflow integers
    group = (np.cumsum(nbytes) // _MAX_NBYTES).astype(np.int64)
    found, order, runs = grouped(group[slot])
    parts = []
    with _threads(dataset, nbytes.sum()) as threads:
        for number, run in zip(found, runs, strict=True):
            first, end = np.searchsorted(group, [number, number + 1]).tolist()
            table = None
            while table is None:
                table = _table(dataset, blocks[first:end], fields, threads)
            parts.append(table.take(slot[run] - first, row[run]))
    return {name: scatter([part[name] for part in parts], order) for name in fields.schema}


@contextlib.contextmanager
def _threads(dataset: OpenDataset, nbytes: float) -> Iterator[FetchThreads | None]:
    """Threads for a scan of so many bytes; None if starting them would take longer than reading."""
    if nbytes < _MIN_NBYTES_FOR_THREADS:
        yield None
        return
    threads = FetchThreads(dataset.access.reads)
    try:
        yield threads
    finally:
        threads.close()


def _table(dataset: OpenDataset, blocks: Indices, fields: Projection, threads: FetchThreads | None) -> PageTable | None:
    """All pages of these blocks, in memory of their own.

    None if a shard became another file meanwhile: what was found checked in it no longer is.
    """
    marks = dataset.indexes.checked
    whole: dict[int, File] = {}
    access = dataset.access
    entries, errors = dataset.entries(blocks, fields.columns, None if access.direct or access.drops else whole)
    for error in errors.values():
        raise error
    samples, every = dataset.samples_of(blocks), np.arange(len(blocks))
    wanted = np.ones(entries.offset.shape, bool)
    kinds = list(fields.schema.values())
    reads = PageReads(entries, wanted, dataset.shard_of(blocks), samples, kinds, access)
    memory = new_memory(reads.nbytes)
    failed: dict[int, RecordIOError] = {}
    opener = lambda number: whole.pop(number, None) or dataset.file(number)  # noqa: E731
    work = reads.work(memoryview(memory), opener, reporter(dataset, blocks, fields, failed))
    (one_by_one if threads is None else threads.run)(work)
    if dataset.indexes.checked is not marks:
        return None
    for _, error in sorted(failed.items()):
        raise error
    columns = {
        name: PageColumn.of(kind, len(every), [(every, pages(kind, memory, reads.starts[:, k], samples), every)])
        for k, (name, kind) in enumerate(fields.schema.items())
    }
    return PageTable(columns, {}, fields.ragged)
