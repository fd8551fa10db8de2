"""The footers of many shards at once: none passes that would be refused alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recordio.format.checksum import checksum
from recordio.format.footers import matching_footers
from recordio.format.layout import CHECKSUM, FOOTER, FOOTER_DTYPE, FOOTER_MAGIC, VERSION, index_dtype, padded
from recordio.format.shard import Footer
from recordio.format.shard_table import ShardEntry, ShardTable

ID = bytes(range(16))
FIELDS = 3


def entry(number: int, blocks: int) -> ShardEntry:
    nbytes = 64 * 1000 + number * 64
    return ShardEntry(number, nbytes, 2 * blocks, 8, bytes([number]) * 16, ((2, blocks),) if blocks else ())


TABLE = ShardTable.of([entry(3, 5), entry(0, 0), entry(200, 1)])


def footer(of: ShardEntry) -> Footer:
    index_nbytes = padded(of.blocks * index_dtype(FIELDS).itemsize)
    offset = of.nbytes - index_nbytes - FOOTER.size
    return Footer(ID, of.number, FIELDS, of.nbytes, offset, index_nbytes, of.samples, of.blocks, of.digest)


TAILS = [footer(one).encode() for one in TABLE]


def resealed(data: bytes) -> bytes:
    return CHECKSUM.pack(checksum(data[CHECKSUM.size :])) + data[CHECKSUM.size :]


def matching(tails: list[bytes]) -> list[bool]:
    found: list[bool] = matching_footers(tails, TABLE, ID, FIELDS).tolist()
    return found


def test_footers_of_the_table_match() -> None:
    assert matching(TAILS) == [True] * 3
    assert matching_footers([], ShardTable.of([]), ID, FIELDS).tolist() == []


def test_footer_dtype_is_the_footer() -> None:
    assert FOOTER_DTYPE.itemsize == FOOTER.size
    (row,) = np.frombuffer(TAILS[0], FOOTER_DTYPE)
    found = Footer.decode(TAILS[0], TABLE[0].nbytes)
    for name in ("number", "fields", "file_nbytes", "index_offset", "index_nbytes", "samples", "blocks"):
        assert row[name] == getattr(found, name)
    assert (row["dataset_id"].tobytes(), row["digest"].tobytes()) == (ID, found.digest)
    assert (row["version"], row["required"], row["magic"].tobytes()) == (VERSION, 0, FOOTER_MAGIC)


@pytest.mark.parametrize("seal", [False, True], ids=["checksum as it was", "checksum recomputed"])
def test_flipped_bit_does_not_match(seal: bool) -> None:
    for bit in range(64 * seal, 8 * FOOTER.size):
        bad = bytearray(TAILS[1])
        bad[bit // 8] ^= 1 << bit % 8
        tail = resealed(bytes(bad)) if seal else bytes(bad)
        assert matching([TAILS[0], tail, TAILS[2]]) == [True, False, True]


def test_swapped_cut_long_and_missing_tails_do_not_match() -> None:
    assert matching([TAILS[2], TAILS[1], TAILS[0]]) == [False, True, False]
    assert matching([TAILS[0][:-1], TAILS[1] + b"\0", b""]) == [False] * 3


def test_footers_of_another_dataset_or_schema_do_not_match() -> None:
    assert not matching_footers(TAILS, TABLE, bytes(16), FIELDS).any()
    assert not matching_footers(TAILS, TABLE, ID, FIELDS + 1)[[0, 2]].any()


def test_index_that_is_too_large_for_a_number_does_not_match() -> None:
    """The length of the index is that of the footer modulo 2^64."""
    fields, blocks = 4096, 1 << 50
    nbytes = padded(blocks * index_dtype(fields).itemsize) % (1 << 64) + (1 << 61)
    huge = ShardEntry(0, nbytes, blocks, 8, bytes(16), ((1, blocks),))
    index_nbytes = padded(blocks * index_dtype(fields).itemsize) % (1 << 64)
    lie = Footer(ID, 0, fields, nbytes, nbytes - index_nbytes - FOOTER.size, index_nbytes, blocks, blocks, bytes(16))
    assert not matching_footers([lie.encode()], ShardTable.of([huge]), ID, fields).any()
    honest = replace(huge, runs=((1, 1),), samples=1, nbytes=1 << 20)
    index_nbytes = padded(index_dtype(fields).itemsize)
    good = Footer(ID, 0, fields, 1 << 20, (1 << 20) - index_nbytes - FOOTER.size, index_nbytes, 1, 1, bytes(16))
    assert matching_footers([good.encode()], ShardTable.of([honest]), ID, fields).all()
