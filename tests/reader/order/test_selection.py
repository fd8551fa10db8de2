"""A selection of any view is the plain table of its samples by block, and an ascending one makes no table."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tests.plain_order as plain
from recordio.reader.order import selection as module
from recordio.reader.order.blocks import Blocks
from recordio.reader.order.ranks import RankShare, window_plans
from recordio.reader.order.selection import selection_of
from recordio.reader.order.shuffle import OrderOptions, order_of
from tests.effort import examples
from tests.epochs import View, blocks_of, orders, shapes, views


@examples(500)
@given(st.data(), shapes(), st.randoms(use_true_random=False), st.sampled_from(["uint8", "uint32", "int64"]))
def test_selection_is_the_plain_table(data: st.DataObject, shape: plain.Blocks, random: Any, dtype: str) -> None:
    view: View = data.draw(views(shape.samples))
    numbers, first = view if isinstance(view, range) else np.array(view, dtype), blocks_of(shape).first
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", 7)
        found = selection_of(first, numbers)
    table = plain.selection_of(shape, view)
    filled = [block for block, indices in enumerate(table) if indices]
    ranks = list(range(len(found)))
    assert found.blocks_at(np.arange(len(found))).tolist() == filled
    random.shuffle(ranks)
    begins, ends = found.bounds(np.array(ranks, np.int64))
    assert (ends - begins).tolist() == [len(table[filled[rank]]) for rank in ranks]
    want = [(slot, index) for slot, rank in enumerate(ranks) for index in table[filled[rank]]]
    chosen = random.sample(range(len(want)), len(want) // 2 + len(want) % 2)
    asked = np.array(ranks, np.int64)
    slot, row, index = found.find(asked, found.bounds(asked), np.array(chosen, np.int64))
    assert [(int(s), int(i)) for s, i in zip(slot, index, strict=True)] == [want[k] for k in chosen]
    assert [first[filled[ranks[s]]] + r for s, r in zip(slot, row, strict=True)] == [view[i] for i in index]


def test_all_samples_of_one_block() -> None:
    first = np.array([0, 4, 8, 12])
    for view in ([5, 6, 7], [6, 6], [7, 5, 4], [4]):
        found = selection_of(first, np.array(view))
        assert found.blocks_at(np.arange(len(found))).tolist() == [1]
        _, row, index = found.find(np.array([0]), found.bounds(np.array([0])), np.arange(len(view)))
        assert index.tolist() == list(range(len(view)))
        assert (row + 4).tolist() == view


@examples(200)
@given(st.data(), shapes(), orders(shuffle=False))
def test_ascending_view_in_order_loads_each_block_once(
    data: st.DataObject, shape: plain.Blocks, options: OrderOptions
) -> None:
    view = sorted(data.draw(views(shape.samples)))
    share = RankShare(rank=0, world=1, start=0, stop=len(view))
    plans = window_plans(order_of(blocks_of(shape), np.array(view, np.int64), options, 3), share)
    loaded = [block for plan in plans for block in plan.blocks.tolist()]
    assert loaded == [block for block, indices in enumerate(plain.selection_of(shape, view)) if indices]


N, BLOCKS = 1_000_000, 1_000
UNIFORM = Blocks(np.arange(BLOCKS + 1) * (N // BLOCKS), np.full(BLOCKS, 100_000), np.array([0, BLOCKS]))
NINE_TENTHS = np.flatnonzero(np.random.default_rng(3).random(N) < 0.9)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    ("view", "limit"),
    [
        (NINE_TENTHS, N // 2),
        (NINE_TENTHS.astype(np.uint32), N // 2),
        (np.sort(np.random.default_rng(3).integers(0, N, N)), N // 2),
        (range(0, N, 2), N // 2),
        (range(N)[::-1], 12 * N),
        (np.random.default_rng(3).permutation(N), 12 * N),
    ],
    ids=["split", "narrow", "repeats", "step", "descending", "any"],
)
def test_memory_that_an_order_takes(view: Any, limit: int, shuffle: bool) -> None:
    """An ascending view makes no table of its samples; any other one makes one of 8 bytes a sample, in 12."""
    tracemalloc.start()
    try:
        order_of(UNIFORM, view, OrderOptions(shuffle), 3)
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()
