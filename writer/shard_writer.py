"""One shard file, written from header to footer under a temporary name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recordio.arguments import integer
from recordio.format.block import BlockHeader, PageEntry, store_page
from recordio.format.checksum import Buffer
from recordio.format.codec import Compression, PageCoder
from recordio.format.index import Index
from recordio.format.layout import CHECKSUM, FOOTER
from recordio.format.manifest import ShardEntry
from recordio.format.page import encode_page
from recordio.format.parity import Parity
from recordio.format.schema import Schema
from recordio.format.shard import Footer, ShardHeader, shard_digest
from recordio.statistics.measures import Measures
from recordio.storage.atomic import NewFile
from recordio.writer.blocks import FullBlock

DEFAULT_SHARD_BYTES = 256 << 20
DEFAULT_BLOCK_BYTES = 256 << 10
MOST_PARITY_SHARDS = 256  # so many files are open at a time
DEFAULT_FIELD_BYTES = 2 << 10  # a page takes up to 127 bytes beside its content, and small ones code badly


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How samples are laid out.

    Attributes:
        compression: see recordio.format.codec.Compression.parse.
        shard_bytes: a shard ends with the block that reaches this length.
        shard_samples: a shard ends at exactly this many samples, if it was not full before; None for no such limit.
        block_bytes: what a block aims at before coding: the unit of reading, checking and shuffling. None for 256 KiB,
            or for 2 KiB a field where that is more, but no more than `shard_bytes` then.
        parity: how many shards have a file of parity in common; None for no parity.
    """

    compression: str | None = "auto"
    shard_bytes: int = DEFAULT_SHARD_BYTES
    shard_samples: int | None = None
    block_bytes: int | None = None
    parity: int | None = None

    def __post_init__(self) -> None:
        Compression.parse(self.compression)
        for name in ("shard_bytes", "shard_samples", "block_bytes"):
            integer(name, getattr(self, name), 1, optional=name != "shard_bytes")
        integer("parity", self.parity, 1, MOST_PARITY_SHARDS, optional=True)

    @property
    def new_parity(self) -> Parity | None:
        """The parity of a dataset, before there is any."""
        return None if self.parity is None else Parity(self.parity)

    def block_target(self, schema: Schema) -> int:
        """The bytes that a block of this schema aims at."""
        if self.block_bytes is not None:
            return self.block_bytes
        return max(DEFAULT_BLOCK_BYTES, min(DEFAULT_FIELD_BYTES * len(schema), self.shard_bytes))


class ShardWriter:
    """Writes the blocks of one shard in order. On a StorageError the file is removed."""

    def __init__(
        self, path: Path, header: ShardHeader, options: WriteOptions, measures: Measures | None = None
    ) -> None:
        """`measures` takes each page that `write_block` writes."""
        self.header = header
        self._measures = measures
        self.samples = 0
        self._fields = list(header.schema.values())
        compression = Compression.parse(options.compression)
        compressors = compression.compressors()
        self._coders = [PageCoder(compression, compressors) for _ in self._fields]
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
        """Compresses the pages and writes the block. Raises StorageError."""
        entries: list[PageEntry] = []
        buffers: list[Buffer] = []
        for number, (field, coder, parts) in enumerate(zip(self._fields, self._coders, block.fields, strict=True)):
            content = encode_page(field, parts)
            if self._measures is not None:
                self._measures.add(number, content, block.samples)
            entry, stored = store_page(coder, field, block.samples, content)
            entries.append(entry)
            buffers += stored
        self.write_pages(block.samples, entries, buffers)

    def write_pages(self, samples: int, entries: Sequence[PageEntry], stored: Sequence[Buffer]) -> None:
        """Writes a block of `samples` whose pages are coded and padded already. Raises StorageError."""
        header = BlockHeader(
            dataset_id=self.header.dataset_id,
            shard=self.header.number,
            block=len(self._rows),
            offset=self.nbytes,
            first=self.samples,
            samples=samples,
            pages=tuple(entries),
        ).encode()
        self._write([header, *stored])
        self._rows.append((samples, CHECKSUM.unpack(header[-CHECKSUM.size :])[0], tuple(entries)))
        self.samples += samples

    def finish(self) -> ShardEntry:
        """Writes index and footer, syncs the file, and returns its entry for the manifest."""
        index = Index.encode(len(self._fields), self._rows)
        footer = Footer(
            dataset_id=self.header.dataset_id,
            number=self.header.number,
            fields=len(self._fields),
            file_nbytes=self.nbytes + len(index) + FOOTER.size,
            index_offset=self.nbytes,
            index_nbytes=len(index),
            samples=self.samples,
            blocks=len(self._rows),
            digest=shard_digest(self._start, index),
        )
        self._write([index, footer.encode()])
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
