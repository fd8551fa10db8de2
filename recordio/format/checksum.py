"""The checksums of the format: XXH3, 64 bits for places, 128 bits for identities.

XXH3 runs at the speed of memory (docs/design.md has the figures beside CRC-32C, BLAKE3 and SHA-256) and lets go of the
GIL on large buffers. It finds accidents of every kind; it is no signature: who can write a shard can write its
checksums.
"""

from __future__ import annotations

from collections.abc import Iterable

import xxhash

from recordio.errors import CorruptError

Buffer = bytes | bytearray | memoryview


def checksum(*parts: Buffer) -> int:
    """XXH3-64 with seed 0 of the parts, one after the other."""
    if len(parts) == 1:
        return xxhash.xxh3_64_intdigest(parts[0])
    state = xxhash.xxh3_64()
    for part in parts:
        state.update(part)
    return state.intdigest()


def digest(parts: Iterable[Buffer]) -> bytes:
    """XXH3-128 with seed 0 of the parts, 16 bytes, most significant first."""
    state = xxhash.xxh3_128()
    for part in parts:
        state.update(part)
    return state.digest()


def require(what: str, stored: int, computed: int) -> None:
    """Raises CorruptError when the two differ."""
    if stored != computed:
        raise CorruptError(f"{what} checksum mismatch: stored {stored:#018x}, computed {computed:#018x}")
