"""A shard file: header, blocks, index, footer.

    shard  := header block* index footer
    header := fixed part, JSON (schema and metadata), padding, checksum
    index  := for each block its samples, the checksum of its header, and its page entries; padding
    footer := 128 bytes: identity of the shard, location of its index, digest of the shard

The index holds no offsets: blocks and pages follow each other without gaps, so offsets are sums of sizes, and holes or
overlaps cannot be expressed. The digest covers the header's checksum and the index with the checksums of all pages and
block headers, and so every byte before it. The manifest repeats the digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from recordio.errors import CorruptError, SchemaError, UnsupportedError
from recordio.format import strict_json
from recordio.format.block import PageEntry
from recordio.format.checksum import Buffer, checksum, digest, require
from recordio.format.codec import Codec
from recordio.format.layout import (
    ALIGNMENT,
    CHECKSUM,
    FOOTER,
    FOOTER_MAGIC,
    HEADER,
    KNOWN_REQUIRED_FEATURES,
    MAX_BLOCK_SAMPLES,
    MAX_CODED_PAGE_NBYTES,
    MAX_FIELDS,
    MAX_HEADER_JSON_NBYTES,
    SHARD_MAGIC,
    VERSION,
    block_header_nbytes,
    index_dtype,
    padded,
    padding,
)
from recordio.format.page import least_nbytes
from recordio.format.schema import Schema

Counts = npt.NDArray[np.int64]
_PLAIN, _LAST_CODEC = int(Codec.PLAIN), int(max(Codec))  # a member of an enum costs as much as the comparison


def shard_digest(header: Buffer, index: Buffer) -> bytes:
    """The digest of a shard, over its header's checksum and its index; together they cover every byte before them."""
    return digest([header[-CHECKSUM.size :], index])


def _refuse_unknown(version: int, required: int) -> None:
    if version != VERSION:
        raise UnsupportedError(f"format version {version}: this reader knows version {VERSION}")
    if unknown := required & ~KNOWN_REQUIRED_FEATURES:
        raise UnsupportedError(f"the shard needs features {unknown:#x} that this reader does not have")


