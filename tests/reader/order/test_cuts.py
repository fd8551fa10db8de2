"""Where a sequence of blocks is cut into windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio.reader.order.blocks import Blocks
from recordio.reader.order.cuts import window_cuts
from recordio.reader.order.numbers import Numbers
from recordio.reader.order.shuffle import OrderOptions, order_of
from tests.effort import examples

MIB = 1 << 20
BLOCKS = Blocks(np.arange(101) * 10, np.full(100, MIB), np.array([0, 100]))  # 100 blocks of 1 MiB and 10 samples


def by_hand(weights: list[int], budget: int, later: int) -> Iterator[int]:
    """The first block of each window."""
    before, edge = 0, 0
    for block, weight in enumerate(weights):
        if before >= edge:
            yield block
            edge = edge or budget
            while edge <= before:
                edge += later
        before += weight


@examples(200)
@given(
    st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=12), max_size=5),
    st.integers(1, 150),
    st.none() | st.integers(1, 150),
)
def test_a_window_begins_where_the_weight_passes_an_edge(
    chunks: list[list[int]], budget: int, later: int | None
) -> None:
    weighed = [(np.array(chunk), np.full(len(chunk), 2)) for chunk in chunks]
    weights = [weight for chunk in chunks for weight in chunk]
    blocks, samples = window_cuts(weighed, budget, later)
    assert blocks.tolist() == [*by_hand(weights, budget, later or budget), len(weights)]
    assert samples.tolist() == [2 * block for block in blocks.tolist()]


@pytest.mark.parametrize(
    ("options", "grows", "windows"),
    [
        ({}, True, [8, 32, 32, 28]),
        ({}, False, [8] * 12 + [4]),
        ({"window_bytes": 25 * MIB}, True, [25] * 4),
        ({"window_samples": 500}, True, [50, 50]),
    ],
)
def test_in_order_only_the_first_window_is_small(options: dict[str, Any], grows: bool, windows: list[int]) -> None:
    assert blocks_in_windows(range(1000), options, grows) == windows


def test_of_a_list_too_only_the_first_window_is_small() -> None:
    """A cut falls behind the first sample of a block, which is then in two windows."""
    assert blocks_in_windows(np.arange(1000).reshape(100, 10)[::-1].ravel(), {}, True) == [8, 33, 33, 29]


def blocks_in_windows(numbers: Numbers, options: dict[str, Any], grows: bool) -> list[int]:
    order = order_of(BLOCKS, numbers, OrderOptions(**options), 0, grows=grows)
    return [len(order.window(number).blocks) for number in range(len(order.starts) - 1)]
