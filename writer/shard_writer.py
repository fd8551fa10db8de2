"""One shard, from its header to its footer, into a file that nobody sees before it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from recordio.arguments import integer
from recordio.format.block import BlockHeader, PageEntry, store_page
from recordio.format.checksum import Buffer
from recordio.format.codec import Compression, PageCoder
from recordio.format.layout import CHECKSUM, FOOTER
from recordio.format.manifest import ShardEntry
from recordio.format.page import encode_page
from recordio.format.schema import Sample
from recordio.format.shard import Footer, Index, ShardHeader, shard_digest
from recordio.storage.atomic import TEMPORARY, NewFile, sync_folder
from recordio.storage.base import storage_error
from recordio.writer.blocks import BlockBuilder, FullBlock

DEFAULT_SHARD_BYTES = 256 << 20
DEFAULT_BLOCK_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How samples are laid out.

    Attributes:
        compression: None, "auto", "zstd" or "zstd:LEVEL"; see recordio.format.codec.Compression.
        shard_bytes: a shard ends with the block that reaches this length.
        shard_samples: a shard ends at exactly this many samples, if it was not full before; None for no such limit.
        block_bytes: what a block aims at before coding: the unit of reading, checking and shuffling.
    """

    compression: str | None = "auto"
    shard_bytes: int = DEFAULT_SHARD_BYTES
    shard_samples: int | None = None
    block_bytes: int = DEFAULT_BLOCK_BYTES

    def __post_init__(self) -> None:
        Compression.parse(self.compression)
        for name in ("shard_bytes", "shard_samples", "block_bytes"):
            integer(name, getattr(self, name), 1, optional=name == "shard_samples")


class ShardWriter:
    """Writes the blocks of one shard in order. Errors of the system are StorageError; the file is then abandoned."""

    def __init__(self, path: Path, header: ShardHeader, options: WriteOptions) -> None:
        self.header = header
        self.samples = 0
        self._fields = list(header.schema.values())
        compression = Compression.parse(options.compression)
        self._coders = [PageCoder(compression) for _ in self._fields]
        self._rows: list[tuple[int, int, tuple[PageEntry, ...]]] = []
        self._start = header.encode()
        self._file = NewFile(path)
        self._write([self._start])

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def nbytes(self) -> int:
        """The length of the file so far."""
        return self._file.nbytes

    def write_block(self, block: FullBlock) -> None:
        """Codes the pages and writes the block."""
        entries: list[PageEntry] = []
        buffers: list[Buffer] = []
        for field, coder, parts in zip(self._fields, self._coders, block.fields, strict=True):
            entry, stored = store_page(coder, encode_page(field, parts))
            entries.append(entry)
            buffers += stored
        header = BlockHeader(
            self.header.dataset_id, self.header.number, len(self._rows), self.nbytes, self.samples, block.samples,
            tuple(entries)
        ).encode()  # fmt: skip
        self._write([header, *buffers])
        self._rows.append((block.samples, CHECKSUM.unpack(header[-CHECKSUM.size :])[0], tuple(entries)))
        self.samples += block.samples

    def finish(self) -> ShardEntry:
        """Index, footer, fsync. What the manifest has to say of the shard."""
        data, offset = Index.encode(len(self._fields), self._rows), self.nbytes
        footer = Footer(
            self.header.dataset_id, self.header.number, len(self._fields), offset + len(data) + FOOTER.size, offset,
            len(data), self.samples, len(self._rows), shard_digest(self._start, data),
        )  # fmt: skip
        self._write([data, footer.encode()])
        self._file.finish()
        content_nbytes = sum(page.nbytes for _, _, pages in self._rows for page in pages)
        return ShardEntry.of(footer, content_nbytes, [samples for samples, _, _ in self._rows])

    def abandon(self) -> None:
        """Removes the file."""
        self._file.abandon()

    def _write(self, parts: list[Buffer]) -> None:
        try:
            self._file.write(parts)
        except OSError:
            self._file.abandon()
            raise


def write_shard(path: Path, header: ShardHeader, samples: Iterable[Sample], options: WriteOptions) -> ShardEntry:
    """A whole shard of all the samples at `path`, appearing there in one step and durable.

    Whatever goes wrong, nothing is left; an error that a sample raises passes through.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    temporary.unlink(missing_ok=True)
    writer = ShardWriter(temporary, header, options)
    try:
        builder = BlockBuilder(header.schema, options.block_bytes)
        for sample in samples:
            if builder.add(sample):
                while block := builder.take():
                    writer.write_block(block)
        if block := builder.flush():
            writer.write_block(block)
        entry = writer.finish()
        os.replace(temporary, path)
    except BaseException as error:
        writer.abandon()
        if type(error) is OSError:
            raise storage_error("rename", path, error) from error
        raise
    sync_folder(path.parent)
    return entry
