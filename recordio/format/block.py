"""A block: a run of samples, with a page for each field.

    block  := header page*                 in the order of the schema
    header := fixed part, page entry*, padding, checksum       64-byte aligned, as are the pages

The header repeats the identity and offset of the block, so that a scan can find and trust it without the index, to
salvage a shard whose end was lost. A copy of a header inside the bytes of a value has the wrong offset and is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

from recordio.errors import CorruptError
from recordio.format.checksum import Buffer, checksum, require
from recordio.format.codec import PageCoder
from recordio.format.coded import code_page
from recordio.format.fields import Field
from recordio.format.layout import (
    BLOCK_HEADER,
    BLOCK_MAGIC,
    CHECKSUM,
    MAX_BLOCK_SAMPLES,
    PAGE_ENTRY,
    block_header_nbytes,
    padded,
    padding,
)


class PageEntry(NamedTuple):
    """Size, checksum and codec of a page. `checksum` covers the stored bytes and their padding."""

    stored_nbytes: int
    nbytes: int
    checksum: int
    codec: int


def packed_header(
    dataset_id: bytes, shard: int, block: int, offset: int, first: int, samples: int, fields: int, entries: bytes
) -> bytes:
    """A block's header up to its checksum; `entries` are the packed ones of its pages."""
    fixed = BLOCK_HEADER.pack(BLOCK_MAGIC, dataset_id, shard, block, offset, first, samples, fields)
    return (fixed + entries).ljust(block_header_nbytes(fields) - CHECKSUM.size, b"\0")


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """Identity and offset of a block, and its page entries."""

    dataset_id: bytes
    shard: int
    block: int
    offset: int
    first: int
    samples: int
    pages: tuple[PageEntry, ...]

    @property
    def nbytes(self) -> int:
        return block_header_nbytes(len(self.pages))

    @property
    def block_nbytes(self) -> int:
        """Bytes of the whole block: header and pages."""
        return self.nbytes + sum(int(padded(page.stored_nbytes)) for page in self.pages)

    def encode(self) -> bytes:
        entries = b"".join(PAGE_ENTRY.pack(*page, 0) for page in self.pages)
        place = self.dataset_id, self.shard, self.block, self.offset, self.first, self.samples
        body = packed_header(*place, len(self.pages), entries)
        return body + CHECKSUM.pack(checksum(body))

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """From bytes that start with a block; more may follow. Raises CorruptError."""
        if len(data) < BLOCK_HEADER.size or bytes(data[:8]) != BLOCK_MAGIC:
            raise CorruptError("no block header here")
        _, dataset_id, shard, block, offset, first, samples, fields = BLOCK_HEADER.unpack_from(data)
        nbytes = block_header_nbytes(fields)
        if len(data) < nbytes:
            raise CorruptError(f"block header cut short: {len(data)} of {nbytes} bytes")
        (stored,) = CHECKSUM.unpack_from(data, nbytes - CHECKSUM.size)
        require("block header", stored, checksum(data[: nbytes - CHECKSUM.size]))
        if not 0 < samples <= MAX_BLOCK_SAMPLES:
            raise CorruptError(f"block of {samples} samples: expected 1 to {MAX_BLOCK_SAMPLES}")
        entries = (PAGE_ENTRY.unpack_from(data, BLOCK_HEADER.size + PAGE_ENTRY.size * i)[:4] for i in range(fields))
        return cls(dataset_id, shard, block, offset, first, samples, tuple(PageEntry(*e) for e in entries))


def store_page(coder: PageCoder, field: Field, samples: int, content: Buffer) -> tuple[PageEntry, list[Buffer]]:
    """Codes a page; returns its entry and the buffers to write."""
    codec, stored = code_page(coder, field, samples, content)
    parts: list[Buffer] = [stored, padding(len(stored))]
    return PageEntry(len(stored), len(content), checksum(*parts), codec), parts
