"""The bins of an epoch: a bijection onto its samples, within their limits, exactly as docs/order.md says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tests.plain_bins as plain
from recordio.determinism import key
from recordio.reader.order.binned import Binned
from recordio.reader.order.bins import BinRule, best_fit, parts_for, piece_numbers, pieces_of
from recordio.reader.order.ranks import RankShare, window_blocks, window_plans
from recordio.reader.order.shuffle import OrderOptions, order_of
from tests.effort import examples
from tests.epochs import View, blocks_of, orders, plain_options, plans_of_ranks, shapes, views
from tests.plain_order import Blocks

WORDS = st.integers(0, 2**64 - 1)
Bins = list[list[tuple[int, int]]]
rules = st.one_of(
    st.builds(BinRule, st.sampled_from(["padded", "counted"]), st.integers(1, 60)),
    st.builds(BinRule, st.just("packed"), st.integers(1, 60), st.sampled_from(["raise", "truncate", "split"])),
    st.builds(BinRule, st.just("counted"), st.integers(1, 9), equal=st.just(True)),
)


def order_in_bins(
    shape: Blocks, view: View, lengths: list[int], rule: BinRule, options: OrderOptions, epoch_key: int
) -> Binned:
    numbers = view if isinstance(view, range) else np.array(view, np.int64)
    order = order_of(blocks_of(shape), numbers, options, epoch_key)
    return Binned(order, np.array(lengths, np.int64), rule, options.shuffle, epoch_key)


def delivered(binned: Binned, ranks: int) -> Bins:
    """The bins by position, put together from those of each rank."""
    out: Bins = [[] for _ in range(len(binned))]
    for plan in plans_of_ranks(binned, ranks, len(binned)):
        pieces = [0] * len(plan) if plan.piece is None else piece_numbers(plan.piece).tolist()
        for position, index, piece in zip(plan.position.tolist(), plan.index.tolist(), pieces, strict=True):
            out[position].append((index, piece))
    return out


@examples(300)
@given(st.data(), shapes(), st.booleans(), rules, WORDS, st.integers(1, 7))
def test_bins_follow_the_document_for_any_number_of_ranks(
    data: st.DataObject, shape: Blocks, shuffle: bool, rule: BinRule, epoch_key: int, ranks: int
) -> None:
    options = data.draw(orders(shuffle, by_lane=False))
    view = data.draw(views(shape.samples))
    longest = 5 if rule.equal else 3 * rule.size if rule.on_overlong != "raise" or rule.kind == "counted" else rule.size
    lengths = data.draw(st.lists(st.integers(0, longest), min_size=len(view), max_size=len(view)))
    binned = order_in_bins(shape, view, lengths, rule, options, epoch_key)
    found = delivered(binned, ranks)
    assert found == plain.binned(
        shape,
        view,
        lengths,
        plain.Rule(rule.kind, rule.size, rule.on_overlong, equal=rule.equal),
        epoch_key,
        plain_options(options),
        shuffle=shuffle,
    )
    check_contents(found, lengths, rule)
    check_counts(binned, found, lengths, rule)
    check_blocks(binned, ranks)


@examples(100)
@given(st.data(), shapes(), st.booleans(), st.integers(1, 9), WORDS, st.integers(1, 7), st.booleans())
def test_full_bins_follow_the_document(
    data: st.DataObject, shape: Blocks, shuffle: bool, size: int, epoch_key: int, ranks: int, equal: bool
) -> None:
    options = data.draw(orders(shuffle, by_lane=False))
    view = data.draw(views(shape.samples))
    lengths = data.draw(st.lists(st.integers(0, 3 if equal else 20), min_size=len(view), max_size=len(view)))
    rule = BinRule("counted", size, only_full=True, equal=equal)
    binned = order_in_bins(shape, view, lengths, rule, options, epoch_key)
    found = delivered(binned, ranks)
    assert found == plain.binned(
        shape,
        view,
        lengths,
        plain.Rule("counted", size, only_full=True, equal=equal),
        epoch_key,
        plain_options(options),
        shuffle=shuffle,
    )
    indices = [index for one in found for index, _ in one]
    assert len(set(indices)) == len(indices) == len(found) * size == binned.counts.samples
    assert binned.counts.dropped == len(view) - len(indices)
    check_blocks(binned, ranks)


@pytest.mark.parametrize("kind", ["padded", "packed", "counted", "equal"])
@pytest.mark.parametrize(("window_bytes", "lanes", "size"), [(12_000, 6, 3), (17_999, 2, 2)], ids=["lanes", "buckets"])
def test_many_lanes_and_buckets_follow_the_document(kind: Any, window_bytes: int, lanes: int, size: int) -> None:
    shape = Blocks([[(30, 300)] * 30] * 2)
    options = OrderOptions(True, window_bytes=window_bytes, lanes=lanes)
    lengths = np.random.default_rng(3).integers(1, size + 1, 1800).tolist()
    equal = kind == "equal"
    kind = "counted" if equal else kind
    rule = BinRule(kind, size, equal=equal)
    binned = order_in_bins(shape, range(1800), lengths, rule, options, 7)
    of_window = (1800 if kind == "counted" else sum(lengths)) // (len(binned.starts) - 1)
    parts = parts_for(of_window, lanes, size)
    assert parts > 1
    assert lanes > 2 or kind == "counted" or rule.buckets(of_window // parts) > 1
    found = delivered(binned, 3)
    assert found == plain.binned(
        shape, range(1800), lengths, plain.Rule(kind, size, equal=equal), 7, plain_options(options), shuffle=True
    )


def held(item: tuple[int, int], lengths: list[int], rule: BinRule) -> int:
    """Tokens of an item."""
    rest = lengths[item[0]] - item[1] * rule.size
    return min(rest, rule.size) if rule.kind == "packed" else rest


def check_contents(bins: Bins, lengths: list[int], rule: BinRule) -> None:
    """Each sample once, or each piece of it, and no bin over its limit or empty."""
    every = sorted(item for one in bins for item in one)
    split = rule.on_overlong == "split"
    pieces = [max(1, -(-length // rule.size)) if split else 1 for length in lengths]
    assert every == [(index, piece) for index, count in enumerate(pieces) for piece in range(count)]
    for one in bins:
        sizes = [held(item, lengths, rule) for item in one]
        if rule.kind == "padded":
            assert 0 < max(max(sizes), 1) * len(one) <= rule.size
        elif rule.kind == "packed":
            assert 0 < sum(max(1, size) for size in sizes) <= rule.size
        else:
            assert 0 < len(one) <= rule.size
            assert not rule.equal or len({max(1, size) for size in sizes}) == 1


def check_counts(binned: Binned, bins: Bins, lengths: list[int], rule: BinRule) -> None:
    counts = binned.counts
    sizes = [[held(item, lengths, rule) for item in one] for one in bins]
    assert (counts.samples, counts.bins) == (len(lengths), len(bins))
    assert counts.tokens == sum(map(sum, sizes))
    assert counts.left_out == sum(lengths) - counts.tokens
    if rule.kind == "packed":
        assert counts.capacity == rule.size * len(bins)
        assert counts.overlong == sum(length > rule.size for length in lengths)
    else:
        assert counts.capacity == sum(max(one) * len(one) for one in sizes)
    assert counts.padding == pytest.approx(1 - counts.tokens / counts.capacity if counts.capacity else 0)


def check_blocks(binned: Binned, ranks: int) -> None:
    """What is looked for far ahead is what the plans need."""
    for rank in range(ranks):
        share = RankShare(rank=rank, world=ranks, start=0, stop=len(binned))
        ahead = {block for blocks in window_blocks(binned, share) for block in blocks.tolist()}
        assert {block for plan in window_plans(binned, share) for block in plan.blocks.tolist()} <= ahead


def many_documents(options: OrderOptions, rule: BinRule, seed: int = 0) -> tuple[Binned, np.ndarray[Any, Any]]:
    """20,000 documents, of log-normal lengths, in 200 blocks."""
    shape = Blocks([[(100, 1000)] * 50] * 4)
    lengths = np.minimum(np.random.default_rng(seed).lognormal(5, 1, 20_000).astype(np.int64) + 1, 2048)
    order = order_of(blocks_of(shape), range(20_000), options, key(seed, 0))
    return Binned(order, lengths, rule, True, key(seed, 0)), lengths


def test_padding_is_small() -> None:
    windows = OrderOptions(True, window_bytes=100_000, lanes=4)
    for rule, most in (
        (BinRule("padded", 8192), 0.05),
        (BinRule("packed", 2048), 0.03),
        (BinRule("counted", 32), 0.12),
    ):
        binned, lengths = many_documents(windows, rule)
        assert len(binned.starts) == 5
        assert binned.counts.tokens == lengths.sum()
        assert 0 < binned.counts.padding < most


def test_a_rank_reads_its_share_of_the_blocks() -> None:
    """But for the blocks between two lanes, which both need."""
    binned, _ = many_documents(OrderOptions(True, window_bytes=100_000, lanes=4), BinRule("packed", 2048))
    for rank in range(4):
        plans = list(window_plans(binned, RankShare(rank=rank, world=4, start=0, stop=len(binned))))
        assert sum(len(plan.blocks) for plan in plans) < 200 / 4 + 2 * len(plans)


def test_epochs_differ_in_their_bins_and_so_do_neighbours_of_a_sample() -> None:
    rule, options = BinRule("packed", 2048), OrderOptions(True)
    bins = [delivered(many_documents(options, rule, seed)[0], 1) for seed in range(2)]
    together = [{frozenset(index for index, _ in one) for one in each} for each in bins]
    assert len(together[0] & together[1]) < len(together[0]) / 100


@given(st.lists(st.integers(1, 50), max_size=9), st.integers(1, 20))
def test_pieces_cover_their_document_and_the_last_is_marked(lengths: list[int], size: int) -> None:
    found = [one.tolist() for one in pieces_of(np.array(lengths, np.int64), size)]
    want = []
    for document, length in enumerate(lengths):
        starts = range(0, length, size)
        for number, start in enumerate(starts):
            want.append((document, ~number if number == len(starts) - 1 else number, min(size, length - start)))
    assert list(zip(*found, strict=True)) == want


@given(st.lists(st.integers(1, 50), max_size=60))
def test_best_fit_decreasing_stays_within_its_bound(lengths: list[int]) -> None:
    rows = best_fit(sorted(lengths, reverse=True), 50)
    assert len(set(rows)) <= 11 / 9 * max(1, -(-sum(lengths) // 50)) * 2
    fill = np.bincount(rows, sorted(lengths, reverse=True), minlength=1) if lengths else np.zeros(1)
    assert fill.max() <= 50
    assert np.count_nonzero(fill <= 25) <= 1  # two half-empty rows would have been one
