"""Protobuf messages and TFRecord framing for tests, written without a library."""

from __future__ import annotations

import struct

from recordio.writer.sources.records.crc32c import masked, short_crc32c


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def message(*fields: tuple[int, bytes | int]) -> bytes:
    """Fields by number: integers as varints, bytes with their length."""
    return b"".join(
        varint(number << 3) + varint(value)
        if isinstance(value, int)
        else varint(number << 3 | 2) + varint(len(value)) + value
        for number, value in fields
    )


def record(data: bytes, says: int | None = None) -> bytes:
    """A TFRecord; `says` is the length that it claims."""
    length = struct.pack("<Q", len(data) if says is None else says)
    checksums = [struct.pack("<I", masked(short_crc32c(part))) for part in (length, data)]
    return length + checksums[0] + data + checksums[1]
