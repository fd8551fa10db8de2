"""What a rank delivers of an epoch: exactly once, equally many, the same global batches, each block once."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, strategies as st

import tests.plain_order as plain
from recordio.reader.order.blocks import Blocks
from recordio.reader.order.ranks import RankShare, window_plans
from recordio.reader.order.shuffle import Order, OrderOptions, order_of
from tests.effort import examples
from tests.epochs import blocks_of, orders, shapes, views

TOTALS, WORLDS, SIZES = st.integers(0, 200), st.integers(1, 12), st.integers(1, 40)


def dealt(order: Order, share: RankShare) -> list[int]:
    """The indices that a rank delivers, in order."""
    return [index for plan in window_plans(order, share) for index in plan.index.tolist()]


def everything(order: Order) -> list[int]:
    return dealt(order, RankShare(rank=0, world=1, start=0, stop=int(order.starts[-1])))


def batches(samples: Sequence[int], size: int) -> list[Sequence[int]]:
    return [samples[k : k + size] for k in range(0, len(samples), size)]


@examples(300)
@given(st.data(), shapes(), st.one_of(orders(), orders(shuffle=False)), WORLDS, SIZES, st.booleans(), st.booleans())
def test_rank_follows_the_document_from_any_position(
    data: st.DataObject, shape: plain.Blocks, options: OrderOptions, world: int, size: int, drop: bool, even: bool
) -> None:
    view = data.draw(st.one_of(st.just(range(shape.samples)), views(shape.samples)))
    numbers = view if isinstance(view, range) else np.array(view, np.int64)
    order = order_of(blocks_of(shape), numbers, options, 7)
    sequence = everything(order)
    start = data.draw(st.integers(0, len(view)))
    for rank in range(world):
        share = RankShare.of(rank, world, start, len(view), size, drop_last=drop, even=even)
        want = list(chain.from_iterable(plain.dealt(len(view), start, rank, world, size, drop_last=drop, even=even)))
        assert dealt(order, share) == [sequence[p] for p in want]
        assert len(share) == len(want)


@examples(300)
@given(st.data(), TOTALS, WORLDS, SIZES, st.booleans(), st.booleans())
def test_ranks_cover_each_position_once_and_repeat_fewer_than_the_world_size(
    data: st.DataObject, total: int, world: int, size: int, drop: bool, even: bool
) -> None:
    start = data.draw(st.integers(0, total))
    counts: Counter[int] = Counter()
    lengths = []
    for rank in range(world):
        share = RankShare.of(rank, world, start, total, size, drop_last=drop, even=even)
        mine = np.flatnonzero(share.mask(np.arange(total))).tolist() + list(share.padding(total))
        assert len(mine) == len(share)
        counts.update(mine)
        lengths.append(len(mine))
    if drop or even:
        assert len(set(lengths)) == 1
    assert max(lengths) - min(lengths) <= 1
    left, repeated = total - start, sum(lengths) - (total - start)
    if drop:
        assert counts == Counter(range(start, start + left // (size * world) * size * world))
    elif even and left:
        assert 0 <= repeated < world
        assert counts == Counter(range(start, total)) + Counter(p % total for p in range(total, total + repeated))
    else:
        assert counts == Counter(range(start, total))


@examples(200)
@given(shapes(), orders(), st.sampled_from([12, 24, 60]), st.data())
def test_global_batch_does_not_depend_on_the_number_of_ranks(
    shape: plain.Blocks, options: OrderOptions, together: int, data: st.DataObject
) -> None:
    order, n = order_of(blocks_of(shape), range(shape.samples), options, 7), shape.samples
    start = data.draw(st.integers(0, n // together)) * together
    want = [sorted(batch) for batch in batches(everything(order)[start:], together)]
    for world in (2, 3, 4, 6, 12):
        found: list[list[int]] = [[] for _ in want]
        for rank in range(world):
            mine = dealt(order, RankShare.of(rank, world, start, n, together // world, drop_last=False, even=False))
            for g, batch in enumerate(batches(mine, together // world)):
                found[g] += batch
        assert [sorted(batch) for batch in found] == want


Run = tuple[int, int, int]  # ranks, batch size, batches before the interruption
RUNS = st.lists(st.tuples(WORLDS, st.integers(1, 9), st.integers(0, 5)), min_size=1, max_size=8)


@examples(300)
@given(shapes(), orders(), RUNS, st.booleans())
def test_epoch_resumed_with_other_ranks_is_exactly_once(
    shape: plain.Blocks, options: OrderOptions, runs: list[Run], even: bool
) -> None:
    order, n = order_of(blocks_of(shape), range(shape.samples), options, 7), shape.samples
    position, seen = 0, []
    for world, size, count in [*runs, (3, 4, 10**6)]:
        for rank in range(world):
            share = RankShare.of(rank, world, position, n, size, drop_last=False, even=even)
            seen += dealt(order, share)[: count * size]
        position = min(n, position + count * size * world)
        if position == n:
            break
    counts = Counter(seen)
    assert set(counts) == set(range(n))
    assert sum(counts.values()) - n < (world if even else 1)


def loads(order: Order, world: int) -> list[list[int]]:
    """The blocks that each rank loads, one by one."""
    n = int(order.starts[-1])
    shares = [RankShare.of(rank, world, 0, n, 1, drop_last=False, even=False) for rank in range(world)]
    return [[block for plan in window_plans(order, share) for block in plan.blocks.tolist()] for share in shares]


@examples(300)
@given(st.data(), shapes(), orders(by_lane=False), WORLDS)
def test_no_rank_loads_a_block_twice(
    data: st.DataObject, shape: plain.Blocks, options: OrderOptions, world: int
) -> None:
    view = data.draw(views(shape.samples))
    numbers = view if isinstance(view, range) else np.array(view, np.int64)
    needed = {block for block, samples in enumerate(plain.selection_of(shape, view)) if samples}
    found = loads(order_of(blocks_of(shape), numbers, options, 3), world)
    for blocks in found:
        assert len(blocks) == len(set(blocks))
    assert set(chain.from_iterable(found)) == needed


@examples(300)
@given(
    shapes(), orders(by_lane=False), st.sampled_from([(8, 2), (8, 4), (12, 4), (12, 12), (30, 2), (30, 6), (64, 16)])
)
def test_ranks_share_at_most_one_block_of_a_window(
    shape: plain.Blocks, options: OrderOptions, lanes_and_world: tuple[int, int]
) -> None:
    lanes, world = lanes_and_world
    options = replace(options, shuffle=True, lanes=lanes)
    order = order_of(blocks_of(shape), range(shape.samples), options, 3)
    windows = len(order.starts) - 1
    assume(windows > 1)
    assert sum(map(len, loads(order, world))) <= len(shape.all) + windows * (world - 1)


@pytest.mark.parametrize("world", [2, 4, 8, 16, 32, 64])
def test_ranks_load_few_blocks_twice(world: int) -> None:
    """64 lanes and 256 blocks a window, as the defaults give: each rank loads its share, and a few at its ends."""
    order = order_of(uniform(2560, 100), range(256_000), OrderOptions(True, window_samples=25_600), 3)
    found = list(map(len, loads(order, world)))
    assert sum(found) <= 2560 + 10 * (world - 1)
    assert max(found) <= 2560 / world + 10


def uniform(blocks: int, samples: int) -> Blocks:
    return Blocks(np.arange(blocks + 1) * samples, np.full(blocks, samples * 100), np.array([0, blocks]))


@pytest.mark.parametrize("options", [OrderOptions(), OrderOptions(True), OrderOptions(True, window_samples=100_000)])
def test_memory_of_a_plan_grows_with_blocks_not_samples(options: OrderOptions) -> None:
    """10^9 samples in 10^6 blocks, a number of 8 bytes for each; a window holds some 670,000 samples."""
    blocks = uniform(1_000_000, 1_000)
    tracemalloc.start()
    try:
        order = order_of(blocks, range(10**9), options, 3)
        peak = tracemalloc.get_traced_memory()[1]
        assert peak < 1.5 * blocks.first.nbytes
        for start in (0, 123_456_789, 10**9 - 1):
            plan = next(window_plans(order, RankShare(rank=1, world=2, start=start, stop=10**9)))
            assert int(plan.position[0]) == start | 1
            assert len(plan) < 10**6
        assert tracemalloc.get_traced_memory()[1] < peak + 10**6 * 100
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("options", [OrderOptions(), OrderOptions(True)])
def test_empty_view_has_no_windows(options: OrderOptions) -> None:
    empty = Blocks(np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(1, np.int64))
    for numbers in (range(0), np.zeros(0, np.int64)):
        for table in (empty, uniform(3, 5)):
            share: Any = RankShare.of(0, 3, 0, 0, 4, drop_last=False, even=True)
            assert list(window_plans(order_of(table, numbers, options, 1), share)) == []
            assert len(share) == 0
