"""The numbers of the format: magics, sizes, limits, struct formats. No behaviour beyond rounding up.

FORMAT.md is the specification; `tests/recordio/format/test_format.py` checks this file against its tables.
Everything is little-endian. Every structure in a shard starts at a multiple of ALIGNMENT; zero bytes fill the gaps.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

VERSION = 1
ALIGNMENT = 64

SHARD_MAGIC = b"\x89RIO\r\n\x1a\n"
BLOCK_MAGIC = b"\x89RIOBLK\n"
FOOTER_MAGIC = b"\x89RIOEND\n"
PARITY_MAGIC = b"\x89RIOPAR\n"

# Feature bits known to this version. A reader ignores unknown compatible bits and refuses unknown required ones.
KNOWN_REQUIRED_FEATURES = 0
PARITY_FEATURE = 1  # compatible: the manifest names parity files

# magic, version, header_nbytes, compatible features, required features, dataset id, shard number, json_nbytes
HEADER = struct.Struct("<8sIIQQ16sQQ")
# magic, dataset id, shard number, block number, offset in the file, first sample, samples, fields
BLOCK_HEADER = struct.Struct("<8s16sQQQQII")
# stored_nbytes, nbytes, checksum, codec, reserved
PAGE_ENTRY = struct.Struct("<QQQII")
# checksum, dataset id, shard number, version, fields, compatible, required, file_nbytes, index_offset, index_nbytes,
# samples, blocks, index digest, reserved, magic
FOOTER = struct.Struct("<Q16sQIIQQQQQQQ16s8s8s")
CHECKSUM = struct.Struct("<Q")
# digest, file_nbytes, checksum
PARITY_END = struct.Struct("<16sQQ")

PAGE_DTYPE = np.dtype(
    [("stored_nbytes", "<u8"), ("nbytes", "<u8"), ("checksum", "<u8"), ("codec", "<u4"), ("reserved", "<u4")]
)
FOOTER_DTYPE = np.dtype(
    [("checksum", "<u8"), ("dataset_id", "u1", 16), ("number", "<u8"), ("version", "<u4"), ("fields", "<u4")]
    + [(name, "<u8") for name in ("compatible", "required", "file_nbytes", "index_offset", "index_nbytes")]
    + [("samples", "<u8"), ("blocks", "<u8"), ("digest", "u1", 16), ("reserved", "u1", 8), ("magic", "u1", 8)]
)

MAX_FIELDS = 4096
MAX_NAME_NBYTES = 255
MAX_ROW_NBYTES = 1 << 38  # times MAX_BLOCK_SAMPLES it still fits in 63 bits
MAX_BLOCK_SAMPLES = 1 << 24
MAX_HEADER_JSON_NBYTES = 1 << 26
MAX_MANIFEST_NBYTES = 1 << 30
PARITY_PIECE_NBYTES = 1 << 18  # of the parity, under one checksum
MAX_CODED_PAGE_NBYTES = 1 << 28  # larger pages are stored plain, so no frame may ask for more memory


@lru_cache(256)
def index_dtype(fields: int) -> np.dtype[np.void]:
    """A row of the index: the samples of a block, the checksum of its header, an entry per page."""
    return np.dtype([("samples", "<u8"), ("checksum", "<u8"), ("pages", PAGE_DTYPE, (fields,))])


def padded(nbytes: Any) -> Any:
    """Rounds up to a multiple of ALIGNMENT, for numbers and arrays."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def padding(nbytes: int) -> bytes:
    """The zero bytes that pad `nbytes` bytes."""
    return bytes(-nbytes % ALIGNMENT)


def block_header_nbytes(fields: int) -> int:
    """Bytes of a block header: fixed part, an entry per page, padding, and the checksum in the last 8 bytes."""
    return int(padded(BLOCK_HEADER.size + PAGE_ENTRY.size * fields + CHECKSUM.size))
