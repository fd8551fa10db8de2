"""The order of an epoch: a bijection, the same everywhere and for ever, exactly as docs/order.md says."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from recordio.reader.order import Blocks, OrderOptions, Step, key, mix, order_of, permutation
from recordio.reader.plan import Deal, steps

ORDER = Path(__file__).parents[2] / "docs" / "order.md"
MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15


def plain_mix(x: int) -> int:
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & MASK
    return x ^ x >> 31


def plain_permutation(n: int, word: int) -> list[int]:
    """docs/order.md in plain Python."""
    low = (1 << max(1, (n - 1).bit_length())) - 1
    words = sorted((plain_mix((word + GAMMA * (i + 1)) & MASK) & ~low) | i for i in range(n))
    return [word & low for word in words]


def plain_parts(lanes: int) -> list[int]:
    """The lanes in the order of their parts."""
    factors, rest = [], lanes
    for factor in range(2, lanes + 1):
        while rest % factor == 0:
            factors.append(factor)
            rest //= factor

    def reversed_digits(lane: int) -> list[int]:
        digits = []
        for factor in factors:
            digits.append(lane % factor)
            lane //= factor
        return digits

    return sorted(range(lanes), key=reversed_digits)


def plain_windows(shape: Shape, order: OrderOptions, word: int) -> list[list[int]]:
    """The blocks of each window."""
    units: list[list[int]] = []
    for begin, end in pairwise(shape.shards):
        for block in range(begin, end):
            before = sum(shape.weights[begin:block])
            if block == begin or before // order.unit_bytes != (before - shape.weights[block - 1]) // order.unit_bytes:
                units.append([])
            units[-1].append(block)
    mixed = [block for unit in plain_permutation(len(units), plain_key(0, after=word)) for block in units[unit]]
    weights = shape.counts if order.window_samples else shape.weights
    budget = order.window if order.window_samples or sum(weights) <= order.window else max(1, order.window // 2)
    windows: dict[int, list[int]] = {}
    before = 0
    for block in mixed:
        windows.setdefault(before // budget, []).append(block)
        before += weights[block]
    return list(windows.values())


def plain_shuffle(shape: Shape, order: OrderOptions, word: int) -> list[int]:
    """The samples of an epoch in the order that docs/order.md tells, in plain Python."""
    first = [sum(shape.counts[:b]) for b in range(len(shape.counts))]
    windows = plain_windows(shape, order, word)
    lanes = order.lanes if len(windows) > 1 else 1
    out: dict[int, int] = {}
    for number, members in enumerate(windows):
        rows = [first[b] + r for b in members for r in range(shape.counts[b])]
        start, n, key_ = len(out), len(rows), plain_key(number + 1, after=word)
        low, top = (1 << max(1, (n - 1).bit_length())) - 1, (lanes - 1).bit_length()
        at = 0
        for part, lane in enumerate(plain_parts(lanes)):
            positions = [p for p in range(start, start + n) if p % lanes == lane]
            words = []
            for i in range(at, at + len(positions)):
                hashed = plain_mix((key_ + GAMMA * (i + 1)) & MASK) >> top
                words.append(((hashed | (part << 64 - top if top else 0)) & ~low) | i)
            out |= zip(positions, [rows[w & low] for w in sorted(words)], strict=True)
            at += len(positions)
    return [out[p] for p in range(len(out))]


def plain_key(*numbers: int, after: int = 0) -> int:
    out = after
    for number in numbers:
        out = plain_mix((out + GAMMA + number) & MASK)
    return out


def sequence(shape: Shape, order: OrderOptions, word: int, numbers: Any = None, ranks: int = 1) -> list[int]:
    """The samples of an epoch by position, put together from what each rank delivers."""
    view = range(sum(shape.counts)) if numbers is None else np.array(numbers, np.int64)
    table = shape.blocks
    whole = order_of(table, view, order, word)
    out: dict[int, int] = {}
    for rank in range(ranks):
        for step in steps(whole, Deal(rank, ranks, 0, len(view))):
            assert isinstance(step, Step)
            assert sorted(set(step.slot.tolist())) == list(range(len(step.blocks)))
            assert (step.position % ranks == rank).all()
            found = table.first[step.blocks[step.slot]] + step.row
            assert found.tolist() == np.asarray(view)[step.index].tolist()
            assert not out.keys() & set(step.position.tolist())
            out |= zip(step.position.tolist(), found.tolist(), strict=True)
    assert sorted(out) == list(range(len(view)))
    return [out[p] for p in range(len(view))]


@pytest.mark.parametrize("n", [*range(201), 255, 256, 257, 1000, 4097])
def test_a_permutation_is_what_the_document_says_and_a_bijection(n: int) -> None:
    for word in (0, 1, n, MASK):
        found = permutation(n, word).tolist()
        assert found == plain_permutation(n, word)
        assert sorted(found) == list(range(n))


def test_the_vectors_of_the_document_hold() -> None:
    rows = re.findall(r"^\| (\w+)\((.*?)\)(?:, the first ten)? \| (.*) \|$", ORDER.read_text("utf-8"), re.MULTILINE)
    assert len(rows) == 12
    for name, words, result in rows:
        if name == "mix":
            assert f"`{mix(int(words, 16)):016x}`" == result
        elif name == "key":
            assert f"`{key(*map(int, words.split(','))):016x}`" == result
        elif name == "parts":
            assert ", ".join(map(str, plain_parts(int(words)))) == result
        elif name == "shuffled":
            shape = Shape([10] * 200, [10] * 200, [0, 200])
            found = sequence(shape, OrderOptions(True, window_samples=500, lanes=4), key(1, 2))
            assert ", ".join(map(str, found[:10])) == result
        else:
            count, word = words.split(", ", 1)
            found_key = re.fullmatch(r"key\((.*)\)?", word)
            given_key = key(*map(int, found_key[1].rstrip(")").split(","))) if found_key else int(word)
            assert ", ".join(map(str, permutation(int(count), given_key).tolist())) == result


@dataclass
class Shape:
    """Blocks with their samples and weights; `shards` are the numbers of the shards' first blocks, and the end."""

    counts: list[int]
    weights: list[int]
    shards: list[int]

    @property
    def blocks(self) -> Blocks:
        first = np.cumsum([0, *self.counts])
        return Blocks(first, np.array(self.weights, np.int64), np.array(self.shards, np.int64))


