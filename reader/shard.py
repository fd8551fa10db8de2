"""One open shard: its index, its pages, each checked the first time it is touched.

A field whose pages are all plain is read straight from the map (`Pages` over the whole file). Any other field goes
through `CachedPages`: its pages are decoded one by one and kept in a cache of bounded size.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from recordio import codec
from recordio.block import BlockHeader
from recordio.checksum import checksum, require
from recordio.codec import Codec
from recordio.errors import CorruptError, RecordIOError
from recordio.layout import FOOTER, HEADER, block_header_nbytes, padded
from recordio.manifest import Manifest, ShardEntry
from recordio.page import Indices, Pages, check_page, pages
from recordio.reader.storage import File
from recordio.schema import Field
from recordio.shard import Footer, Index, ShardHeader

Verify = Literal["first", "always", "never"]
PageCache = Callable[[tuple[int, int, int], Callable[[], Pages]], Pages]


def check_footer(file: File, entry: ShardEntry, dataset_id: bytes) -> Footer:
    """That a file is the shard which the manifest means, by its last bytes alone. Raises CorruptError."""
    if file.nbytes != entry.nbytes:
        raise CorruptError(f"the shard has {file.nbytes} bytes, the manifest says {entry.nbytes}").at(file=entry.name)
    try:
        footer = Footer.decode(file.read(file.nbytes - FOOTER.size, FOOTER.size), file.nbytes)
    except RecordIOError as error:
        raise error.at(file=entry.name, byte=max(0, file.nbytes - FOOTER.size))
    for what, got, want in (
        ("dataset", footer.dataset_id.hex(), dataset_id.hex()),
        ("shard number", footer.number, entry.number),
        ("digest", footer.index_digest.hex(), entry.digest.hex()),
        ("samples", footer.samples, entry.samples),
    ):
        if got != want:
            raise CorruptError(f"another shard than the manifest means: its {what} is {got}, expected {want}").at(file=entry.name)
    return footer


def read_exactly(file: File, offset: int, nbytes: int) -> bytes:
    """Raises CorruptError when the file has fewer bytes: it was cut since it was opened."""
    data = file.read(offset, nbytes)
    if len(data) != nbytes:
        raise CorruptError(f"the shard was cut: {len(data)} of {nbytes} bytes").at(byte=offset)
    return data


def read_header(file: File) -> tuple[ShardHeader, int]:
    """The header and its length. Raises CorruptError, UnsupportedError."""
    nbytes = ShardHeader.nbytes(file.read(0, HEADER.size))
    return ShardHeader.decode(file.read(0, nbytes)), nbytes


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
        self, file: File, entry: ShardEntry, manifest: Manifest, columns: Sequence[int], verify: Verify, mapped: bool, cache: PageCache
    ) -> None:  # fmt: skip
        self.entry = entry
        self.schema = manifest.schema
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
        self.first = self.index.first.tolist()
        self.ready = bytearray(entry.blocks)
        self.sources = {c: self._source(c) for c in self.columns}
        names = tuple(self.schema)
        self._getters = [(names[c], source.get) for c, source in self.sources.items()]

    def _open(self, manifest: Manifest) -> Index:
        footer = check_footer(self._file, self.entry, manifest.dataset_id)
        try:
            header, header_nbytes = read_header(self._file)
            if (header.dataset_id, header.number, header.schema) != (footer.dataset_id, footer.number, manifest.schema):
                raise CorruptError("the shard's header belongs to another shard or another schema")
            data = read_exactly(self._file, footer.index_offset, footer.index_nbytes)
            index = Index.decode(data, footer, header_nbytes, manifest.schema)
        except RecordIOError as error:
            raise error.at(file=self.entry.name)
        if not np.array_equal(index.samples, self.entry.block_samples()):
            raise CorruptError("the shard's blocks are not those of the manifest").at(file=self.entry.name)
        return index

    def _source(self, column: int) -> Pages | CachedPages:
        plain = not self.index.pages["codec"][:, column].any()
        if self.memory is None or not plain:
            return CachedPages(self, column)
        return pages(self.fields[column], self.memory, self.index.page_offsets[:, column], self.index.samples)

    def direct(self, column: int) -> Pages | None:
        """The field's pages as they lie in the map, None if they must be decoded or read."""
        source = self.sources[column]
        return source if isinstance(source, Pages) else None

    def sample(self, row: int, block: int) -> dict[str, Any]:
        """The sample at `row` of `block`, undecorated: images are still encoded."""
        if not self.ready[block]:
            self._make_ready(block)
        return {name: get(block, row) for name, get in self._getters}

    def _make_ready(self, block: int) -> None:
        blocks = np.array([block])
        for column in self.columns:
            if self.direct(column) is not None:
                self.touch(column, blocks)
        self.ready[block] = self.verify != "always"

    def take(self, column: int, block: Indices, row: Indices) -> Any:
        """The values at (block, row), each int64 (n,)."""
        source = self.sources[column]
        if isinstance(source, Pages):
            self.touch(column, block)
        return source.take(block, row)

    def touch(self, column: int, blocks: Indices) -> None:
        """Checks the pages of a mapped field in these blocks, unless that was done. Raises CorruptError."""
        if self.verify == "always":
            fresh = np.unique(blocks)
        else:
            done = self.checked[blocks, column]
            if done.all():
                return
            fresh = np.unique(blocks[~done])
        for block in fresh.tolist():
            self.check(block, column, self.stored(block, column))

    def stored(self, block: int, column: int) -> memoryview:
        """The bytes of a page as they are on disk, with the padding behind them."""
        offset = int(self.index.page_offsets[block, column])
        nbytes = padded(int(self.index.pages[block, column]["stored_nbytes"]))
        try:
            return self._read(offset, nbytes)
        except RecordIOError as error:
            raise error.at(**self._place(block, column))

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
            header = BlockHeader.decode(self._read(offset, block_header_nbytes(len(self.fields))))
            if checksum(header.encode()[:-8]) != int(self.index.checksums[block]):
                raise CorruptError("the block header is not the one that the index means")
        except CorruptError as error:
            raise error.at(file=self.entry.name, block=block, byte=offset)

    def _place(self, block: int, column: int) -> dict[str, Any]:
        return {
            "file": self.entry.name,
            "block": block,
            "field": tuple(self.schema)[column],
            "byte": int(self.index.page_offsets[block, column]),
        }


