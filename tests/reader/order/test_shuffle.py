"""The order of an epoch: a bijection, the same everywhere and for ever, exactly as docs/order.md says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tests.plain_order as plain
from recordio import SchemaError
from recordio.determinism import key, mix, parts_of_permutation, permutation
from recordio.images.aspects import aspects, checked_buckets, nearest
from recordio.reader.combined import Mixture
from recordio.reader.order.bins import BinRule
from recordio.reader.order.blocks import Blocks
from recordio.reader.order.mixing import Interleaved
from recordio.reader.order.ranks import RankShare
from recordio.reader.order.shuffle import OrderOptions, order_of
from recordio.reader.order.weights import drawn_by_weight
from recordio.reader.processing import SampleOrigin, SampleRandom
from tests import plain_bins
from tests.effort import examples
from tests.epochs import blocks_of, combined, orders, plain_options, plans_of_ranks, shapes, views
from tests.reader.order.test_binned import delivered, order_in_bins
from tests.reader.order.test_mixed_bins import bins_of, every_bin

ORDER = Path(__file__).parents[3] / "docs" / "order.md"
WORDS = st.integers(0, 2**64 - 1)


def sequence(table: Blocks, options: OrderOptions, epoch_key: int, view: Any = None, ranks: int = 1) -> list[int]:
    """The indices by position, put together from what each rank delivers."""
    chosen = range(int(table.first[-1])) if view is None else view
    numbers = chosen if isinstance(chosen, range) else np.array(chosen, np.int64)
    order = order_of(table, numbers, options, epoch_key)
    out: dict[int, int] = {}
    for plan in plans_of_ranks(order, ranks, len(chosen)):
        assert len(set(plan.blocks.tolist())) == len(plan.blocks)
        found = table.first[plan.blocks[plan.slot]] + plan.row
        assert found.tolist() == [chosen[i] for i in plan.index.tolist()]
        assert plan.epoch_key == epoch_key
        out |= zip(plan.position.tolist(), plan.index.tolist(), strict=True)
    assert sorted(out) == list(range(len(chosen)))
    return [out[p] for p in range(len(chosen))]


@pytest.mark.parametrize("n", [*range(201), 255, 256, 257, 1000, 4097])
def test_permutation_follows_the_document_and_is_a_bijection(n: int) -> None:
    for epoch_key in (0, 1, n, 2**64 - 1):
        found = permutation(n, epoch_key).tolist()
        assert found == plain.permutation(n, epoch_key)
        assert sorted(found) == list(range(n))


@given(st.integers(0, 300), WORDS, st.lists(st.integers(0, 301), max_size=6).map(sorted))
def test_parts_are_those_of_the_permutation_cut(n: int, epoch_key: int, ends: list[int]) -> None:
    found = parts_of_permutation(n, epoch_key, ends)
    order = permutation(n, epoch_key)
    for k, (a, b) in enumerate(pairwise([0, *ends, n])):
        assert np.flatnonzero(found == k).tolist() == sorted(order[a:b].tolist())


@examples(300)
@given(shapes(), orders(), WORDS, st.integers(1, 7))
def test_shuffled_epoch_follows_the_document_for_any_number_of_ranks(
    shape: plain.Blocks, options: OrderOptions, epoch_key: int, ranks: int
) -> None:
    want = plain.shuffled(shape, range(shape.samples), epoch_key, plain_options(options))
    assert sequence(blocks_of(shape), options, epoch_key, ranks=ranks) == want


@examples(300)
@given(st.data(), shapes(), orders(), WORDS, st.integers(1, 7))
def test_shuffled_view_repeats_duplicates(
    data: st.DataObject, shape: plain.Blocks, options: OrderOptions, epoch_key: int, ranks: int
) -> None:
    view = data.draw(views(shape.samples))
    want = plain.shuffled(shape, view, epoch_key, plain_options(options))
    assert sequence(blocks_of(shape), options, epoch_key, view, ranks) == want


@examples(200)
@given(st.data(), shapes(), orders(shuffle=False), WORDS, st.integers(1, 4))
def test_sequential_epoch_ignores_the_window(
    data: st.DataObject, shape: plain.Blocks, options: OrderOptions, epoch_key: int, ranks: int
) -> None:
    view = data.draw(views(shape.samples))
    assert sequence(blocks_of(shape), options, epoch_key, view, ranks) == list(range(len(view)))


@examples(200)
@given(shapes(), orders(by_lane=False), WORDS)
def test_window_exceeds_its_budget_by_less_than_one_block(
    shape: plain.Blocks, options: OrderOptions, epoch_key: int
) -> None:
    """And two that follow one another weigh more than one budget, but for the last."""
    weights = [samples if options.window_samples else weight for samples, weight in shape.all]
    fits = not options.window_samples and sum(weights) <= options.window
    budget = options.window if options.window_samples or fits else max(1, options.window // 2)
    order = order_of(blocks_of(shape), range(shape.samples), options, epoch_key)
    loaded = [order.window(w).blocks.tolist() for w in range(len(order.starts) - 1)]
    for blocks in loaded:
        assert sum(weights[b] for b in blocks[:-1]) < budget
    for a, b in pairwise(loaded[:-1]):
        assert sum(weights[block] for block in a + b) > budget
    assert sorted(block for blocks in loaded for block in blocks) == list(range(len(weights)))


def test_epochs_and_seeds_give_different_orders() -> None:
    table, options = blocks_of(plain.Blocks([[(10, 10)] * 100])), OrderOptions(True, window_bytes=200)
    orders = {tuple(sequence(table, options, key(s, e))) for s in range(3) for e in range(3)}
    assert len(orders) == 9


def test_one_window_is_a_uniform_shuffle() -> None:
    """Every sample lands in every tenth of the epoch about equally often: chi-square with 81 degrees of freedom."""
    table, options = blocks_of(plain.Blocks([[(10, 10)] * 10])), OrderOptions(True, window_bytes=100)
    counts = np.zeros((10, 10))
    for epoch in range(2000):
        order = np.array(sequence(table, options, key(1, epoch)))
        np.add.at(counts, (order // 10, np.arange(100) // 10), 1)
    expected = 2000
    assert ((counts - expected) ** 2 / expected).sum() < 81 + 5 * (2 * 81) ** 0.5


def test_positions_of_neighbours_are_uncorrelated() -> None:
    """Each of the pairs that two samples can come out as is about equally often: 9 degrees of freedom a pair."""
    for lanes in (1, 4):
        counts = np.zeros((10, 10))
        for epoch in range(4000):
            mixed = sequence_of_window(lanes, key(2, epoch))
            counts[mixed.index(0) // 4, mixed.index(1) // 4] += 1
        odd = [counts[a, b] for a in range(10) for b in range(10) if a != b]
        expected = sum(odd) / 90
        assert sum((n - expected) ** 2 / expected for n in odd) < 89 + 5 * (2 * 89) ** 0.5, lanes


def sequence_of_window(lanes: int, epoch_key: int) -> list[int]:
    """A window of 40 samples in one block, the first of two windows, as it stands on its lanes."""
    table = blocks_of(plain.Blocks([[(40, 40), (40, 40)]]))
    found = sequence(table, OrderOptions(True, window_samples=40, lanes=lanes), epoch_key)
    window = found[:40] if min(found[:40]) == 0 else found[40:]
    return [index for index in window if index < 40]


def test_maximum_number_of_lanes() -> None:
    for lanes in (0, (1 << 16) + 1):
        with pytest.raises(SchemaError, match="lanes"):
            OrderOptions(True, lanes=lanes)
    table = blocks_of(plain.Blocks([[(3, 3)] * 9]))
    options = OrderOptions(True, window_samples=9, lanes=1 << 16)
    assert sorted(sequence(table, options, 1)) == list(range(27))


A = plain.Blocks([[(3, 30), (3, 30), (3, 30), (2, 20)], [(4, 40), (4, 40), (1, 10)]])
MEDIUM = plain.Blocks([[(30, 300)] * 30] * 2)
LARGE = plain.Blocks([[(100, 14_800)] * 25] * 40)


def shown(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def both_orders(shape: plain.Blocks, view: Any, seed: int, epoch: int, options: dict[str, Any]) -> list[list[int]]:
    """The samples of an epoch, by the code and by the plain reading."""
    order = OrderOptions(True, **options)
    epoch_key, chosen = key(seed, epoch), range(shape.samples) if view is None else view
    found = sequence(blocks_of(shape), order, epoch_key, chosen)
    return [
        [chosen[i] for i in indices]
        for indices in (found, plain.shuffled(shape, chosen, epoch_key, plain_options(order)))
    ]


def order_vector(seed: int, epoch: int, view: Any = None, **options: Any) -> list[str]:
    return [shown(found) for found in both_orders(A, view, seed, epoch, options)]


def large_vector(seed: int, epoch: int, start: int, **options: Any) -> list[str]:
    return [shown(found[start : start + 8]) for found in both_orders(LARGE, None, seed, epoch, options)]


def deal_vector(total: int, rank: int, world: int, batch_size: int, start: int = 0, **options: bool) -> list[str]:
    drop_last, even = options.get("drop_last", False), options.get("even_batches", True)
    share = RankShare.of(rank, world, start, total, batch_size, drop_last=drop_last, even=even)
    mine = [p for p in range(start, total) if share.mask(np.array([p]))[0]] + list(share.padding(total))
    found = [mine[k : k + batch_size] for k in range(0, len(mine), batch_size)]
    assert len(mine) == len(share)
    want = plain.dealt(total, start, rank, world, batch_size, drop_last=drop_last, even=even)
    return ["; ".join(map(shown, batches)) for batches in (found, want)]


def draws_vector(samples: list[int], weights: list[float], strategy: str) -> list[str]:
    return [shown(plain.drawn(samples, weights, strategy))]  # test_combined.py tests the code


def turns_vector(draws: list[int], epoch_key: int, start: int) -> list[str]:
    found = [int(source) for _, labels in Interleaved(draws, epoch_key).sources(0) for source in labels]
    return [shown(every[start : start + 12]) for every in (found, plain.turns(draws, epoch_key))]


def mixture_vector(views: list[Any], draws: list[int], seed: int, epoch: int, **options: Any) -> list[str]:
    order, epoch_key = OrderOptions(True, **options), key(seed, epoch)
    parts = [(A, view) for view in views]
    streams, turns = combined(Mixture, parts, draws).plan(
        order, epoch_key, RankShare(rank=0, world=1, start=0, stop=sum(draws))
    )
    indices = [(int(index) for plan in stream for index in plan.index) for stream in streams]
    found = [(int(source), next(indices[source])) for labels in turns for source in labels]
    want = [(source, index) for source, _, index in plain.mixed(parts, draws, epoch_key, plain_options(order))]
    return [shown(f"{source}:{views[source][index]}" for source, index in every) for every in (found, want)]


def drawn_vector(weights: list[float], epoch_key: int) -> list[str]:
    return [
        shown(drawn_by_weight(np.array(weights, float), epoch_key)),
        shown(plain.drawn_by_weight(weights, epoch_key)),
    ]


def both_bins(
    shape: plain.Blocks, view: Any, lengths: list[int], rule: BinRule, seed: int, epoch: int, options: OrderOptions
) -> list[list[list[tuple[int, int]]]]:
    """The bins of an epoch as (index, piece), by the code and by the plain reading."""
    chosen, epoch_key = range(shape.samples) if view is None else view, key(seed, epoch)
    of_view = [lengths[number] for number in chosen]
    want = plain_bins.binned(
        shape,
        chosen,
        of_view,
        plain_bins.Rule(rule.kind, rule.size, rule.on_overlong, equal=rule.equal),
        epoch_key,
        plain_options(options),
        shuffle=options.shuffle,
    )
    return [delivered(order_in_bins(shape, chosen, of_view, rule, options, epoch_key), 1), want]


def rule_of(kind: Any, size: int, on_overlong: Any = "raise") -> BinRule:
    return BinRule("counted", size, equal=True) if kind == "buckets" else BinRule(kind, size, on_overlong)


def bins_vector(
    kind: Any, size: int, on_overlong: Any = "raise", *, seed: int = 0, epoch: int = 0, view: Any = None, **options: Any
) -> list[str]:
    rule, lengths = rule_of(kind, size, on_overlong), [1 + 7 * n % 5 for n in range(20)]
    order = OrderOptions(**{"shuffle": True} | options)
    chosen = range(20) if view is None else view
    name = "{0}/{1}" if on_overlong == "split" else "{0}"
    return [
        "; ".join(shown(name.format(chosen[index], piece) for index, piece in one) for one in bins)
        for bins in both_bins(A, view, lengths, rule, seed, epoch, order)
    ]


def many_bins_vector(kind: Any, size: int, seed: int, epoch: int, start: int, **options: Any) -> list[str]:
    lengths = [1 + 7919 * n % size for n in range(1800)]
    found = both_bins(MEDIUM, None, lengths, rule_of(kind, size), seed, epoch, OrderOptions(True, **options))
    return ["; ".join(shown(index for index, _ in one) for one in bins[start : start + 4]) for bins in found]


def mixed_bins_vector(
    kind: Any, size: int, views: list[Any], draws: list[int] | None, *, seed: int = 0, epoch: int = 0, **options: Any
) -> list[str]:
    rule, order, epoch_key = rule_of(kind, size), OrderOptions(**{"shuffle": True} | options), key(seed, epoch)
    parts = [(A, view, [1 + 7 * number % 5 for number in view]) for view in views]
    every = draws or [len(view) for view in views]
    own = plain_bins.Rule(rule.kind, rule.size, equal=rule.equal)
    want = plain_bins.mixed_bins(parts, every, own, epoch_key, plain_options(order), shuffle=order.shuffle)
    return [
        "; ".join(shown(f"{source}:{views[source][index]}" for index, _ in items) for source, items in bins)
        for bins in (every_bin(bins_of(parts, draws, rule, epoch_key, order)), want)
    ]


def bucket_vector(height: int, width: int, sizes: list[list[int]]) -> list[str]:
    buckets = checked_buckets(sizes)
    return [
        shown(size)
        for size in (
            buckets[int(nearest(aspects(height, width), buckets))],
            plain_bins.bucket(height, width, sizes),
        )
    ]


def philox_vector(index: int, epoch_key: int) -> list[str]:
    """Two words of what a random transform of this sample draws from."""
    origin = SampleOrigin(None, np.zeros(1, np.int64), np.array([index]), epoch_key)  # type: ignore[arg-type]
    bits: Any = SampleRandom(origin, 0).rng().bit_generator
    return [shown(f"{int(n):016x}" for n in bits.random_raw(2))]


VECTORS: dict[str, Any] = {
    "mix": lambda x: [f"{mix(x):016x}", f"{plain.mix(x):016x}"],
    "key": lambda *numbers: [f"{key(*numbers):016x}", f"{plain.key(*numbers):016x}"],
    "permutation": lambda n, epoch_key: [shown(permutation(n, epoch_key)), shown(plain.permutation(n, epoch_key))],
    "parts": lambda lanes: [shown(plain.parts(lanes))],
    "shuffled": order_vector,
    "large": large_vector,
    "share": deal_vector,
    "draws": draws_vector,
    "turns": turns_vector,
    "mixture": mixture_vector,
    "drawn": drawn_vector,
    "bins": bins_vector,
    "manybins": many_bins_vector,
    "mixedbins": mixed_bins_vector,
    "aspect": lambda *size: [str(aspects(*size)), str(plain_bins.aspect(*size))],
    "bucket": bucket_vector,
    "philox": philox_vector,
}


class TestTheDocument:
    def rows(self) -> list[tuple[str, str, str]]:
        found = re.findall(r"^\| `?(\w+)\((.*?)\)`? \| (.*) \|$", ORDER.read_text("utf-8"), re.MULTILINE)
        return [(name, inner, result.replace("`", "")) for name, inner, result in found]

    def test_documented_vectors_hold_for_the_code_and_the_plain_oracle(self) -> None:
        rows = self.rows()
        assert {name for name, *_ in rows} == set(VECTORS)
        for name, inner, result in rows:
            args, options = arguments(inner)
            for answer in VECTORS[name](*args, **options):
                assert answer == result, (name, inner)

    def test_changed_vector_is_detected(self) -> None:
        assert len(self.rows()) >= 30
        assert len({(name, inner) for name, inner, _ in self.rows()}) == len(self.rows())


def arguments(inner: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call in the document; `key` and `range` may stand in them."""
    call = ast.parse(f"f({inner})", mode="eval").body
    assert isinstance(call, ast.Call)

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.List):
            return [value(one) for one in node.elts]
        if isinstance(node, ast.Call):
            args = [value(arg) for arg in node.args]
            return range(*args) if ast.unparse(node.func) == "range" else key(*args)
        return ast.literal_eval(node)

    return [value(arg) for arg in call.args], {str(word.arg): value(word.value) for word in call.keywords}
