"""One open shard: its index and its pages, each checked on first touch.

Plain pages are read straight from the map, one gather per field. Coded pages, and all pages without a map, are decoded
one by one and kept in a cache of bounded size.
"""

from __future__ import annotations

import mmap
import weakref
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from recordio.errors import CorruptError, RecordIOError
from recordio.format import codec
from recordio.format.block import BlockHeader, PageEntry
from recordio.format.checksum import checksum, require
from recordio.format.codec import Codec
from recordio.format.fields import Field
from recordio.format.layout import block_header_nbytes, padded
from recordio.format.manifest import Manifest, ShardEntry
from recordio.format.page import Indices, Pages, check_page, pages
from recordio.format.schema import Schema
from recordio.format.shard import Index
from recordio.reader.page_table import PageColumn, PageTable
from recordio.storage.base import File

_PLAIN = int(Codec.PLAIN)
_FAULT_NBYTES = 64 << 10  # Linux maps this much around a touched page

Verify = Literal["first", "always", "never"]
PageCache = Callable[[tuple[int, int, int], Callable[[], Pages]], Pages]
Getter = Callable[[int, int], Any]


@dataclass(frozen=True, eq=False)
class Projection:
    """The requested fields, in order, and their positions in the dataset's schema."""

    schema: Schema
    columns: tuple[int, ...]

    @cached_property
    def numbers(self) -> Indices:
        """int64 (n,): the same positions."""
        return np.array(self.columns, np.int64)

    @cached_property
    def fixed(self) -> npt.NDArray[np.bool_]:
        """bool (n,): whether the size of a page says all: it needs no check beyond its checksum."""
        return np.array([field.row_nbytes is not None for field in self.schema.values()])

    @classmethod
    def of(cls, schema: Schema, names: Sequence[str] | None) -> Projection:
        """The named fields, or all for None. Raises SchemaError for an unknown name."""
        chosen = schema.select(list(schema) if names is None else names)
        numbers = {name: number for number, name in enumerate(schema)}
        return cls(chosen, tuple(numbers[name] for name in chosen))


@dataclass(frozen=True, slots=True)
class PageAccess:
    """How the pages of a dataset are read.

    Attributes:
        verify: when to compare the checksums of pages.
        mapped: whether to read from a memory map; else with positioned reads.
        cache: keeps decoded pages; takes a key and a function that makes the page.
    """

    verify: Verify
    mapped: bool
    cache: PageCache


