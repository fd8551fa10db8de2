"""CRC-32C as TFRecord files have it: rotated and offset, so that a checksum of data with checksums in it stays good."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from recordio.packages import optional

_MASK_DELTA = 0xA282EAD8


def masked_crc32c(data: bytes) -> int:
    """The masked CRC-32C. Raises MissingPackageError without the extra tfrecord."""
    return masked(_library()(data))


def masked(crc: int) -> int:
    """https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/lib/hash/crc32c.h"""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def short_crc32c(data: bytes) -> int:
    """The unmasked CRC-32C of a few bytes, without a package: some microseconds a byte."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@cache
def _library() -> Callable[[bytes], int]:
    found: Callable[[bytes], int] = optional("google_crc32c", "TFRecord files", "tfrecord").value
    return found