@dataclass(frozen=True)
class ShardHeader:
    """Identity, schema and metadata of a shard. `metadata` is any JSON object."""

    dataset_id: bytes
    number: int
    schema: Schema
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        body = {"metadata": self.metadata, "schema": self.schema.to_json()}
        try:
            text = json.dumps(body, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        except (TypeError, ValueError, RecursionError) as error:
            raise SchemaError(f"the metadata is not JSON: {error}") from error
        if len(text) > MAX_HEADER_JSON_NBYTES:
            raise SchemaError(f"schema and metadata take {len(text)} bytes, over the limit of {MAX_HEADER_JSON_NBYTES}")
        nbytes = padded(HEADER.size + len(text) + CHECKSUM.size)
        fixed = HEADER.pack(SHARD_MAGIC, VERSION, nbytes, 0, 0, self.dataset_id, self.number, len(text))
        out = (fixed + text).ljust(nbytes - CHECKSUM.size, b"\0")
        return out + CHECKSUM.pack(checksum(out))

    @staticmethod
    def nbytes(start: Buffer) -> int:
        """The length of a header, from its first HEADER.size bytes. Raises CorruptError, UnsupportedError."""
        if len(start) < HEADER.size or bytes(start[:8]) != SHARD_MAGIC:
            raise CorruptError("not a recordio shard: the magic number is missing")
        _, version, nbytes, _, required, _, _, text_nbytes = HEADER.unpack_from(start)
        _refuse_unknown(version, required)
        if text_nbytes > MAX_HEADER_JSON_NBYTES or nbytes != padded(HEADER.size + text_nbytes + CHECKSUM.size):
            raise CorruptError(f"shard header of {nbytes} bytes with {text_nbytes} bytes of JSON")
        return int(nbytes)

    @classmethod
    def decode_fixed(cls, data: Buffer) -> tuple[bytes, int, bytes]:
        """The dataset id, the shard number and the JSON, after checking the checksum. More bytes may follow the header.

        Raises CorruptError, UnsupportedError.
        """
        nbytes = cls.nbytes(data)
        if len(data) < nbytes:
            raise CorruptError(f"shard header cut short: {len(data)} of {nbytes} bytes")
        (stored,) = CHECKSUM.unpack_from(data, nbytes - CHECKSUM.size)
        require("shard header", stored, checksum(data[: nbytes - CHECKSUM.size]))
        *_, dataset_id, number, text_nbytes = HEADER.unpack_from(data)
        return dataset_id, number, bytes(data[HEADER.size : HEADER.size + text_nbytes])

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """From the first bytes of a shard; more may follow. Raises CorruptError, UnsupportedError."""
        dataset_id, number, text = cls.decode_fixed(data)
        body = strict_json.loads(text, "shard header")
        if not isinstance(body, dict) or not isinstance(body.get("metadata"), dict):
            raise CorruptError("the shard header's JSON has no schema and metadata")
        return cls(dataset_id, number, Schema.from_json(body.get("schema")), body["metadata"])


@dataclass(frozen=True)
class Footer:
    """The last bytes of a shard: its identity, its length, the location of its index."""

    dataset_id: bytes
    number: int
    fields: int
    file_nbytes: int
    index_offset: int
    index_nbytes: int
    samples: int
    blocks: int
    digest: bytes

    def encode(self) -> bytes:
        body = FOOTER.pack(
            0, self.dataset_id, self.number, VERSION, self.fields, 0, 0, self.file_nbytes, self.index_offset,
            self.index_nbytes, self.samples, self.blocks, self.digest, bytes(8), FOOTER_MAGIC,
        )[CHECKSUM.size :]  # fmt: skip
        return CHECKSUM.pack(checksum(body)) + body

    @classmethod
    def decode(cls, data: Buffer, file_nbytes: int) -> Self:
        """From the last FOOTER.size bytes of a file of `file_nbytes`. Raises CorruptError, UnsupportedError."""
        if len(data) != FOOTER.size or bytes(data[-8:]) != FOOTER_MAGIC:
            raise CorruptError("the footer is missing: the shard was cut, or never finished")
        (stored, dataset_id, number, version, fields, _, required, stated_nbytes, index_offset, index_nbytes,
         samples, blocks, digest, _, _) = FOOTER.unpack(data)  # fmt: skip
        require("footer", stored, checksum(data[CHECKSUM.size :]))
        _refuse_unknown(version, required)
        if not 0 < fields <= MAX_FIELDS:
            raise CorruptError(f"the footer says {fields} fields: expected 1 to {MAX_FIELDS}")
        if stated_nbytes != file_nbytes or index_offset + index_nbytes + FOOTER.size != file_nbytes:
            raise CorruptError(f"the shard has {file_nbytes} bytes, its footer says {stated_nbytes}")
        if index_nbytes != padded(blocks * index_dtype(fields).itemsize):
            raise CorruptError(f"an index of {index_nbytes} bytes does not fit {blocks} blocks of {fields} fields")
        return cls(dataset_id, number, fields, file_nbytes, index_offset, index_nbytes, samples, blocks, digest)


@dataclass(frozen=True)
class Index:
    """The location of every page in a shard of B blocks and F fields.

    Attributes:
        samples: int64 (B,), samples of each block.
        first: int64 (B + 1,), number within the shard of each block's first sample; the last is the shard's samples.
        checksums: uint64 (B,), checksum of each block's header.
        pages: structured (B, F), fields stored_nbytes, nbytes, checksum, codec.
        block_offsets: int64 (B,), offset of each block's header.
        page_offsets: int64 (B, F), offset of each page.
    """

    samples: Counts
    first: Counts
    checksums: npt.NDArray[np.uint64]
    pages: npt.NDArray[np.void]
    block_offsets: Counts
    page_offsets: Counts

    @property
    def content_nbytes(self) -> int:
        """The decoded size of all pages."""
        return int(self.pages["nbytes"].sum())  # cannot overflow: a page is no larger than its file, or than the limit

    @staticmethod
    def encode(fields: int, rows: Iterable[tuple[int, int, tuple[PageEntry, ...]]]) -> bytes:
        """From (samples, header checksum, page entries) of each block."""
        table = np.array([(n, sum_, [(*page, 0) for page in pages]) for n, sum_, pages in rows], index_dtype(fields))
        data = table.tobytes()
        return data + padding(len(data))

    @classmethod
    def decode(cls, data: Buffer, footer: Footer, header: Buffer, schema: Schema) -> Self:
        """Decodes the index and checks it without reading pages. Raises CorruptError, UnsupportedError."""
        computed = shard_digest(header, data)
        if computed != footer.digest:
            raise CorruptError(
                f"shard digest mismatch: stored {footer.digest.hex()}, computed {computed.hex()} of header and index"
            ).at(byte=footer.index_offset)
        if footer.fields != len(schema):
            raise CorruptError(f"the index has {footer.fields} fields, the schema {len(schema)}")
        table = np.frombuffer(data, index_dtype(footer.fields), footer.blocks)
        _check_counts(table, footer)
        samples = table["samples"].astype(np.int64)
        _check_pages(table["pages"], samples, schema)
        extents = -(-table["pages"]["stored_nbytes"].astype(np.int64) // ALIGNMENT) * ALIGNMENT
        lengths = np.column_stack([np.full(footer.blocks, block_header_nbytes(footer.fields)), extents])
        ends = len(header) + np.cumsum(lengths.ravel()).reshape(lengths.shape)
        if (int(ends[-1, -1]) if footer.blocks else len(header)) != footer.index_offset:
            raise CorruptError("the blocks do not fill the shard from its header to its index")
        first = np.concatenate([[0], np.cumsum(samples)])
        return cls(samples, first, table["checksum"], table["pages"], ends[:, 0] - lengths[:, 0], ends[:, :-1])


def _check_counts(table: npt.NDArray[np.void], footer: Footer) -> None:
    samples, stored = table["samples"], table["pages"]["stored_nbytes"]
    if len(table) and not (1 <= samples.min() and samples.max() <= MAX_BLOCK_SAMPLES):
        raise CorruptError(f"the index has a block of {samples.max()} samples: expected 1 to {MAX_BLOCK_SAMPLES}")
    if int(samples.sum()) != footer.samples:
        raise CorruptError(f"the index counts {int(samples.sum())} samples, the footer {footer.samples}")
    # Summed as floats first: integers could overflow.
    if stored.astype(np.float64).sum() > footer.file_nbytes:
        raise CorruptError("the pages of the index are larger than the shard")


def _check_pages(pages: npt.NDArray[np.void], samples: Counts, schema: Schema) -> None:
    codec, nbytes = pages["codec"], pages["nbytes"]
    plain = codec == _PLAIN
    if codec.size and codec.max() > _LAST_CODEC:
        raise UnsupportedError(f"unknown codec {codec.max()}")
    if (plain & (nbytes != pages["stored_nbytes"])).any() or pages["reserved"].any():
        raise CorruptError("the index has a page entry that contradicts itself")
    if (~plain & (nbytes > MAX_CODED_PAGE_NBYTES)).any():
        raise CorruptError(f"the index has a coded page over the limit of {MAX_CODED_PAGE_NBYTES} bytes")
    for column, (name, kind) in enumerate(schema.items()):
        least = least_nbytes(kind, samples)
        got = nbytes[:, column].astype(np.int64)  # a size from 2^63 turns negative, and is refused as wrong
        wrong = got < least if kind.row_nbytes is None else got != least
        if wrong.any():
            block = int(np.argmax(wrong))
            raise CorruptError(
                f"a page of {samples[block]} samples has {nbytes[block, column]} bytes, expected {least[block]}"
            ).at(block=block, field=name)
