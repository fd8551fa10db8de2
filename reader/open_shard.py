"""One open shard: its index, its pages, each checked the first time it is touched.

Plain pages are read straight from the map, all of a field's by one gather. Coded pages, and every page when there is no
map, are decoded one by one and kept in a cache of bounded size.
"""

from __future__ import annotations

import mmap
import weakref
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy import ma

from recordio.errors import CorruptError, RecordIOError
from recordio.format import codec
from recordio.format.block import BlockHeader, PageEntry
from recordio.format.checksum import checksum, require
from recordio.format.codec import Codec
from recordio.format.fields import Field
from recordio.format.layout import FOOTER, HEADER, block_header_nbytes, padded
from recordio.format.manifest import Manifest, ShardEntry
from recordio.format.page import Indices, Pages, check_page, pages
from recordio.format.shard import Footer, Index, ShardHeader
from recordio.reader.columns import concatenate
from recordio.storage.local import File

_FAULT_NBYTES = 64 << 10  # Linux maps so much around the page that was touched

Verify = Literal["first", "always", "never"]
PageCache = Callable[[tuple[int, int, int], Callable[[], Pages]], Pages]


def check_footer(file: File, entry: ShardEntry, dataset_id: bytes) -> Footer:
    """That a file is the shard which the manifest means, by its last bytes alone. Raises CorruptError."""
    if file.nbytes != entry.nbytes:
        raise CorruptError(f"the shard has {file.nbytes} bytes, the manifest says {entry.nbytes}").at(file=entry.name)
    if file.nbytes < FOOTER.size:
        raise CorruptError(f"cut to {file.nbytes} bytes: a footer alone takes {FOOTER.size}").at(file=entry.name)
    try:
        footer = Footer.decode(file.read(file.nbytes - FOOTER.size, FOOTER.size), file.nbytes)
    except RecordIOError as error:
        raise error.at(file=entry.name, byte=file.nbytes - FOOTER.size)
    for what, got, want in (
        ("dataset", footer.dataset_id.hex(), dataset_id.hex()),
        ("shard number", footer.number, entry.number),
        ("digest", footer.digest.hex(), entry.digest.hex()),
        ("samples", footer.samples, entry.samples),
    ):
        if got != want:
            raise CorruptError(f"another shard than the manifest means: its {what} is {got}, expected {want}").at(
                file=entry.name
            )
    return footer


def at_fault(getters: Sequence[tuple[str, Callable[[int, int], Any]]], block: int, row: int) -> str | None:
    """The first field whose value cannot be read."""
    for name, get in getters:
        try:
            get(block, row)
        except CorruptError:
            return name
    return None


def read_exactly(file: File, offset: int, nbytes: int) -> bytes:
    """Raises CorruptError when the file has fewer bytes: it was cut since it was opened."""
    data = file.read(offset, nbytes)
    if len(data) != nbytes:
        raise CorruptError(f"the shard was cut: {len(data)} of {nbytes} bytes").at(byte=offset)
    return data


def read_header(file: File) -> tuple[ShardHeader, bytes]:
    """The header, and its bytes. Raises CorruptError, UnsupportedError."""
    data = file.read(0, ShardHeader.nbytes(file.read(0, HEADER.size)))
    return ShardHeader.decode(data), data


