"""The index of a shard: where every page lies, checked without reading pages.

    index := for each block its samples, the checksum of its header, and its page entries; padding

It holds no offsets: blocks and pages follow each other without gaps, so offsets are sums of sizes, and holes or
overlaps cannot be expressed. The indexes of many shards decode together, in a few NumPy calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from recordio.errors import CorruptError, UnsupportedError
from recordio.format.block import PageEntry, packed_header
from recordio.format.checksum import Buffer
from recordio.format.codec import Codec
from recordio.format.layout import (
    ALIGNMENT,
    CHECKSUM,
    MAX_BLOCK_SAMPLES,
    MAX_CODED_PAGE_NBYTES,
    PAGE_ENTRY,
    Counts,
    block_header_nbytes,
    index_dtype,
    padding,
)
from recordio.format.narrow import may_be_narrow, widths_of
from recordio.format.page import least_nbytes
from recordio.format.schema import Schema
from recordio.format.shard import Footer, shard_digest
from recordio.lazy import lazy

_PLAIN, _NARROW, _NARROW_ZSTD, _LAST_CODEC = (
    int(Codec.PLAIN),
    int(Codec.NARROW),
    int(Codec.NARROW_ZSTD),
    int(max(Codec)),
)  # a member of an enum costs as much as the comparison


class RawIndex(NamedTuple):
    """The index of a shard as it was read, with its footer, and the length and the checksum of its header."""

    data: Buffer
    footer: Footer
    header_nbytes: int
    header_checksum: Buffer


@dataclass(frozen=True)
class Index:
    """The location of every page of B blocks with F fields, of one shard, or of several one after the other.

    Attributes:
        samples: int64 (B,), samples of each block.
        checksums: uint64 (B,), checksum of each block's header.
        pages: structured (B, F), fields stored_nbytes, nbytes, checksum, codec.
        block_offsets: int64 (B,), offset of each block's header in its file.
        page_offsets: int64 (B, F), offset of each page in its file.
    """

    samples: Counts
    checksums: npt.NDArray[np.uint64]
    pages: npt.NDArray[np.void]
    block_offsets: Counts
    page_offsets: Counts

    @lazy
    def first(self) -> Counts:
        """int64 (B + 1,), the number of samples before each block; the last is the total."""
        return np.concatenate([[0], np.cumsum(self.samples)])

    def block_headers(self, dataset_id: bytes, shard: int, begin: int, end: int) -> list[bytes]:
        """The headers that the blocks from `begin` to `end` - 1 of this one shard have."""
        fields, part = self.pages.shape[1], slice(begin, end)
        entries, nbytes = self.pages[part].tobytes(), fields * PAGE_ENTRY.size
        facts = (column[part].tolist() for column in (self.block_offsets, self.first, self.samples, self.checksums))
        return [
            packed_header(
                dataset_id, shard, begin + k, offset, first, samples, fields, entries[k * nbytes : (k + 1) * nbytes]
            )
            + CHECKSUM.pack(checksum)
            for k, (offset, first, samples, checksum) in enumerate(zip(*facts, strict=True))
        ]

    @staticmethod
    def encode(fields: int, rows: Iterable[tuple[int, int, tuple[PageEntry, ...]]]) -> bytes:
        """From (samples, header checksum, page entries) of each block."""
        table = np.array([(n, sum_, [(*page, 0) for page in pages]) for n, sum_, pages in rows], index_dtype(fields))
        data = table.tobytes()
        return data + padding(len(data))

    @classmethod
    def decode(cls, data: Buffer, footer: Footer, header: Buffer, schema: Schema) -> Self:
        """Decodes the index of one shard. Raises CorruptError, UnsupportedError."""
        return cls.decode_all([RawIndex(data, footer, len(header), header[-CHECKSUM.size :])], schema)

    @classmethod
    def decode_all(cls, parts: Sequence[RawIndex], schema: Schema) -> Self:
        """Decodes and checks the indexes of several shards.

        Raises CorruptError, UnsupportedError: for one of several it does not say for which; decode each of them alone.
        """
        for part in parts:
            check_digest(part)
            if part.footer.fields != len(schema):
                raise CorruptError(f"the index has {part.footer.fields} fields, the schema {len(schema)}")
        row = index_dtype(len(schema))
        footers = [part.footer for part in parts]
        table = np.frombuffer(b"".join([part.data[: part.footer.blocks * row.itemsize] for part in parts]), row)
        blocks = np.array([footer.blocks for footer in footers], np.int64)
        starts = (np.cumsum(blocks) - blocks)[blocks > 0]
        _check_counts(table, starts, [footer for footer in footers if footer.blocks])
        samples = table["samples"].astype(np.int64)
        check_pages(table["pages"], samples, schema)
        extents = -(-table["pages"]["stored_nbytes"].astype(np.int64) // ALIGNMENT) * ALIGNMENT
        lengths = np.full((len(table), 1 + len(schema)), block_header_nbytes(len(schema)))
        lengths[:, 1:] = extents
        # The sums run through all shards and may wrap around; their differences within a shard are exact.
        ends = np.cumsum(lengths.ravel()).reshape(lengths.shape)
        headers = np.array([part.header_nbytes for part in parts], np.int64)
        before = np.zeros(len(parts), np.int64)
        before[blocks > 0] = ends[starts, 0] - lengths[starts, 0]
        ends += np.repeat(headers - before, blocks)[:, None]
        last = headers.copy()
        last[blocks > 0] = ends[(starts + blocks[blocks > 0] - 1), -1]
        if last.tolist() != [footer.index_offset for footer in footers]:
            raise CorruptError("the blocks do not fill the shard from its header to its index")
        return cls(samples, table["checksum"], table["pages"], ends[:, 0] - lengths[:, 0], ends[:, :-1])


def check_digest(part: RawIndex) -> None:
    """Proves that these are the header and the index of the shard. Raises CorruptError."""
    footer = part.footer
    computed = shard_digest(part.header_checksum, part.data)
    if computed != footer.digest:
        raise CorruptError(
            f"shard digest mismatch: stored {footer.digest.hex()}, computed {computed.hex()} of header and index"
        ).at(byte=footer.index_offset)


def _check_counts(table: npt.NDArray[np.void], starts: Counts, footers: Sequence[Footer]) -> None:
    """`starts`: the first block of each shard; `footers`: of these shards. No shard is empty."""
    if not footers:
        return
    samples, stored = table["samples"], table["pages"]["stored_nbytes"]
    if not (1 <= samples.min() and samples.max() <= MAX_BLOCK_SAMPLES):
        raise CorruptError(f"the index has a block of {samples.max()} samples: expected 1 to {MAX_BLOCK_SAMPLES}")
    found = np.add.reduceat(samples, starts).tolist()
    wrong = [k for k, footer in enumerate(footers) if found[k] != footer.samples]
    if wrong:
        raise CorruptError(f"the index counts {found[wrong[0]]} samples, the footer {footers[wrong[0]].samples}")
    # Summed as floats first: integers could overflow.
    nbytes = np.add.reduceat(stored.astype(np.float64).sum(axis=1), starts)
    if (nbytes > [footer.file_nbytes for footer in footers]).any():
        raise CorruptError("the pages of the index are larger than the shard")


def check_pages(pages: npt.NDArray[np.void], samples: Counts, schema: Schema) -> None:
    codec, nbytes = pages["codec"], pages["nbytes"]
    plain = codec == _PLAIN
    if codec.size and codec.max() > _LAST_CODEC:
        raise UnsupportedError(f"unknown codec {codec.max()}")
    if (plain & (nbytes != pages["stored_nbytes"])).any() or pages["reserved"].any():
        raise CorruptError("the index has a page entry that contradicts itself")
    if (~plain & (nbytes > MAX_CODED_PAGE_NBYTES)).any():
        raise CorruptError(f"the index has a coded page over the limit of {MAX_CODED_PAGE_NBYTES} bytes")
    are_plain, sizes = bool(plain.all()), nbytes.astype(np.int64)  # from 2^63 on negative, and refused as wrong
    for column, (name, kind) in enumerate(schema.items()):
        least, got = least_nbytes(kind, samples), sizes[:, column]
        wrong = got < least if kind.row_nbytes is None else got != least
        if wrong.any():
            block = int(np.argmax(wrong))
            raise CorruptError(
                f"a page of {samples[block]} samples has {nbytes[block, column]} bytes, expected {least[block]}"
            ).at(block=block, field=name)
        if are_plain:
            continue
        if (codec[:, column] == _NARROW_ZSTD).any() and not may_be_narrow(kind):
            block = int(np.argmax(codec[:, column] == _NARROW_ZSTD))
            raise CorruptError(f"a coded narrow page: {kind} has none").at(block=block, field=name)
        if (codec[:, column] == _NARROW).any():
            stored = pages["stored_nbytes"][:, column].astype(np.int64)
            wrong = widths_of(kind, samples, stored, codec[:, column]) == 0
            if wrong.any():
                block = int(np.argmax(wrong))
                raise CorruptError(
                    f"a narrow page of {samples[block]} samples has {stored[block]} bytes: no width of {kind}"
                ).at(block=block, field=name)
