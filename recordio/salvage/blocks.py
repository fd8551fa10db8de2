"""The blocks of a shard, found by their own headers and proven by the checksums in these.

A header says its own offset, dataset, shard and number, so that a copy of it inside the value of a sample, or in a file
that was moved, is no block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from recordio.errors import CorruptError, RecordIOError, StorageError
from recordio.format.block import BlockHeader, PageEntry
from recordio.format.codec import Codec
from recordio.format.coded import decode_page
from recordio.format.index import Index, check_pages
from recordio.format.layout import ALIGNMENT, BLOCK_MAGIC, PAGE_DTYPE, block_header_nbytes, padded
from recordio.format.schema import Schema
from recordio.format.shard_table import starts_of
from recordio.reader.open_shard import check_stored
from recordio.salvage.copies import Claim
from recordio.storage.base import File

_CHUNK = 4 << 20  # a multiple of ALIGNMENT
_AHEAD_NBYTES = 16 << 20
_SECTOR = 4096
_MAGIC = np.frombuffer(BLOCK_MAGIC, np.uint64)[0]


def found_blocks(file: File, shard: Claim, schema: Schema) -> Iterator[BlockHeader]:
    """The headers of the blocks in a file of a shard, without its index. Their pages may be damaged or cut off."""
    nbytes = block_header_nbytes(len(schema))
    offset, number = 0, 0
    while (offset := _next_magic(file, offset)) >= 0:
        try:
            header = BlockHeader.decode(file.read(offset, nbytes))
            _require_own(header, offset, shard, schema)
        except (CorruptError, StorageError):
            offset += ALIGNMENT
            continue
        if header.block >= number:
            yield header
            number = header.block + 1
        offset += header.block_nbytes


def _next_magic(file: File, offset: int) -> int:
    """The first multiple of ALIGNMENT from `offset` on where the magic number of a block stands, or -1."""
    words = ALIGNMENT // 8
    step = ALIGNMENT  # blocks mostly follow one another; where they do not, ever more is read at a time
    while offset + ALIGNMENT <= file.nbytes:
        nbytes = min(step, file.nbytes - offset) // ALIGNMENT * ALIGNMENT
        try:
            hits = np.flatnonzero(np.frombuffer(file.read(offset, nbytes), np.uint64)[::words] == _MAGIC)
        except StorageError:  # the disk refuses it; what lies beyond the bad sector may be readable
            step = _SECTOR - offset % _SECTOR
            offset += nbytes if nbytes <= step else 0
            continue
        if len(hits):
            return offset + int(hits[0]) * ALIGNMENT
        offset, step = offset + nbytes, min(8 * step, _CHUNK)
    return -1


def _require_own(header: BlockHeader, offset: int, shard: Claim, schema: Schema) -> None:
    """Raises CorruptError unless the header is that of a block here whose pages can be as it says."""
    if (header.offset, header.dataset_id, header.shard) != (offset, *shard) or len(header.pages) != len(schema):
        raise CorruptError("the header of another block")
    pages = np.array([[(*page, 0) for page in header.pages]], PAGE_DTYPE)
    try:
        check_pages(pages, np.array([header.samples]), schema)
    except RecordIOError as error:
        raise CorruptError(error.fault) from error


def headers_of(index: Index, shard: Claim) -> list[BlockHeader]:
    """The headers of all blocks, as an index says them."""
    first = starts_of(index.samples).tolist()
    columns = [index.pages[name].tolist() for name in ("stored_nbytes", "nbytes", "checksum", "codec")]
    places = zip(index.block_offsets.tolist(), index.samples.tolist(), *columns, strict=True)
    return [
        BlockHeader(*shard, block, offset, first[block], samples, tuple(map(PageEntry, *pages)))
        for block, (offset, samples, *pages) in enumerate(places)
    ]


def asked_for(file: File, headers: Sequence[BlockHeader]) -> Iterator[BlockHeader]:
    """The same headers, once the system was asked to read the blocks ahead, some MiB at a time."""
    group: list[BlockHeader] = []
    for header in headers:
        group.append(header)
        if sum(one.block_nbytes for one in group) >= _AHEAD_NBYTES or header is headers[-1]:
            file.will_need([(one.offset, one.block_nbytes) for one in group])
            yield from group
            group = []


def read_block(file: File, header: BlockHeader, schema: Schema) -> memoryview:
    """The bytes of a block, everything in them compared, and its pages decoded. Raises CorruptError, StorageError."""
    where = {"file": file.name, "block": header.block}
    try:
        data = memoryview(file.read(header.offset, header.block_nbytes))
    except RecordIOError as error:
        raise error.at(**where)
    if data[: header.nbytes] != header.encode():
        raise CorruptError("the block header is not the one expected").at(**where, byte=header.offset)
    at = header.nbytes
    for (name, field), page in zip(schema.items(), header.pages, strict=True):
        stored = data[at : at + int(padded(page.stored_nbytes))]
        content = stored[: page.stored_nbytes]
        try:
            check_stored("always", field, header.samples, stored, content, page.checksum, page.codec)
            if page.codec != Codec.PLAIN:
                decode_page(page.codec, field, header.samples, content, page.nbytes)
        except CorruptError as error:
            raise error.at(**where, field=name, byte=header.offset + at)
        at += len(stored)
    return data
