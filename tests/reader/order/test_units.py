"""Units are begun once, with all their blocks, whatever order their blocks are needed in."""

from __future__ import annotations

import numpy as np
import pytest

from recordio.reader.order.blocks import Blocks
from recordio.reader.order.units import WholeUnits, are_among, ascending, neighbours

ROWS, NBYTES = 10, 1000
TABLE = Blocks(np.arange(0, 40 * ROWS + 1, ROWS), np.full(40, NBYTES), np.array([0, 17, 40]))  # of two shards


def units(view: range | None = None, unit_bytes: int = 4 * NBYTES) -> WholeUnits:
    return WholeUnits(TABLE, range(40 * ROWS) if view is None else view, unit_bytes)


def begun(found: WholeUnits, *blocks: int) -> list[int]:
    new = found.begun_by(np.array(blocks, np.int64))
    found.begin(new)
    return new.tolist()


def test_each_unit_is_begun_once() -> None:
    found = units()
    assert begun(found, 5, 18) == [4, 5, 6, 7, 17, 18, 19, 20]
    assert begun(found, 6, 20) == []
    assert begun(found, 6, 16, 21) == [16, 21, 22, 23, 24]  # no unit goes from one shard into the next
    assert begun(found) == []


def test_only_blocks_of_the_view_are_begun() -> None:
    found = units(range(5 * ROWS, 7 * ROWS + 1))
    assert begun(found, 6) == [5, 6, 7]


@pytest.mark.parametrize("unit_bytes", [1, 1500, 4000, 10**9])
def test_an_epoch_begins_every_block_once(unit_bytes: int) -> None:
    found = units(unit_bytes=unit_bytes)
    windows = np.random.default_rng(0).permutation(40).reshape(8, 5)
    assert sorted(block for window in windows for block in begun(found, *sorted(window))) == list(range(40))


def beside(some: list[int], others: list[int], nbytes: int = 4 * NBYTES) -> list[int]:
    return neighbours(np.array(some), np.array(others, np.int64), TABLE, nbytes).tolist()


def test_neighbours_are_those_of_a_piece_of_a_run() -> None:
    assert beside([5], [1, 2, 3, 4, 6, 7, 8, 20]) == [6, 7, 8]
    assert beside([4], [1, 2, 3, 5, 6, 7, 8, 20]) == [1, 2, 3]
    assert beside([5], [3, 7]) == []
    assert beside([5, 7], [6, 20]) == [6]
    assert beside([5, 30], []) == []


def test_neighbours_are_of_one_shard() -> None:
    assert beside([16], [14, 15, 17, 18]) == [14, 15]
    assert beside([17], [14, 15, 16, 18]) == [18]


def test_a_block_above_the_size_of_a_piece_has_no_neighbours() -> None:
    assert beside([5], [4, 6], nbytes=NBYTES // 2) == []


def test_which_blocks_are_among_others() -> None:
    some = np.array([0, 3, 5, 9])
    assert are_among(some, np.array([3, 4, 9])).tolist() == [False, True, False, True]
    assert are_among(some, np.array([], np.int64)).tolist() == [False] * 4
    assert are_among(some[:0], some).tolist() == []


def test_distinct_blocks_ascend() -> None:
    assert ascending(np.array([5, 0, 5, 2])).tolist() == [0, 2, 5]
    assert ascending(np.array([], np.int64)).tolist() == []
