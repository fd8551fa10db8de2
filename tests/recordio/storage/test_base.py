"""Reads of several ranges: exact, in order, near ranges together."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from recordio import CorruptError, StorageError
from recordio.storage.base import Range, coalesced
from recordio.storage.memory import MemoryFile
from tests.effort import examples

DATA = bytes(range(256)) * 400  # 102,400 bytes
GAP = 16 << 10


class CountingFile(MemoryFile):
    """Records its reads."""

    def __init__(self, data: bytes = DATA) -> None:
        super().__init__("file", data)
        self.reads: list[Range] = []

    def _read(self, offset: int, nbytes: int) -> bytes:
        self.reads.append((offset, nbytes))
        return super()._read(offset, nbytes)


RANGES = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 60)), max_size=12)


@examples(200)
@given(RANGES, st.integers(0, 40))
def test_coalesced_reads_cover_every_range_once(ranges: list[Range], gap: int) -> None:
    reads = coalesced(ranges, gap)
    assert sorted(k for _, _, members in reads for k in members) == list(range(len(ranges)))
    for start, end, members in reads:
        assert start == min(ranges[k][0] for k in members)
        assert end == max(sum(ranges[k]) for k in members)
    for (_, end, _), (start, _, _) in pairwise(reads):
        assert start > end + gap


@pytest.mark.parametrize(
    ("ranges", "reads"),
    [
        ([], []),
        ([(5, 3)], [(5, 8, [0])]),
        ([(0, 4), (4, 4)], [(0, 8, [0, 1])]),
        ([(0, 4), (14, 4)], [(0, 18, [0, 1])]),
        ([(0, 4), (15, 4)], [(0, 4, [0]), (15, 19, [1])]),
        ([(15, 4), (0, 4)], [(0, 4, [1]), (15, 19, [0])]),
        ([(0, 20), (2, 3), (25, 1)], [(0, 26, [0, 1, 2])]),
        ([(3, 3), (3, 3)], [(3, 6, [0, 1])]),
        ([(30, 0), (0, 0)], [(0, 0, [1]), (30, 30, [0])]),
    ],
)
def test_coalesced_joins_ranges_up_to_the_gap(ranges: list[Range], reads: list[tuple[int, int, list[int]]]) -> None:
    assert coalesced(ranges, gap=10) == reads


@examples(200)
@given(st.lists(st.tuples(st.integers(0, len(DATA)), st.integers(0, 5000)), max_size=8))
def test_read_ranges_returns_the_bytes_of_each_range_in_order(ranges: list[Range]) -> None:
    ranges = [(offset, min(nbytes, len(DATA) - offset)) for offset, nbytes in ranges]
    found = CountingFile().read_ranges(ranges)
    assert [bytes(part) for part in found] == [DATA[offset : offset + nbytes] for offset, nbytes in ranges]


@pytest.mark.parametrize(
    ("ranges", "reads"),
    [
        ([], []),
        ([(0, 100), (100 + GAP, 50)], [(0, 150 + GAP)]),
        ([(0, 100), (101 + GAP, 50)], [(0, 100), (101 + GAP, 50)]),
        ([(101 + GAP, 50), (0, 100)], [(0, 100), (101 + GAP, 50)]),
        ([(500, 10), (505, 20), (500, 10)], [(500, 25)]),
    ],
)
def test_read_ranges_reads_near_ranges_together(ranges: list[Range], reads: list[Range]) -> None:
    file = CountingFile()
    file.read_ranges(ranges)
    assert file.reads == reads


@pytest.mark.parametrize("ranges", [[(len(DATA) - 5, 6)], [(len(DATA) + 1, 1)], [(0, 8), (len(DATA), 1)]])
def test_read_ranges_past_the_end_is_a_corrupt_error(ranges: list[Range]) -> None:
    with pytest.raises(CorruptError, match="the file was cut") as caught:
        CountingFile().read_ranges(ranges)
    assert caught.value.place.file == "file"


@pytest.mark.parametrize("ranges", [[(-1, 4)], [(4, -1)], [(-4, 8), (2, 2)]])
def test_read_ranges_refuses_negative_ranges(ranges: list[Range]) -> None:
    file = CountingFile()
    with pytest.raises(StorageError, match="negative"):
        file.read_ranges(ranges)
    assert file.reads == []


@pytest.mark.parametrize(("offset", "nbytes"), [(-1, 1), (-4, 8), (0, -1), (2, -1), (-1, 0)])
def test_read_refuses_a_negative_offset_or_length(offset: int, nbytes: int) -> None:
    with pytest.raises(StorageError, match="negative") as caught:
        CountingFile().read(offset, nbytes)
    assert caught.value.place.file == "file"