@st.composite
def shapes(draw: st.DrawFn, least: int = 0) -> Shape:
    blocks = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 50)), min_size=least, max_size=14))
    cuts = draw(st.sets(st.integers(1, max(1, len(blocks) - 1)), max_size=4)) if len(blocks) > 1 else set()
    return Shape([n for n, _ in blocks], [w for _, w in blocks], [0, *sorted(cuts), len(blocks)])


ORDERS = st.builds(
    OrderOptions,
    shuffle=st.just(True),
    window_bytes=st.integers(1, 300),
    window_samples=st.one_of(st.none(), st.integers(1, 40)),
    unit_bytes=st.sampled_from([1, 1, 30, 90]),
    lanes=st.sampled_from([1, 2, 3, 4, 6, 12]),
)


@settings(max_examples=300)
@given(shapes(), ORDERS, st.integers(0, 2**64 - 1), st.integers(1, 7))
def test_a_shuffled_epoch_is_the_one_that_the_document_tells_for_any_number_of_ranks(
    shape: Shape, order: OrderOptions, word: int, ranks: int
) -> None:
    assert sequence(shape, order, word, ranks=ranks) == plain_shuffle(shape, order, word)


@settings(max_examples=200)
@given(shapes(least=1), ORDERS, st.booleans(), st.integers(1, 4), st.data())
def test_a_view_takes_part_with_its_samples_as_often_as_they_stand_in_it(
    shape: Shape, order: OrderOptions, as_range: bool, ranks: int, data: st.DataObject
) -> None:
    n = sum(shape.counts)
    if as_range:
        a, b = sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))
        view: Any = range(a, b)
    else:
        view = data.draw(st.lists(st.integers(0, n - 1), max_size=30))
    table, numbers = shape.blocks, view if as_range else np.array(view, np.int64)
    for shuffle in (False, True):
        options = replace(order, shuffle=shuffle)
        found: list[int] = []
        for rank in range(ranks):
            for step in steps(order_of(table, numbers, options, 5), Deal(rank, ranks, 0, len(view))):
                found += (table.first[step.blocks[step.slot]] + step.row).tolist()
        assert sorted(found) == sorted(view)
        if not shuffle:
            assert sequence(shape, options, 5, list(view), ranks) == list(view)


def test_a_rank_loads_no_block_twice_when_the_ranks_divide_the_lanes() -> None:
    shape = Shape([8] * 300, [80] * 300, [0, 300])
    for ranks in (1, 2, 4, 8, 16):
        order = order_of(shape.blocks, range(2400), OrderOptions(True, window_bytes=8000, lanes=16), 3)
        loaded = 0
        for rank in range(ranks):
            blocks = [b for step in steps(order, Deal(rank, ranks, 0, 2400)) for b in step.blocks.tolist()]
            assert len(blocks) == len(set(blocks))
            loaded += len(blocks)
        assert loaded <= 300 + 6 * ranks  # a part ends within a block: one more for each window and rank


def test_a_sequential_epoch_is_0_1_2() -> None:
    for window in (1, 10, 1000):
        shape = Shape([4, 1, 4], [40, 10, 40], [0, 3])
        assert sequence(shape, OrderOptions(window_bytes=window), 0) == list(range(9))


def test_epochs_and_seeds_differ() -> None:
    shape = Shape([10] * 100, [10] * 100, [0, 100])
    options = OrderOptions(True, window_bytes=200)
    orders = {tuple(sequence(shape, options, key(s, e))) for s in range(3) for e in range(3)}
    assert len(orders) == 9


def test_a_window_as_large_as_the_dataset_is_a_uniform_shuffle() -> None:
    """Every sample lands in every tenth of the epoch about equally often: chi-square with 81 degrees of freedom."""
    shape, options = Shape([10] * 10, [10] * 10, [0, 10]), OrderOptions(True, window_bytes=100)
    counts = np.zeros((10, 10))
    for epoch in range(2000):
        order = np.array(sequence(shape, options, key(1, epoch)))
        np.add.at(counts, (order // 10, np.arange(100) // 10), 1)
    expected = 2000
    assert ((counts - expected) ** 2 / expected).sum() < 81 + 5 * (2 * 81) ** 0.5
