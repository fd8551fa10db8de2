"""The indexes of a dataset's shards: read when they are needed, many at a time, and kept when a shard is closed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from time import perf_counter_ns

import numpy as np
import numpy.typing as npt

from recordio.errors import CorruptError, RecordIOError
from recordio.format.codec import Codec, read_in_place
from recordio.format.index import Index, RawIndex
from recordio.format.layout import PAGE_DTYPE, padded
from recordio.format.manifest import Manifest
from recordio.format.page import Indices
from recordio.format.shard_table import shard_name, starts_of
from recordio.reader.order.blocks import Blocks
from recordio.reader.order.selection import ranges
from recordio.reader.order.shuffle import PLAN_NBYTES
from recordio.storage.base import File
from recordio.storage.shard_files import ShardFiles

_NARROW = int(Codec.NARROW)
_AT_A_TIME = 512  # shards: enough for NumPy, and the raw bytes of all would take memory
_MAX_NBYTES = 256 << 20  # kept at most, unless a single request needs more


def blocks_of(manifest: Manifest) -> Blocks:
    """All blocks. A block's weight is its share of its shard's content plus the plan of its samples."""
    table = manifest.table
    counts = table.block_samples()
    means = table.content_nbytes // np.maximum(1, table.samples) + PLAN_NBYTES
    return Blocks(starts_of(counts), counts * np.repeat(means, table.blocks), starts_of(table.blocks))


class RowForm(IntEnum):
    """How single values of some pages can be read: not, of plain pages, or of plain and narrow ones."""

    NOT = 0
    PLAIN = 1
    NARROW = 2


@dataclass(frozen=True, slots=True)
class PageEntries:
    """The entries of the pages of b blocks with f fields; those of shards without an index are 0.

    Attributes:
        offset: int64 (b, f), where a page begins in its file.
        stored_nbytes: int64 (b, f), its size there.
        nbytes: int64 (b, f), its size in memory.
        checksum: uint64 (b, f).
        codec: uint32 (b, f).
        checked: bool (b, f), whether it has been checked.
    """

    offset: Indices
    stored_nbytes: Indices
    nbytes: Indices
    checksum: npt.NDArray[np.uint64]
    codec: npt.NDArray[np.uint32]
    checked: npt.NDArray[np.bool_]

    @property
    def end(self) -> Indices:
        """int64 (b, f), where each page ends in its file, with its padding."""
        found: Indices = self.offset + padded(self.stored_nbytes)
        return found


class ShardIndexes:
    """The indexes of all shards, in arrays over all blocks of which only those are in memory that were read.

    Shards are counted by their position in the manifest. Thread-safe.

    Args:
        files: opens the shards.
        manifest: the manifest.
        first: int64 (blocks + 1,), the number of each block's first sample.
        shard: int64 (shards + 1,), the first block of each shard.

    Attributes:
        spent: nanoseconds in which indexes were read.
    """

    def __init__(self, files: ShardFiles, manifest: Manifest, first: Indices, shard: Indices) -> None:
        self._files = files
        self._manifest = manifest
        self._first = first
        self._shard = shard
        self._shape = len(first) - 1, len(manifest.schema)
        self.spent = 0
        self._forget()
        self.restart()
        files.index_in_memory = self._in_memory

    def restart(self) -> None:
        """A forked child starts with this: it checks pages by itself."""
        self._lock = threading.Lock()
        self._checked, self._state = np.zeros(self._shape, bool), self._files.state

    @property
    def checked(self) -> npt.NDArray[np.bool_]:
        """bool (blocks, fields), the pages that this process has checked.

        Another array, and all False, once a shard is found to have become another file: whoever has read pages that it
        had found checked before compares the arrays.
        """
        if (state := self._files.state) is not self._state:
            self._checked, self._state = np.zeros(self._shape, bool), state
        return self._checked

    def _forget(self) -> None:
        blocks, fields = self._shape
        self._known = np.zeros(len(self._shard) - 1, bool)
        self._nbytes = 0
        self._index = Index(
            samples=np.diff(self._first),
            checksums=np.zeros(blocks, np.uint64),
            pages=np.zeros((blocks, fields), PAGE_DTYPE),
            block_offsets=np.zeros(blocks, np.int64),
            page_offsets=np.zeros((blocks, fields), np.int64),
        )

    def of(self, number: int) -> Index:
        """The index of a shard. Raises CorruptError, UnsupportedError, StorageError."""
        with self._lock:
            for error in self._read([] if self._known[number] else [number]).values():
                raise error
            return self._part(self._index, number)

    def load(self, numbers: Iterable[int]) -> None:
        """Reads the indexes of these shards together, as far as they are good: `of` says what is wrong with another."""
        with self._lock:
            self._read([number for number in numbers if not self._known[number]])

    def unknown(self, shards: Indices) -> list[int]:
        """Those of these shards of which the index has not been read, or has been forgotten."""
        found: list[int] = shards[~self._known[shards]].tolist()
        return found

    def _in_memory(self, number: int) -> Index | None:
        """The index of a shard if it has been read. Without the lock, which a read may hold that asks for this."""
        every = self._index  # before it is looked whether it is known: it may be forgotten meanwhile
        return self._part(every, number) if self._known[number] else None

    def _part(self, every: Index, number: int) -> Index:
        begin, end = self._shard[number : number + 2].tolist()
        return Index(
            samples=every.samples[begin:end],
            checksums=every.checksums[begin:end],
            pages=every.pages[begin:end],
            block_offsets=every.block_offsets[begin:end],
            page_offsets=every.page_offsets[begin:end],
        )

    def entries(
        self, blocks: Indices, columns: Sequence[int], whole: dict[int, File] | None = None
    ) -> tuple[PageEntries, dict[int, RecordIOError]]:
        """The entries of some pages, and the error of each shard whose index cannot be read.

        Args:
            blocks: int64 (b,), blocks of the dataset.
            columns: f positions in the schema.
            whole: where to put the small shards that are read now as a whole, index and pages together.
        """
        with self._lock:
            shard = np.searchsorted(self._shard, blocks, side="right") - 1
            unknown = shard[~self._known[shard]]
            failed = self._read(np.unique(unknown).tolist(), whole) if len(unknown) else {}
            at = np.ix_(blocks, np.array(columns, np.int64))
            pages = self._index.pages[at]
            found = PageEntries(
                offset=self._index.page_offsets[at],
                stored_nbytes=pages["stored_nbytes"].astype(np.int64),
                nbytes=pages["nbytes"].astype(np.int64),
                checksum=pages["checksum"],
                codec=pages["codec"],
                checked=self.checked[at],
            )
        return found, failed

    def page_offsets(self, shard: int, block: int) -> list[int] | None:
        """Where the pages of a block begin in its shard's file; None if the shard's index is not in memory."""
        with self._lock:
            return self._index.page_offsets[block].tolist() if self._known[shard] else None

    def narrow_nbytes(self, shard: int, block: int) -> list[int] | None:
        """Stored bytes of the narrow pages of a block, 0 of others; None if the shard's index is not in memory."""
        with self._lock:
            pages = self._index.pages[block]
            narrow = pages["codec"] == _NARROW
            return np.where(narrow, pages["stored_nbytes"], 0).tolist() if self._known[shard] else None

    def read_by_rows(self, shard: int, block: int, columns: Indices) -> RowForm:
        """How single values of these pages of a block can be read from the file, if they are known and checked."""
        with self._lock:
            if not self._known[shard] or not self.checked[block, columns].all():
                return RowForm.NOT
            codecs = self._index.pages["codec"][block, columns]
            if not codecs.any():
                return RowForm.PLAIN
            return RowForm.NARROW if read_in_place(codecs).all() else RowForm.NOT

    def _read(self, numbers: list[int], whole: dict[int, File] | None = None) -> dict[int, RecordIOError]:
        """Reads the indexes of these shards. The errors of those that have none."""
        if numbers and self._nbytes > _MAX_NBYTES:
            self._forget()  # what is in use is a copy, or keeps the arrays of before
        failed: dict[int, RecordIOError] = {}
        for begin in range(0, len(numbers), _AT_A_TIME):
            began = perf_counter_ns()
            failed |= self._read_some(numbers[begin : begin + _AT_A_TIME], whole)
            self.spent += perf_counter_ns() - began
        return failed

    def _read_some(self, numbers: list[int], whole: dict[int, File] | None) -> dict[int, RecordIOError]:
        found, failed = self._files.read_indexes(numbers, whole)
        try:
            self._add(list(found), list(found.values()))
        except RecordIOError:
            for number, raw in found.items():  # to find out which
                try:
                    self._add([number], [raw])
                except RecordIOError as error:
                    name = shard_name(self._manifest.table.numbers.item(number))
                    failed[number] = self._files.explained(error.at(file=name))
        return failed

    def _add(self, numbers: list[int], raws: list[RawIndex]) -> None:
        if not numbers:
            return
        index = Index.decode_all(raws, self._manifest.schema)
        rows = ranges(self._shard[numbers], self._shard[np.array(numbers) + 1])
        if not np.array_equal(index.samples, self._index.samples[rows]):
            raise CorruptError("the shard's blocks are not those of the manifest")
        contents = np.concatenate([[0], np.cumsum(index.pages["nbytes"].astype(np.int64).sum(axis=1))])
        blocks = np.array([raw.footer.blocks for raw in raws], np.int64)
        ends = np.cumsum(blocks)
        found = contents[ends] - contents[ends - blocks]
        if not np.array_equal(found, self._manifest.table.content_nbytes[numbers]):
            raise CorruptError("the shard's pages are not as large as the manifest says")
        self._index.checksums[rows] = index.checksums
        self._index.pages[rows] = index.pages
        self._index.block_offsets[rows] = index.block_offsets
        self._index.page_offsets[rows] = index.page_offsets
        self._known[numbers] = True
        self._nbytes += sum(len(raw.data) for raw in raws)