class OpenShard:
    """An open shard of a dataset.

    Args:
        file: the open file; closed at once if the shard is mapped.
        entry: the shard's entry in the manifest.
        manifest: the manifest.
        index: the shard's index.
        access: how to read its pages.
    """

    def __init__(self, file: File, entry: ShardEntry, manifest: Manifest, index: Index, access: PageAccess) -> None:
        self.entry = entry
        self.index = index
        self.schema = manifest.schema
        self.verify = access.verify
        self.cache = access.cache
        self._dataset_id = manifest.dataset_id
        self._file = file
        self.memory = file.map() if access.mapped else None
        if access.mapped:
            file.close()  # the map keeps the file open
        self.in_place = (index.pages["codec"] == _PLAIN) & access.mapped
        self.checked = np.zeros((entry.blocks, len(self.schema)), bool)
        self.fields = tuple(self.schema.values())
        self._names = tuple(self.schema)
        self._readers: dict[int, FieldReader] = {}
        self.samplers: dict[Projection, Callable[[int], dict[str, Any]]] = {}
        self._tables: dict[Projection, PageTable | None] = {}

    def reader(self, column: int) -> FieldReader:
        """The reader of a field, by its position in the schema."""
        found = self._readers.get(column)
        if found is None:
            found = self._readers[column] = FieldReader(self, column)
        return found

    def sampler(self, fields: Projection) -> Callable[[int], dict[str, Any]]:
        """A function from a number within the shard to the sample; images as stored."""
        if fields not in self.samplers:
            self.samplers[fields] = self._new_sampler(fields)
        return self.samplers[fields]

    def table(self, fields: Projection) -> PageTable | None:
        """All blocks as one table if every page is in place, else None. Callers must `touch` pages before reading."""
        if fields not in self._tables:
            readers = {name: self.reader(column) for name, column in zip(fields.schema, fields.columns, strict=True)}
            self._tables[fields] = self._whole_table(readers)
        return self._tables[fields]

    def table_of(self, blocks: Indices, fields: Projection) -> PageTable:
        """A table of these blocks, checked, and decoded where they are not read in place."""
        self.touch_all(fields, blocks)
        columns = {}
        for name, column in zip(fields.schema, fields.columns, strict=True):
            reader = self.reader(column)
            columns[name] = PageColumn.of_shard(reader.mapped, reader.page, reader.in_place[blocks], blocks)
        return PageTable(columns, {})

    def touch_all(self, fields: Projection, blocks: Indices) -> None:
        """Checks the pages of these blocks that are read in place, unless that was done. Raises CorruptError."""
        places = blocks[:, None], fields.numbers
        if self.verify != "always" and self.checked[places].all():
            return
        for block in np.unique(blocks[self.in_place[places].any(axis=1)]).tolist():
            self.touch_block(fields, block)

    def touch_block(self, fields: Projection, block: int) -> None:
        """As `touch`, for all fields: a page that is sound costs its checksum and hardly more."""
        due = self.in_place[block, fields.numbers]
        if self.verify != "always":
            due &= ~self.checked[block, fields.numbers]
        if self.memory is None or not due.any():
            return
        columns = fields.numbers[due]
        entries, starts = self.index.pages[block, columns], self.index.page_offsets[block, columns]
        ends = starts + padded(entries["stored_nbytes"].astype(np.int64))
        facts = columns, fields.fixed[due], starts, ends, entries["checksum"]
        memory = memoryview(self.memory)
        for column, fixed, start, end, stored in zip(*[array.tolist() for array in facts], strict=True):
            page = memory[start:end]
            if not fixed or (self.verify != "never" and checksum(page) != stored):
                self.check(block, column, page)
        self.checked[block, columns] = True

    def _whole_table(self, readers: Mapping[str, FieldReader]) -> PageTable | None:
        columns = {}
        every = np.arange(self.entry.blocks)
        for name, reader in readers.items():
            if reader.mapped is None or not reader.all_in_place:
                return None
            columns[name] = PageColumn([reader.mapped], every, every)
        return PageTable(columns, failed={})

    def _new_sampler(self, fields: Projection) -> Callable[[int], dict[str, Any]]:
        getters = [
            (name, self.reader(column).getter()) for name, column in zip(fields.schema, fields.columns, strict=True)
        ]
        first = self.index.first.tolist()
        shard = weakref.proxy(self)
        ready = bytearray(self.entry.blocks)

        def sample(number: int) -> dict[str, Any]:
            block = bisect_right(first, number) - 1
            if not ready[block]:
                ready[block] = shard.make_ready(block, fields)
            row = number - first[block]
            try:
                return {name: get(block, row) for name, get in getters}
            except CorruptError as error:
                raise error.at(file=shard.entry.name, block=block, field=_at_fault(getters, block, row))

        return sample

    def make_ready(self, block: int, fields: Projection) -> bool:
        """Checks the block's pages that are read in place; decoding checks the others.

        False if the next read must check them again.
        """
        self.touch_all(fields, np.array([block]))
        return self.verify != "always"

    def is_checked(self, column: int, blocks: Indices) -> npt.NDArray[np.bool_]:
        """bool (n,): whether each page needs no further check."""
        checked: npt.NDArray[np.bool_] = self.checked[blocks, column] & (self.verify != "always")
        return checked

    def touch(self, column: int, blocks: Indices) -> None:
        """Checks the pages of a mapped field that were not checked yet. Raises CorruptError."""
        done = self.is_checked(column, blocks)
        for block in () if done.all() else sorted(set(blocks[~done].tolist())):
            self.check(block, column, self.stored(block, column))

    def stored(self, block: int, column: int) -> memoryview:
        """The stored bytes of a page, with their padding."""
        offset = int(self.index.page_offsets[block, column])
        nbytes = padded(int(self.index.pages[block, column]["stored_nbytes"]))
        try:
            return self._read(offset, nbytes)
        except RecordIOError as error:
            raise error.at(**self._location(block, column))

    def unmap(self, blocks: Indices) -> None:
        """Drops these blocks from this process's memory; a read brings them back from the page cache."""
        if not isinstance(self.memory, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
            return
        blocks = np.unique(blocks)
        ends = np.append(self.index.block_offsets, len(self.memory))
        first, last = ends[blocks] & -_FAULT_NBYTES, -(-ends[blocks + 1] // _FAULT_NBYTES) * _FAULT_NBYTES
        breaks = np.flatnonzero(first[1:] > last[:-1])  # one call per run of neighbours
        for start, end in zip(first[np.r_[0, breaks + 1]].tolist(), last[np.r_[breaks, -1]].tolist(), strict=True):
            self.memory.madvise(mmap.MADV_DONTNEED, start, end - start)

    def _read(self, offset: int, nbytes: int) -> memoryview:
        if self.memory is not None:
            return memoryview(self.memory)[offset : offset + nbytes]
        return memoryview(self._file.read(offset, nbytes))

    def check(self, block: int, column: int, stored: memoryview) -> memoryview:
        """The stored bytes without padding, checked as `verify` says."""
        entry = self.index.pages[block, column]
        data = stored[: int(entry["stored_nbytes"])]
        if self.checked[block, column] and self.verify != "always":
            return data
        try:
            if self.verify != "never":
                require("page", int(entry["checksum"]), checksum(stored))
            if entry["codec"] == _PLAIN:
                check_page(self.fields[column], int(self.index.samples[block]), data)
        except CorruptError as error:
            raise error.at(**self._location(block, column))
        self.checked[block, column] = True
        return data

    def content(self, block: int, column: int) -> bytes:
        """The checked, decoded page. Raises CorruptError."""
        data = self.check(block, column, self.stored(block, column))
        entry = self.index.pages[block, column]
        if entry["codec"] == _PLAIN:
            return bytes(data)
        try:
            out = codec.decode(data, int(entry["nbytes"]))
            check_page(self.fields[column], int(self.index.samples[block]), out)
        except CorruptError as error:
            raise error.at(**self._location(block, column))
        return out

    def content_into(self, block: int, column: int, target: memoryview) -> None:
        """Decodes a checked page into `target`, which has its size. Raises CorruptError."""
        data = self.check(block, column, self.stored(block, column))
        try:
            if self.index.pages[block, column]["codec"] == _PLAIN:
                target[:] = data
            else:
                codec.decode_into(data, target)
                check_page(self.fields[column], int(self.index.samples[block]), target)
        except CorruptError as error:
            raise error.at(**self._location(block, column))

    def check_block_header(self, block: int) -> None:
        """Checks a block's header against the index. Raises CorruptError."""
        offset = int(self.index.block_offsets[block])
        try:
            found = self._read(offset, block_header_nbytes(len(self.fields)))
            BlockHeader.decode(found)
            if bytes(found) != self._block_header(block).encode():
                raise CorruptError("the block header does not say what the index says")
        except CorruptError as error:
            raise error.at(file=self.entry.name, block=block, byte=offset)

    def _block_header(self, block: int) -> BlockHeader:
        """The header expected by the index."""
        pages = tuple(PageEntry(*map(int, list(entry)[:4])) for entry in self.index.pages[block])
        samples, first, offset = self.index.samples[block], self.index.first[block], self.index.block_offsets[block]
        return BlockHeader(self._dataset_id, self.entry.number, block, int(offset), int(first), int(samples), pages)

    def _location(self, block: int, column: int) -> dict[str, Any]:
        return {
            "file": self.entry.name,
            "block": block,
            "field": self._names[column],
            "byte": int(self.index.page_offsets[block, column]),
        }


class FieldReader:
    """One field of an open shard.

    Attributes:
        in_place: bool (blocks,), whether each page is plain and mapped.
        all_in_place: whether all pages are.
        mapped: the pages in the map, by block number; None without a map.
    """

    def __init__(self, shard: OpenShard, column: int) -> None:
        self._shard: OpenShard = weakref.proxy(shard)  # no cycle: an unused shard closes at once
        self._column = column
        self._field: Field = shard.fields[column]
        self.in_place: npt.NDArray[np.bool_] = shard.in_place[:, column]
        self.all_in_place = bool(self.in_place.all())
        self.mapped: Pages | None = None
        if shard.memory is not None:
            self.mapped = pages(self._field, shard.memory, shard.index.page_offsets[:, column], shard.index.samples)

    def getter(self) -> Getter:
        """A function from (block, row) to the value; the page must be ready."""
        if self.mapped is not None and self.all_in_place:
            return self.mapped.get
        return lambda block, row: self.page(block).get(0, row)

    def page(self, block: int) -> Pages:
        """The decoded page of a block, from the cache or checked now."""
        shard = self._shard
        return shard.cache((shard.entry.number, block, self._column), lambda: self._load(block))

    def _load(self, block: int) -> Pages:
        data = self._shard.content(block, self._column)
        return pages(self._field, data, np.zeros(1, np.int64), self._shard.index.samples[block : block + 1])


def _at_fault(getters: Sequence[tuple[str, Getter]], block: int, row: int) -> str | None:
    """The first field whose value cannot be read, if any."""
    for name, get in getters:
        try:
            get(block, row)
        except CorruptError:
            return name
    return None
