"""The order of an epoch: a bijection, the same everywhere and for ever, exactly as docs/order.md says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from recordio.reader.order import Samples, Step, key, mix, permutation

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


def plain_shuffle(counts: list[int], weights: list[int], window: int, seed: int, epoch: int) -> list[int]:
    """The samples of an epoch in the order that docs/order.md tells, in plain Python."""
    first = [sum(counts[:b]) for b in range(len(counts))]
    blocks = plain_permutation(len(counts), plain_key(seed, epoch, 0))
    windows: dict[int, list[int]] = {}
    before = 0
    for block in blocks:
        windows.setdefault(before // window, []).append(block)
        before += weights[block]
    out = []
    for number, members in enumerate(windows.values()):
        rows = [first[b] + r for b in members for r in range(counts[b])]
        out += [rows[i] for i in plain_permutation(len(rows), plain_key(seed, epoch, number + 1))]
    return out


def plain_key(*numbers: int) -> int:
    out = 0
    for number in numbers:
        out = plain_mix((out + GAMMA + number) & MASK)
    return out


def sample_numbers(steps: Any, first: np.ndarray[Any, Any]) -> list[int]:
    found: list[int] = []
    for step in steps:
        assert isinstance(step, Step)
        found += (first[step.blocks[step.slot]] + step.row).tolist()
    return found


@pytest.mark.parametrize("n", [*range(201), 255, 256, 257, 1000, 4097])
def test_a_permutation_is_what_the_document_says_and_a_bijection(n: int) -> None:
    for word in (0, 1, n, MASK):
        found = permutation(n, word).tolist()
        assert found == plain_permutation(n, word)
        assert sorted(found) == list(range(n))


def test_the_vectors_of_the_document_hold() -> None:
    rows = re.findall(r"^\| (\w+)\((.*)\) \| (.*) \|$", ORDER.read_text("utf-8"), re.MULTILINE)
    assert len(rows) == 9
    for name, words, result in rows:
        if name == "mix":
            assert f"`{mix(int(words, 16)):016x}`" == result
        elif name == "key":
            assert f"`{key(*map(int, words.split(','))):016x}`" == result
        else:
            count, word = words.split(", ", 1)
            found = re.fullmatch(r"key\((.*)\)", word)
            given_key = key(*map(int, found[1].split(","))) if found else int(word)
            assert ", ".join(map(str, permutation(int(count), given_key).tolist())) == result


blocks = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 50)), min_size=0, max_size=12)


@settings(max_examples=200)
@given(blocks, st.integers(1, 300), st.integers(0, 2**64 - 1), st.integers(0, 5))
def test_a_shuffled_epoch_is_the_one_that_the_document_tells(
    shape: list[tuple[int, int]], window: int, seed: int, epoch: int
) -> None:
    counts, weights = [n for n, _ in shape], [n for _, n in shape]
    first = np.cumsum([0, *counts])
    found = sample_numbers(Samples(first, np.array(weights, np.int64)).shuffled(window, seed, epoch), first)
    assert found == plain_shuffle(counts, weights, window, seed, epoch)
    assert sorted(found) == list(range(sum(counts)))


@settings(max_examples=200)
@given(blocks.filter(bool), st.integers(1, 300), st.integers(0, 99), st.data())
def test_a_view_takes_part_with_its_samples_as_often_as_they_stand_in_it(
    shape: list[tuple[int, int]], window: int, seed: int, data: st.DataObject
) -> None:
    counts, weights = [n for n, _ in shape], np.array([n for _, n in shape], np.int64)
    first = np.cumsum([0, *counts])
    view = data.draw(st.lists(st.integers(0, sum(counts) - 1), max_size=30))
    samples = Samples(first, weights, np.array(view, np.int64))
    assert sample_numbers(samples.in_order(window), first) == view
    assert sorted(sample_numbers(samples.shuffled(window, seed, 0), first)) == sorted(view)


def test_a_sequential_epoch_is_0_1_2() -> None:
    first = np.array([0, 4, 5, 9])
    for window in (1, 10, 1000):
        assert sample_numbers(Samples(first, np.array([40, 10, 40])).in_order(window), first) == list(range(9))


def test_epochs_and_seeds_differ() -> None:
    first = np.arange(0, 1001, 10)
    samples = Samples(first, np.full(100, 10))
    orders = {tuple(sample_numbers(samples.shuffled(200, s, e), first)) for s in range(3) for e in range(3)}
    assert len(orders) == 9


def test_a_window_as_large_as_the_dataset_is_a_uniform_shuffle() -> None:
    """Every sample lands in every tenth of the epoch about equally often: chi-square with 81 degrees of freedom."""
    first = np.arange(0, 101, 10)
    samples = Samples(first, np.full(10, 10))
    counts = np.zeros((10, 10))
    for epoch in range(2000):
        order = np.array(sample_numbers(samples.shuffled(10_000, 1, epoch), first))
        np.add.at(counts, (order // 10, np.arange(100) // 10), 1)
    expected = 2000
    assert ((counts - expected) ** 2 / expected).sum() < 81 + 5 * (2 * 81) ** 0.5
