"""Units are begun once, with all their blocks, whatever order their blocks are needed in."""

from __future__ import annotations

import numpy as np
import pytest

from recordio.reader.order.blocks import Blocks
from recordio.reader.order.units import WholeUnits

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
