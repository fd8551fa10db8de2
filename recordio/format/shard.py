"""A shard file: header, blocks, index, footer.

    shard  := header block* index footer
    header := fixed part, JSON (schema and metadata), padding, checksum
    index  := the location of every page (index.py)
    footer := 128 bytes: identity of the shard, location of its index, digest of the shard

The digest covers the header's checksum and the index with the checksums of all pages and block headers, and so every
byte before it. The manifest repeats the digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from recordio.errors import CorruptError, SchemaError
from recordio.format import strict_json
from recordio.format.checksum import Buffer, checksum, digest, require
from recordio.format.header import decode_header, encode_header, header_nbytes, refuse_unknown
from recordio.format.layout import (
    CHECKSUM,
    FOOTER,
    FOOTER_MAGIC,
    MAX_FIELDS,
    MAX_HEADER_JSON_NBYTES,
    SHARD_MAGIC,
    VERSION,
    index_dtype,
    padded,
)
from recordio.format.schema import Schema


def shard_digest(header: Buffer, index: Buffer) -> bytes:
    """The digest of a shard, over its header's checksum and its index; together they cover every byte before them."""
    return digest([header[-CHECKSUM.size :], index])


@dataclass(frozen=True)
class ShardHeader:
    """Identity, schema and metadata of a shard. `metadata` is any JSON object."""

    dataset_id: bytes
    number: int
    schema: Schema
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Raises SchemaError."""
        text = self.text()
        if len(text) > MAX_HEADER_JSON_NBYTES:
            raise SchemaError(f"schema and metadata take {len(text)} bytes, over the limit of {MAX_HEADER_JSON_NBYTES}")
        return self.encode_text(self.dataset_id, self.number, text)

    def text(self) -> bytes:
        """The header's JSON. Raises SchemaError."""
        body = {"metadata": self.metadata, "schema": self.schema.to_json()}
        try:
            return json.dumps(body, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        except (TypeError, ValueError, RecursionError) as error:
            raise SchemaError(f"the metadata is not JSON: {error}") from error

    @staticmethod
    def encode_text(dataset_id: bytes, number: int, text: bytes) -> bytes:
        """The header with this JSON."""
        return encode_header(SHARD_MAGIC, dataset_id, number, text)

    @staticmethod
    def nbytes(start: Buffer) -> int:
        """The length of a header, from its first HEADER.size bytes. Raises CorruptError, UnsupportedError."""
        return header_nbytes(SHARD_MAGIC, start)

    @staticmethod
    def decode_fixed(data: Buffer) -> tuple[bytes, int, bytes]:
        """The dataset id, the shard number and the JSON, after checking the checksum. More bytes may follow the header.

        Raises CorruptError, UnsupportedError.
        """
        return decode_header(SHARD_MAGIC, data)

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """From the first bytes of a shard; more may follow. Raises CorruptError, UnsupportedError."""
        dataset_id, number, text = cls.decode_fixed(data)
        body = strict_json.loads(text, "shard header")
        if not isinstance(body, dict) or not isinstance(body.get("metadata"), dict):
            raise CorruptError("the shard header's JSON has no schema and metadata")
        return cls(dataset_id, number, Schema.from_json(body.get("schema")), body["metadata"])


class Footer(NamedTuple):
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

    @classmethod
    def meant(
        cls, dataset_id: bytes, fields: int, number: int, nbytes: int, samples: int, blocks: int, digest: bytes
    ) -> Self:
        """The footer of the shard of which a manifest says this: its index ends where the footer begins."""
        index_nbytes = padded(blocks * index_dtype(fields).itemsize)
        offset = nbytes - FOOTER.size - index_nbytes
        return cls(dataset_id, number, fields, nbytes, offset, index_nbytes, samples, blocks, digest)

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
        refuse_unknown(version, required, "shard")
        if not 0 < fields <= MAX_FIELDS:
            raise CorruptError(f"the footer says {fields} fields: expected 1 to {MAX_FIELDS}")
        if stated_nbytes != file_nbytes or index_offset + index_nbytes + FOOTER.size != file_nbytes:
            raise CorruptError(f"the shard has {file_nbytes} bytes, its footer says {stated_nbytes}")
        if index_nbytes != padded(blocks * index_dtype(fields).itemsize):
            raise CorruptError(f"an index of {index_nbytes} bytes does not fit {blocks} blocks of {fields} fields")
        return cls(dataset_id, number, fields, file_nbytes, index_offset, index_nbytes, samples, blocks, digest)
