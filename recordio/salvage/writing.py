"""Writes what is left of shards. Every byte is read again and compared on the way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from recordio.format.manifest import Manifest
from recordio.format.schema import Schema
from recordio.format.shard import Footer, ShardHeader
from recordio.format.shard_table import ShardEntry
from recordio.salvage.blocks import headers_of, read_block
from recordio.salvage.copies import ShardCopy, parsed
from recordio.salvage.mending import BlockSource, Mended
from recordio.storage.atomic import NewFile
from recordio.storage.base import File
from recordio.storage.local import LocalStorage
from recordio.writer.shard_writer import ShardWriter, WriteOptions


def link_or_copy(copy: ShardCopy, schema: Schema, path: Path) -> None:
    """The whole shard of this file under another path: the same file where the system can do that.

    Raises CorruptError, StorageError; then nothing is at the path.
    """
    if isinstance(copy.storage, LocalStorage):
        with contextlib.suppress(OSError):
            os.link(copy.storage.folder / copy.name, path, follow_symlinks=False)
            return
    assert copy.header is not None
    assert copy.footer is not None
    with copy.opened() as file:
        index = file.read(copy.footer.index_offset, copy.footer.index_nbytes)
    shard = copy.footer.dataset_id, copy.footer.number
    sources = [BlockSource(copy, header) for header in headers_of(copy.index(schema), shard)]
    _write_exact(path, copy.header, sources, index, copy.footer, schema)


def write_as_it_was(mended: Mended, schema: Schema, path: Path) -> None:
    """The shard bit for bit. Raises CorruptError, StorageError; then nothing is at the path."""
    if mended.whole is not None:
        link_or_copy(mended.whole, schema, path)
        return
    assert mended.header is not None
    assert mended.index is not None
    assert mended.footer is not None
    _write_exact(path, mended.header, mended.blocks, mended.index, mended.footer, schema)


def _write_exact(
    path: Path, header: bytes, sources: Sequence[BlockSource], index: bytes, footer: Footer, schema: Schema
) -> None:
    file = NewFile(path)
    try:
        file.write([header])
        for _, data in _read(sources, schema):
            file.write([data])
        file.write([index, footer.encode()])
        file.finish()
    except BaseException:
        file.abandon()
        raise


def write_rest(mended: Mended, number: int, manifest: Manifest, path: Path) -> ShardEntry:
    """A shard of the blocks that are left, under this number, and its entry.

    Raises CorruptError, StorageError; then nothing is at the path.
    """
    assert mended.header is not None
    metadata = parsed(ShardHeader.decode_fixed(mended.header)[2])[1]
    header = ShardHeader(manifest.dataset_id, number, manifest.schema, metadata)
    writer = ShardWriter(path, header, WriteOptions())
    try:
        for block, data in _read(mended.blocks, manifest.schema):
            writer.write_pages(block.header.samples, block.header.pages, [data[block.header.nbytes :]])
        return writer.finish()
    except BaseException:
        writer.abandon()
        raise


def _read(sources: Sequence[BlockSource], schema: Schema) -> Iterator[tuple[BlockSource, memoryview]]:
    """The bytes of these blocks. Raises CorruptError, StorageError."""
    files: dict[ShardCopy, File] = {}
    with contextlib.ExitStack() as stack:
        for source in sources:
            if source.copy not in files:
                files[source.copy] = stack.enter_context(source.copy.opened())
            yield source, read_block(files[source.copy], source.header, schema)
