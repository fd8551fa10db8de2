"""The header with which shards and files of parity begin: the dataset, a number and a JSON, under one checksum."""

from __future__ import annotations

from recordio.errors import CorruptError, UnsupportedError
from recordio.format.checksum import Buffer, checksum, require
from recordio.format.layout import (
    CHECKSUM,
    HEADER,
    KNOWN_REQUIRED_FEATURES,
    MAX_HEADER_JSON_NBYTES,
    PARITY_MAGIC,
    SHARD_MAGIC,
    VERSION,
    padded,
)

_KINDS = {SHARD_MAGIC: "shard", PARITY_MAGIC: "parity"}


def refuse_unknown(version: int, required: int, what: str) -> None:
    """Raises UnsupportedError for what this reader does not know."""
    if version != VERSION:
        raise UnsupportedError(f"format version {version}: this reader knows version {VERSION}")
    if unknown := required & ~KNOWN_REQUIRED_FEATURES:
        raise UnsupportedError(f"the {what} needs features {unknown:#x} that this reader does not have")


def encode_header(magic: bytes, dataset_id: bytes, number: int, text: bytes) -> bytes:
    """The header of a file of this kind, with this JSON."""
    nbytes = padded(HEADER.size + len(text) + CHECKSUM.size)
    fixed = HEADER.pack(magic, VERSION, nbytes, 0, 0, dataset_id, number, len(text))
    out = (fixed + text).ljust(nbytes - CHECKSUM.size, b"\0")
    return out + CHECKSUM.pack(checksum(out))


def header_nbytes(magic: bytes, start: Buffer) -> int:
    """The length of a header, from its first HEADER.size bytes. Raises CorruptError, UnsupportedError."""
    what = _KINDS[magic]
    if len(start) < HEADER.size or bytes(start[:8]) != magic:
        raise CorruptError(f"not a recordio {what}: the magic number is missing")
    _, version, nbytes, _, required, _, _, text_nbytes = HEADER.unpack_from(start)
    refuse_unknown(version, required, what)
    if text_nbytes > MAX_HEADER_JSON_NBYTES or nbytes != padded(HEADER.size + text_nbytes + CHECKSUM.size):
        raise CorruptError(f"{what} header of {nbytes} bytes with {text_nbytes} bytes of JSON")
    return int(nbytes)


def decode_header(magic: bytes, data: Buffer) -> tuple[bytes, int, bytes]:
    """The dataset id, the number and the JSON, after checking the checksum. More bytes may follow the header.

    Raises CorruptError, UnsupportedError.
    """
    nbytes, what = header_nbytes(magic, data), _KINDS[magic]
    if len(data) < nbytes:
        raise CorruptError(f"{what} header cut short: {len(data)} of {nbytes} bytes")
    (stored,) = CHECKSUM.unpack_from(data, nbytes - CHECKSUM.size)
    require(f"{what} header", stored, checksum(data[: nbytes - CHECKSUM.size]))
    *_, dataset_id, number, text_nbytes = HEADER.unpack_from(data)
    return dataset_id, number, bytes(data[HEADER.size : HEADER.size + text_nbytes])
