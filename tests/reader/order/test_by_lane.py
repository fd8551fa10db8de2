"""Lanes with blocks of their own: pools of units, and blocks that stay on their lanes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tests.plain_order as plain
from recordio.determinism import key, permutation, permutation_within
from recordio.reader.order.blocks import Blocks
from recordio.reader.order.ranks import RankShare, window_blocks, window_plans
from recordio.reader.order.shuffle import OrderOptions, order_of
from tests.effort import examples
from tests.epochs import blocks_of, orders, shapes, views

SAMPLES, ROWS, UNIT = 64_000, 20, 8  # 3,200 blocks of 20 samples, in units of 8 blocks
TABLE = Blocks(np.arange(0, SAMPLES + 1, ROWS), np.full(SAMPLES // ROWS, 1000), np.array([0, 1600, 3200]))
BASE = OrderOptions(True, window_bytes=400_000, unit_bytes=UNIT * 1000, lanes=16)
POOLS, STICKY = replace(BASE, pool_bytes=800_000), replace(BASE, lane_affinity=True)
BOTH = replace(POOLS, lane_affinity=True)


def share_of(rank: int, world: int, samples: int = SAMPLES) -> RankShare:
    return RankShare(rank=rank, world=world, start=0, stop=samples)


def blocks_of_rank(options: OrderOptions, epoch_key: int, rank: int, world: int, view: Any = None) -> list[int]:
    """The blocks that a rank reads in an epoch, as often as it reads them."""
    numbers = range(SAMPLES) if view is None else view
    order = order_of(TABLE, numbers, options, epoch_key)
    return [b for plan in window_plans(order, share_of(rank, world, len(numbers))) for b in plan.blocks.tolist()]


@examples(100)
@given(st.lists(st.integers(0, 5), max_size=40).map(sorted), st.integers(6, 9), st.integers(0, 2**64 - 1))
def test_permutation_within_groups_follows_the_document(groups: list[int], count: int, word: int) -> None:
    found = permutation_within(np.array(groups, np.int64), count, word).tolist()
    assert found == plain.permutation_within(groups, count, word)
    assert [groups[i] for i in found] == groups
    assert sorted(found) == list(range(len(groups)))
    alone = permutation_within(np.zeros(len(groups), np.int64), 1, word)
    assert alone.tolist() == permutation(len(groups), word).tolist()


@examples(200)
@given(st.data(), shapes(), st.one_of(orders(), orders(shuffle=False)), st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_blocks_known_ahead_are_those_of_the_plans(
    data: st.DataObject, shape: plain.Blocks, options: OrderOptions, world: int
) -> None:
    view = data.draw(views(shape.samples))
    numbers = view if isinstance(view, range) else np.array(view, np.int64)
    order = order_of(blocks_of(shape), numbers, options, 3)
    for rank in range(world):
        share = RankShare(rank=rank, world=world, start=len(view) // 3, stop=len(view))
        lanes = share.lanes(order.lanes)
        for number in range(len(order.starts) - 1):
            assert sorted(order.window(number, lanes).blocks.tolist()) == order.blocks(number, lanes).tolist()
        known = {block for blocks in window_blocks(order, share) for block in blocks.tolist()}
        assert known >= {block for plan in window_plans(order, share) for block in plan.blocks.tolist()}


@pytest.mark.parametrize("options", [STICKY, BOTH], ids=["affinity", "pools and affinity"])
def test_blocks_stay_on_their_rank_in_every_epoch_of_every_seed(options: OrderOptions) -> None:
    for world in (1, 2, 4, 16):
        for rank in (0, world - 1):
            first, *others = [blocks_of_rank(options, key(s, e), rank, world) for s, e in ((0, 0), (0, 1), (7, 3))]
            for other in others:
                assert set(other) == set(first)
                assert other != first
            assert len(set(first)) <= len(TABLE.nbytes) / world + 2


def test_without_affinity_a_rank_reads_other_blocks_in_each_epoch() -> None:
    for options in (BASE, POOLS):
        first, other = (set(blocks_of_rank(options, key(0, epoch), 1, 4)) for epoch in (0, 1))
        assert 0.15 < len(first & other) / len(first) < 0.35


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_twice_the_ranks_share_the_blocks_that_one_of_half_of_them_had(world: int) -> None:
    for rank in range(world):
        one = set(blocks_of_rank(STICKY, 3, rank, world))
        assert one == {b for half in (rank, rank + world) for b in blocks_of_rank(STICKY, 4, half, 2 * world)}


@pytest.mark.parametrize("change", ["split", "weights", "window"])
def test_most_blocks_stay_where_the_samples_differ_a_little(change: str) -> None:
    rng, options = np.random.default_rng(0), STICKY
    views: list[Any] = [np.sort(rng.choice(SAMPLES, SAMPLES * 9 // 10, replace=False)) for _ in range(2)]
    if change == "weights":
        views = [np.sort(rng.integers(0, SAMPLES, SAMPLES)) for _ in range(2)]
    if change == "window":
        views, options = [None, None], replace(STICKY, window_bytes=600_000)
    first = set(blocks_of_rank(STICKY, 1, 1, 4, views[0]))
    other = set(blocks_of_rank(options, 2, 1, 4, views[1]))
    assert len(first & other) > 0.95 * len(first)


@pytest.mark.parametrize("options", [POOLS, STICKY, BOTH], ids=["pools", "affinity", "both"])
def test_units_are_read_by_one_rank_each_but_for_the_ends(options: OrderOptions) -> None:
    for world in (2, 4, 16):
        readers = np.zeros(len(TABLE.nbytes) // UNIT, np.int64)
        for rank in range(world):
            readers[np.unique(np.array(blocks_of_rank(options, 5, rank, world)) // UNIT)] += 1
        assert readers.min() == 1
        assert readers.sum() <= len(readers) + world - 1


@pytest.mark.parametrize("options", [POOLS, STICKY, BOTH], ids=["pools", "affinity", "both"])
def test_block_is_read_again_only_at_the_ends_of_windows(options: OrderOptions) -> None:
    windows = len(order_of(TABLE, range(SAMPLES), options, 5).starts) - 1
    assert windows >= 15
    for world in (1, 4, 16):
        found = [blocks_of_rank(options, 5, rank, world) for rank in range(world)]
        assert set().union(*found) == set(range(len(TABLE.nbytes)))
        assert sum(map(len, found)) <= len(TABLE.nbytes) + options.lanes * windows


@examples(200)
@given(shapes(), orders(), st.integers(0, 2**64 - 1))
def test_window_holds_its_budget_and_a_block_or_two_of_each_lane(
    shape: plain.Blocks, options: OrderOptions, epoch_key: int
) -> None:
    options = replace(options, lane_affinity=True)
    budget, fits = plain.budget_of(shape, range(shape.samples), plain.Options(options.window, options.window_samples))
    weights = [samples if options.window_samples else weight for samples, weight in shape.all]
    order = order_of(blocks_of(shape), range(shape.samples), options, epoch_key)
    for number in range(len(order.starts) - 1):
        blocks = order.window(number).blocks.tolist()
        assert len(blocks) == len(set(blocks))
        if not fits:
            heaviest = sorted((weights[block] for block in blocks), reverse=True)
            assert sum(weights[block] for block in blocks) <= budget + sum(heaviest[: options.lanes + 1])


@examples(100)
@given(shapes(), orders(), st.integers(0, 2**64 - 1))
def test_a_dataset_that_fits_into_a_window_has_the_same_order_as_ever(
    shape: plain.Blocks, options: OrderOptions, epoch_key: int
) -> None:
    options = replace(options, window_bytes=10**6, window_samples=None)
    plain_one = replace(options, pool_bytes=0, lane_affinity=False)
    found = [order_of(blocks_of(shape), range(shape.samples), one, epoch_key) for one in (options, plain_one)]
    for number in range(len(found[0].starts) - 1):
        assert (found[0].window(number).index == found[1].window(number).index).all()


def units_by_window(options: OrderOptions) -> Iterator[set[int]]:
    order = order_of(TABLE, range(SAMPLES), options, 9)
    for number in range(len(order.starts) - 1):
        yield {block // UNIT for block in order.blocks(number).tolist()}


def test_pools_mix_units_and_are_done_with_one_after_the_other() -> None:
    """A window has blocks of many more units than without pools, and no more units are begun than fit into pools."""
    without, within = list(units_by_window(BASE)), list(units_by_window(POOLS))
    assert len(within) == len(without)
    assert np.mean(list(map(len, within))) > 2 * np.mean(list(map(len, without)))
    last = {unit: number for number, units in enumerate(within) for unit in units}
    first = {unit: number for number, units in reversed(list(enumerate(within))) for unit in units}
    held = [sum(first[u] <= number <= last[u] for u in last) for number in range(len(within))]
    assert max(held) * UNIT * 1000 <= 1.5 * POOLS.pool_bytes
    begun = [sum(first[u] == number for u in first) for number in range(1, len(within) - 1)]
    assert max(begun) <= 3 * np.mean(begun)  # pools are staggered


def test_a_pool_may_be_as_large_as_numbers_go() -> None:
    for lanes in (1, 3, 64, 1 << 16):
        options = replace(BASE, pool_bytes=(1 << 63) - 1, lanes=lanes)
        order = order_of(TABLE, range(SAMPLES), options, 9)
        found = np.concatenate([order.window(number).index for number in range(len(order.starts) - 1)])
        assert (np.sort(found) == np.arange(SAMPLES)).all()
        assert all(a < b for a, b in pairwise(order.starts.tolist()))
