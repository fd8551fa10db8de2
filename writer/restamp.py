"""Copies a finished shard under another dataset id and shard number, or proves it. Its pages stay as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from recordio.errors import CorruptError
from recordio.format.block import BlockHeader
from recordio.format.checksum import Buffer, checksum, require
from recordio.format.index import Index
from recordio.format.layout import CHECKSUM, HEADER, padded
from recordio.format.manifest import ShardEntry, shard_name
from recordio.format.schema import Schema
from recordio.format.shard import ShardHeader
from recordio.storage.atomic import TEMPORARY, sync_folder
from recordio.storage.base import File
from recordio.storage.dataset_files import check_footer, open_shard_file, read_footer
from recordio.storage.local import LocalStorage
from recordio.writer.shard_sink import rename
from recordio.writer.shard_writer import ShardWriter, WriteOptions


def restamp(path: Path, entry: ShardEntry, folder: Path, header: ShardHeader, options: WriteOptions) -> ShardEntry:
    """Writes what the shard at `path` holds into a shard with this header, which appears in `folder` in one step.

    The result is, byte for byte, what writing the samples anew would give. `entry` is the manifest entry of the old
    shard, which stays. Every checksum in it is compared on the way. Raises CorruptError and UnsupportedError if it is
    damaged, another one or has other fields, StorageError; then no new file is left.
    """
    target = folder / shard_name(header.number)
    temporary = target.with_name(f".{target.name}{TEMPORARY}")
    temporary.unlink(missing_ok=True)
    with contextlib.closing(open_shard_file(LocalStorage(path.parent), path.name)) as file:
        index = _checked_index(file, entry, header.schema)
        writer = ShardWriter(temporary, header, options)
        try:
            for block, pages in _blocks(file, index):
                writer.write_pages(block.samples, block.pages, [pages])
            copied = writer.finish()
            rename(temporary, target)
        except BaseException:
            writer.abandon()
            raise
    sync_folder(folder)
    return copied


def renumbered(path: Path, entry: ShardEntry, number: int, folder: Path) -> tuple[Path, ShardEntry]:
    """A copy of a finished shard under another number, in `folder`. Raises CorruptError, StorageError."""
    with contextlib.closing(open_shard_file(LocalStorage(path.parent), path.name)) as file:
        header = ShardHeader.decode(file.read(0, ShardHeader.nbytes(file.read(0, HEADER.size))))
    copied = restamp(path, entry, folder, replace(header, number=number), WriteOptions())
    return folder / copied.name, copied


def prove(file: File, entry: ShardEntry, dataset_id: bytes, schema: Schema) -> None:
    """Compares every checksum of a shard. Raises CorruptError, UnsupportedError if it is not the one of the entry."""
    check_footer(file, entry, dataset_id)
    index, block = _checked_index(file, entry, schema), 0
    try:
        for _ in _blocks(file, index):
            block += 1
    except CorruptError as error:
        raise error.at(block=block)


def _checked_index(file: File, entry: ShardEntry, schema: Schema) -> Index:
    footer = read_footer(file)
    if footer.digest != entry.digest:
        raise CorruptError("another shard than its entry means").at(file=file.name)
    start = file.read(0, ShardHeader.nbytes(file.read(0, HEADER.size)))
    if ShardHeader.decode(start).schema != schema:
        raise CorruptError("a shard of other fields").at(file=file.name)
    return Index.decode(file.read(footer.index_offset, footer.index_nbytes), footer, start, schema)


def _blocks(file: File, index: Index) -> Iterator[tuple[BlockHeader, Buffer]]:
    """The header of each block, and its pages with their padding."""
    ends = index.page_offsets[:, -1] + padded(index.pages["stored_nbytes"][:, -1].astype(np.int64))
    for number, (offset, end) in enumerate(zip(index.block_offsets.tolist(), ends.tolist(), strict=True)):
        data = memoryview(file.read(offset, end - offset))
        block = BlockHeader.decode(data)
        (stored,) = CHECKSUM.unpack_from(data, block.nbytes - CHECKSUM.size)
        require("block header", int(index.checksums[number]), stored)
        at = block.nbytes
        for page in block.pages:
            nbytes = int(padded(page.stored_nbytes))
            require("page", page.checksum, checksum(data[at : at + nbytes]))
            at += nbytes
        yield block, data[block.nbytes :]