class CachedPages:
    """The pages of one field of a shard that cannot be read in place. Speaks like `Pages`."""

    def __init__(self, shard: Shard, column: int) -> None:
        self._shard = shard
        self._column = column
        self._field: Field = shard.fields[column]

    def take(self, block: Indices, row: Indices) -> Any:
        """As Pages.take."""
        blocks, slot = np.unique(block, return_inverse=True)
        order = np.argsort(slot, kind="stable")
        ends = np.cumsum(np.bincount(slot, minlength=len(blocks)))
        parts = [
            self._page(b).take(np.zeros(len(rows), np.int64), rows)
            for b, rows in zip(blocks.tolist(), np.split(row[order], ends[:-1]), strict=True)
        ]
        return scatter(parts, order)

    def get(self, block: int, row: int) -> Any:
        """As Pages.get."""
        return self._page(block).get(0, row)

    def _page(self, block: int) -> Pages:
        shard = self._shard
        return shard.cache((shard.entry.number, block, self._column), lambda: self._load(block))

    def _load(self, block: int) -> Pages:
        data = self._shard.content(block, self._column)
        return pages(self._field, data, np.zeros(1, np.int64), self._shard.index.samples[block : block + 1])


def scatter(parts: Sequence[Any], order: Indices) -> Any:
    """One column from parts of it: the k-th value of all the parts belongs at order[k]."""
    if len(parts) == 1 and isinstance(parts[0], np.ndarray):
        column = np.empty_like(parts[0])
        column[order] = parts[0]
        return column
    if isinstance(parts[0], np.ndarray):
        whole = (np.ma if isinstance(parts[0], np.ma.MaskedArray) else np).concatenate(parts)
        inverse = np.empty_like(order)
        inverse[order] = np.arange(len(order))
        return whole[inverse]
    out: list[Any] = [None] * len(order)
    values = (value for part in parts for value in part)
    for at, value in zip(order.tolist(), values, strict=True):
        out[at] = value
    return out


