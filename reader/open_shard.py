"""One open shard: its index and its pages, each checked on first touch.

Plain and narrow pages are read straight from the map. Coded pages, and all pages without a map, are read and decoded
one by one and kept in a cache of bounded size.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np

from recordio.errors import CorruptError, RecordIOError
from recordio.format.block import BlockHeader
from recordio.format.checksum import checksum, require
from recordio.format.codec import Codec, read_in_place
from recordio.format.coded import decode_page
from recordio.format.fields import Field
from recordio.format.index import Index
from recordio.format.layout import block_header_nbytes, padded
from recordio.format.manifest import Manifest
from recordio.format.page import Indices, check_page
from recordio.lazy import lazy
from recordio.reader.field_reader import FieldReader, Mask
from recordio.reader.page_access import PageAccess, Projection, Verify
from recordio.reader.page_table import PageColumn, PageTable
from recordio.reader.samples import sampler_of
from recordio.storage.base import File

_PLAIN = int(Codec.PLAIN)
_FAULT_NBYTES = 64 << 10  # Linux maps this much around a touched page


class OpenShard:
    """An open shard of a dataset.

    Args:
        file: the open file.
        number: the shard's number.
        manifest: the manifest.
        index: gives the shard's index.
        checked: bool (blocks, fields), the pages that have been checked.
        access: how to read its pages.
    """

    def __init__(
        self,
        file: File,
        number: int,
        manifest: Manifest,
        index: Callable[[], Index],
        checked: Mask,
        access: PageAccess,
    ) -> None:
        self.file = file
        self.number = number
        self.verify = access.verify
        self.cache = access.cache
        self.checked = checked
        self.fields = tuple(manifest.schema.values())
        self._names = tuple(manifest.schema)
        self._dataset_id = manifest.dataset_id
        self._read_index = index
        self._mapped = access.mapped
        self._remote = access.remote
        self._memory: mmap.mmap | bytes | None = None
        self._readers: dict[int, FieldReader] = {}
        self.samplers: dict[Projection, Callable[[int], dict[str, Any]]] = {}
        self._tables: dict[Projection, PageTable | None] = {}

    @lazy
    def index(self) -> Index:
        """The shard's index. Raises CorruptError, UnsupportedError, StorageError."""
        return self._read_index()

    @property
    def memory(self) -> mmap.mmap | bytes | None:
        """The map of the file; None if it is not mapped. Raises StorageError."""
        if self._memory is None and self._mapped:
            self._memory = self.file.map()
        return self._memory

    @lazy
    def in_place(self) -> Mask:
        """bool (blocks, fields), the pages that are read from the map."""
        return read_in_place(self.index.pages["codec"]) & self._mapped

    def reader(self, column: int) -> FieldReader:
        """The reader of a field, by its position in the schema."""
        if column not in self._readers:
            self._readers[column] = FieldReader(self, column)
        return self._readers[column]

    def sampler(self, fields: Projection) -> Callable[[int], dict[str, Any]]:
        """A function from a number within the shard to the sample; images as stored."""
        if fields not in self.samplers:
            self.samplers[fields] = sampler_of(self, fields)
        return self.samplers[fields]

    def table(self, fields: Projection) -> PageTable | None:
        """All blocks as one table if every page is in place, else None. Callers must `touch` pages before reading."""
        if fields not in self._tables:
            self._tables[fields] = self._whole_table(fields)
        return self._tables[fields]

    def table_of(self, blocks: Indices, fields: Projection) -> PageTable:
        """A table of these blocks, checked, and decoded where they are not read in place."""
        self.touch_all(fields, blocks)
        columns = {}
        for name, column in zip(fields.schema, fields.columns, strict=True):
            reader = self.reader(column)
            columns[name] = PageColumn.of_shard(reader.mapped, reader.pages_of, reader.in_place[blocks], blocks)
        return PageTable(columns, {}, fields.ragged)

    def touch_all(self, fields: Projection, blocks: Indices) -> None:
        """Checks the pages of these blocks that are read in place, unless that was done. Raises CorruptError."""
        places = blocks[:, None], fields.numbers
        if self.verify != "always" and self.checked[places].all():
            return
        due = np.unique(blocks[self.in_place[places].any(axis=1)])
        self.will_need(due, fields.numbers)  # else the kernel would guess at every fault
        for block in due.tolist():
            self.touch(block, fields.numbers)

    def touch(self, block: int, columns: Indices) -> None:
        """Checks pages of a block that are read in place, unless that was done. Raises CorruptError.

        A page that is sound costs its checksum and hardly more.
        """
        due = self.in_place[block, columns]
        if self.verify != "always":
            due &= ~self.checked[block, columns]
        if not due.any() or self.memory is None:
            return
        columns = columns[due]
        entries, starts = self.index.pages[block, columns], self.index.page_offsets[block, columns]
        ends = starts + padded(entries["stored_nbytes"].astype(np.int64))
        memory = memoryview(self.memory)
        facts = columns, starts, ends, entries["checksum"]
        for column, start, end, stored in zip(*[array.tolist() for array in facts], strict=True):
            page = memory[start:end]
            fixed = self.fields[column].row_nbytes is not None
            if not fixed or (self.verify != "never" and checksum(page) != stored):
                self.check(block, column, page)
        self.checked[block, columns] = True

    def will_need(self, blocks: Indices, columns: Indices) -> None:
        """Asks the system to read these pages ahead."""
        at = np.ix_(blocks, columns)
        begin, nbytes = self.index.page_offsets[at], self.index.pages["stored_nbytes"][at]
        self.file.will_need(zip(begin.ravel().tolist(), nbytes.ravel().tolist(), strict=True))

    def _whole_table(self, fields: Projection) -> PageTable | None:
        columns = {}
        every = np.arange(len(self.index.samples))
        for name, column in zip(fields.schema, fields.columns, strict=True):
            reader = self.reader(column)
            if reader.mapped is None or not reader.all_in_place:
                return None
            columns[name] = PageColumn([reader.mapped], every, every)
        return PageTable(columns, {}, fields.ragged)

    def make_ready(self, block: int, fields: Projection) -> bool:
        """Checks the block's pages that are read in place; decoding checks the others.

        False if the next read must check them again.
        """
        if self._remote:
            self.will_need(np.array([block]), fields.numbers)  # all of them in one request
        self.touch_all(fields, np.array([block]))
        return self.verify != "always"

    def stored(self, block: int, column: int) -> memoryview:
        """The stored bytes of a page, with their padding."""
        entry, offset = self.index.pages[block, column], int(self.index.page_offsets[block, column])
        nbytes = padded(int(entry["stored_nbytes"]))
        try:
            if self._mapped and read_in_place(entry["codec"]):
                return memoryview(self.memory or b"")[offset : offset + nbytes]
            return memoryview(self.file.read(offset, nbytes))
        except RecordIOError as error:
            raise error.at(**self.location(block, column))

    def unmap(self, blocks: Indices) -> None:
        """Drops these blocks from this process's memory; a read brings them back from the page cache."""
        if not isinstance(self._memory, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
            return
        blocks = np.unique(blocks)
        ends = np.append(self.index.block_offsets, len(self._memory))
        first, last = ends[blocks] & -_FAULT_NBYTES, -(-ends[blocks + 1] // _FAULT_NBYTES) * _FAULT_NBYTES
        breaks = np.flatnonzero(first[1:] > last[:-1])  # one call per run of neighbours
        for start, end in zip(first[np.r_[0, breaks + 1]].tolist(), last[np.r_[breaks, -1]].tolist(), strict=True):
            self._memory.madvise(mmap.MADV_DONTNEED, start, end - start)

    def check(self, block: int, column: int, stored: memoryview) -> memoryview:
        """The stored bytes without padding, checked as `verify` says."""
        entry = self.index.pages[block, column]
        data = stored[: int(entry["stored_nbytes"])]
        if self.checked[block, column] and self.verify != "always":
            return data
        field, samples = self.fields[column], int(self.index.samples[block])
        try:
            check_stored(self.verify, field, samples, stored, data, int(entry["checksum"]), int(entry["codec"]))
        except CorruptError as error:
            raise error.at(**self.location(block, column))
        self.checked[block, column] = True
        return data

    def content(self, block: int, column: int, stored: memoryview | None = None) -> bytes:
        """The checked, decoded page, of its stored bytes if they have been read. Raises CorruptError."""
        data = self._checked(block, column) if stored is None else self.check(block, column, stored)
        entry = self.index.pages[block, column]
        if entry["codec"] == _PLAIN:
            return bytes(data)
        samples, nbytes = int(self.index.samples[block]), int(entry["nbytes"])
        try:
            return decode_page(int(entry["codec"]), self.fields[column], samples, data, nbytes)
        except CorruptError as error:
            raise error.at(**self.location(block, column))

    def _checked(self, block: int, column: int) -> memoryview:
        """The stored bytes without padding; read again if those that were wrong came from a copy."""
        try:
            return self.check(block, column, self.stored(block, column))
        except CorruptError:
            entry, offset = self.index.pages[block, column], int(self.index.page_offsets[block, column])
            if not self.file.discard(offset, padded(int(entry["stored_nbytes"]))):
                raise
        return self.check(block, column, self.stored(block, column))

    def check_block_header(self, block: int, found: memoryview | None = None) -> None:
        """Checks a block's header against the index, of these bytes if it has been read. Raises CorruptError."""
        offset = int(self.index.block_offsets[block])
        try:
            if found is None:
                found = memoryview(self.file.read(offset, block_header_nbytes(len(self.fields))))
            BlockHeader.decode(found)
            if found != self.block_headers(block, block + 1)[0]:
                raise CorruptError("the block header does not say what the index says")
        except RecordIOError as error:
            raise error.at(file=self.file.name, block=block, byte=offset)

    def block_headers(self, begin: int, end: int) -> list[bytes]:
        """The headers of the blocks from `begin` to `end` - 1, as the index leads to expect them."""
        return self.index.block_headers(self._dataset_id, self.number, begin, end)

    def location(self, block: int, column: int) -> dict[str, Any]:
        """The location of a page, for errors."""
        return {
            "file": self.file.name,
            "block": block,
            "field": self._names[column],
            "byte": int(self.index.page_offsets[block, column]),
        }


def check_stored(
    verify: Verify, field: Field, samples: int, stored: memoryview, data: memoryview, expected: int, codec: int
) -> None:
    """Checks a page before its first use, as far as that is possible without decoding it. Raises CorruptError.

    Args:
        verify: "never" leaves out the checksum.
        field, samples: what the page holds.
        stored: the bytes of the page with their padding.
        data: the bytes without it.
        expected: the checksum.
        codec: the codec.
    """
    if verify != "never":
        require("page", expected, checksum(stored))
    if codec == _PLAIN:
        check_page(field, samples, data)
