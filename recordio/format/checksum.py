"""The checksums of the format: XXH3, with 64 bits for structures and pages, 128 bits for identities.

XXH3 runs at memory speed (docs/design.md compares CRC-32C, BLAKE3 and SHA-256) and releases the GIL on large buffers.
It detects accidental damage of every kind; it is not a signature: whoever can write a shard can write its checksums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import xxhash

from recordio.errors import CorruptError

Buffer = bytes | bytearray | memoryview

checksum_of: Callable[[Buffer], int] = xxhash.xxh3_64_intdigest  # `checksum` of one part, at half the cost of a call


def checksum(*parts: Buffer) -> int:
    """XXH3-64 with seed 0 of the concatenated parts."""
    if len(parts) == 1:
        return checksum_of(parts[0])
    state = xxhash.xxh3_64()
    for part in parts:
        state.update(part)
    return state.intdigest()


def digest(parts: Iterable[Buffer]) -> bytes:
    """XXH3-128 with seed 0 of the concatenated parts: 16 bytes, big-endian."""
    state = xxhash.xxh3_128()
    for part in parts:
        state.update(part)
    return state.digest()


def require(what: str, stored: int, computed: int) -> None:
    """Raises CorruptError if the two differ."""
    if stored != computed:
        raise CorruptError(f"{what} checksum mismatch: stored {stored:#018x}, computed {computed:#018x}")