class Shard:
    """An open shard of a dataset.

    Args:
        file: the open file; kept while it is needed.
        entry: what the manifest says of it.
        manifest: the manifest.
        columns: the numbers, within the schema, of the fields to read.
        verify: when the checksums of pages are compared.
        mapped: read from a memory map; else with positioned reads.
        cache: keeps decoded pages: called with a key and what makes the page.
    """

    def __init__(
        self, file: File, entry: ShardEntry, manifest: Manifest, columns: Sequence[int], verify: Verify, mapped: bool,
        cache: PageCache
    ) -> None:  # fmt: skip
        self.entry = entry
        self.schema = manifest.schema
        self._dataset_id = manifest.dataset_id
        self.columns = tuple(columns)
        self.verify = verify
        self.cache = cache
        self._file = file
        self.index = self._open(manifest)
        self.memory = file.map() if mapped else None
        if mapped:
            file.close()  # the map keeps the file open by itself
        self.checked = np.zeros((entry.blocks, len(self.schema)), bool)
        self.fields = tuple(self.schema.values())
        self.ready = bytearray(entry.blocks)
        self.readers = {column: FieldReader(self, column) for column in self.columns}
        self.sample = self._sampler()

    def _open(self, manifest: Manifest) -> Index:
        footer = check_footer(self._file, self.entry, manifest.dataset_id)
        try:
            header, header_data = read_header(self._file)
            if (header.dataset_id, header.number, header.schema) != (footer.dataset_id, footer.number, manifest.schema):
                raise CorruptError("the shard's header belongs to another shard or another schema")
            data = read_exactly(self._file, footer.index_offset, footer.index_nbytes)
            index = Index.decode(data, footer, header_data, manifest.schema)
        except RecordIOError as error:
            raise error.at(file=self.entry.name)
        if int(index.pages["nbytes"].astype(object).sum() if index.pages.size else 0) != self.entry.content_nbytes:
            raise CorruptError("the shard's pages are not as large as the manifest says").at(file=self.entry.name)
        if not np.array_equal(index.samples, self.entry.block_samples()):
            raise CorruptError("the shard's blocks are not those of the manifest").at(file=self.entry.name)
        return index

    def _sampler(self) -> Callable[[int], dict[str, Any]]:
        """The function that gives the sample of a number within the shard; images as they are stored."""
        names = tuple(self.schema)
        getters = [(names[column], reader.getter()) for column, reader in self.readers.items()]
        first, ready, shard = self.index.first.tolist(), self.ready, weakref.proxy(self)

        def sample(number: int) -> dict[str, Any]:
            block = bisect_right(first, number) - 1
            if not ready[block]:
                shard._make_ready(block)
            row = number - first[block]
            try:
                return {name: get(block, row) for name, get in getters}
            except CorruptError as error:
                raise error.at(file=shard.entry.name, block=block, field=at_fault(getters, block, row)) from None

        return sample

    def _make_ready(self, block: int) -> None:
        """Checks the pages of a block that are read in place; the others are checked when they are decoded."""
        blocks = np.array([block])
        for column, reader in self.readers.items():
            if reader.in_place[block]:
                self.touch(column, blocks)
        self.ready[block] = self.verify != "always"

    def is_checked(self, column: int, blocks: Indices) -> npt.NDArray[np.bool_]:
        """bool (n,): the pages that need no check any more."""
        checked: npt.NDArray[np.bool_] = self.checked[blocks, column] & (self.verify != "always")
        return checked

    def touch(self, column: int, blocks: Indices) -> None:
        """Checks the pages of a mapped field in these blocks, unless that was done. Raises CorruptError."""
        done = self.is_checked(column, blocks)
        for block in () if done.all() else np.unique(blocks[~done]).tolist():
            self.check(block, column, self.stored(block, column))

    def stored(self, block: int, column: int) -> memoryview:
        """The bytes of a page as they are on disk, with the padding behind them."""
        offset = int(self.index.page_offsets[block, column])
        nbytes = padded(int(self.index.pages[block, column]["stored_nbytes"]))
        try:
            return self._read(offset, nbytes)
        except RecordIOError as error:
            raise error.at(**self._place(block, column))

    def unmap(self, blocks: Indices) -> None:
        """Takes these blocks out of this process's memory; when read they come back, from the system's cache."""
        if not isinstance(self.memory, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
            return
        blocks = np.unique(blocks)
        ends = np.append(self.index.block_offsets, len(self.memory))
        first, last = ends[blocks] & -_FAULT_NBYTES, -(-ends[blocks + 1] // _FAULT_NBYTES) * _FAULT_NBYTES
        breaks = np.flatnonzero(first[1:] > last[:-1])  # runs of neighbours are one
        for start, end in zip(first[np.r_[0, breaks + 1]].tolist(), last[np.r_[breaks, -1]].tolist(), strict=True):
            self.memory.madvise(mmap.MADV_DONTNEED, start, end - start)

    def _read(self, offset: int, nbytes: int) -> memoryview:
        if self.memory is not None:
            return memoryview(self.memory)[offset : offset + nbytes]
        return memoryview(read_exactly(self._file, offset, nbytes))

    def check(self, block: int, column: int, stored: memoryview) -> memoryview:
        """The page's stored bytes without padding, after the checks that `verify` asks for."""
        entry = self.index.pages[block, column]
        data = stored[: int(entry["stored_nbytes"])]
        if self.checked[block, column] and self.verify != "always":
            return data
        try:
            if self.verify != "never":
                require("page", int(entry["checksum"]), checksum(stored))
            if entry["codec"] == Codec.PLAIN:
                check_page(self.fields[column], int(self.index.samples[block]), data)
        except CorruptError as error:
            raise error.at(**self._place(block, column))
        self.checked[block, column] = True
        return data

    def content(self, block: int, column: int) -> bytes:
        """A page, checked and decoded. Raises CorruptError."""
        data = self.check(block, column, self.stored(block, column))
        entry = self.index.pages[block, column]
        if entry["codec"] == Codec.PLAIN:
            return bytes(data)
        try:
            out = codec.decode(data, int(entry["nbytes"]))
            check_page(self.fields[column], int(self.index.samples[block]), out)
        except CorruptError as error:
            raise error.at(**self._place(block, column))
        return out

    def content_into(self, block: int, column: int, target: memoryview) -> None:
        """A page, checked and decoded into memory of its size. Raises CorruptError."""
        data = self.check(block, column, self.stored(block, column))
        try:
            if self.index.pages[block, column]["codec"] == Codec.PLAIN:
                target[:] = data
            else:
                codec.decode_into(data, target)
                check_page(self.fields[column], int(self.index.samples[block]), target)
        except CorruptError as error:
            raise error.at(**self._place(block, column))

    def check_block_header(self, block: int) -> None:
        """That a block's header says what the index says. Raises CorruptError."""
        offset = int(self.index.block_offsets[block])
        try:
            found = self._read(offset, block_header_nbytes(len(self.fields)))
            BlockHeader.decode(found)
            if bytes(found) != self._block_header(block).encode():
                raise CorruptError("the block header does not say what the index says")
        except CorruptError as error:
            raise error.at(file=self.entry.name, block=block, byte=offset)

    def _block_header(self, block: int) -> BlockHeader:
        """The header that the index calls for."""
        pages = tuple(PageEntry(*map(int, list(entry)[:4])) for entry in self.index.pages[block])
        samples, first, offset = self.index.samples[block], self.index.first[block], self.index.block_offsets[block]
        return BlockHeader(self._dataset_id, self.entry.number, block, int(offset), int(first), int(samples), pages)

    def _place(self, block: int, column: int) -> dict[str, Any]:
        return {
            "file": self.entry.name,
            "block": block,
            "field": tuple(self.schema)[column],
            "byte": int(self.index.page_offsets[block, column]),
        }


class FieldReader:
    """One field of an open shard.

    Attributes:
        in_place: bool (blocks,), whether a block's page is plain and mapped.
        mapped: the pages as they lie in the map, by number of block; None without a map.
    """

    def __init__(self, shard: Shard, column: int) -> None:
        self._shard: Shard = weakref.proxy(shard)  # no cycle: a shard that nobody reads closes at once
        self._column = column
        self._field: Field = shard.fields[column]
        plain = shard.index.pages["codec"][:, column] == Codec.PLAIN
        self.in_place = plain & (shard.memory is not None)
        self._all_in_place = bool(self.in_place.all())
        self.mapped: Pages | None = None
        if shard.memory is not None:
            self.mapped = pages(self._field, shard.memory, shard.index.page_offsets[:, column], shard.index.samples)

    def getter(self) -> Callable[[int, int], Any]:
        """What gives the value at (block, row), whose page has been made ready."""
        if self.mapped is not None and self._all_in_place:
            return self.mapped.getter()
        return lambda block, row: self._page(block).getter()(0, row)

    def take(self, block: Indices, row: Indices) -> Any:
        """The values at (block, row), each int64 (n,), as Pages.take gives them."""
        try:
            return self._take(block, row)
        except CorruptError as error:
            raise error.at(file=self._shard.entry.name, field=tuple(self._shard.schema)[self._column])

    def _take(self, block: Indices, row: Indices) -> Any:
        in_place = None if self._all_in_place else self.in_place[block]
        if self.mapped is not None and (in_place is None or in_place.all()):
            self._shard.touch(self._column, block)
            return self.mapped.take(block, row)
        if not len(row):
            return nothing(self._field)
        # All pages in place are one group, each coded page is a group of its own.
        group = block if in_place is None else np.where(in_place, -1, block)
        groups, order, runs = grouped(group)
        return scatter([self._take_group(g, block[run], row[run]) for g, run in zip(groups, runs, strict=True)], order)

    def _take_group(self, group: int, block: Indices, row: Indices) -> Any:
        if group >= 0:
            return self._page(group).take(np.zeros(len(row), np.int64), row)
        assert self.mapped is not None
        self._shard.touch(self._column, block)
        return self.mapped.take(block, row)

    def _page(self, block: int) -> Pages:
        shard = self._shard
        return shard.cache((shard.entry.number, block, self._column), lambda: self._load(block))

    def _load(self, block: int) -> Pages:
        data = self._shard.content(block, self._column)
        return pages(self._field, data, np.zeros(1, np.int64), self._shard.index.samples[block : block + 1])


def grouped(group: Indices) -> tuple[list[int], Indices, list[Indices]]:
    """The distinct groups, an order that sorts by group, and that order cut into one run a group."""
    order = np.argsort(group, kind="stable")
    found, starts = np.unique(group[order], return_index=True)
    return found.tolist(), order, np.split(order, starts[1:]) if len(found) else []


def nothing(field: Field) -> Any:
    """The column of no samples."""
    empty = np.zeros(0, np.int64)
    return pages(field, b"", empty, empty).take(empty, empty)


def scatter(parts: Sequence[Any], order: Indices) -> Any:
    """One column from parts of it: the k-th value of all the parts belongs at order[k]."""
    if isinstance(parts[0], ma.MaskedArray):
        whole = concatenate(parts)
        column = np.empty_like(whole)
        column[order] = whole
        return column
    if isinstance(parts[0], np.ndarray):
        column = np.empty((len(order), *parts[0].shape[1:]), parts[0].dtype)
        begin = 0
        for part in parts:
            begin, run = begin + len(part), order[begin : begin + len(part)]
            column[run] = part
        return column
    out: list[Any] = [None] * len(order)
    values = (value for part in parts for value in part)
    for at, value in zip(order.tolist(), values, strict=True):
        out[at] = value
    return out
