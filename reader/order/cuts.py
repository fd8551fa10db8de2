"""Where a sequence of blocks is cut: into windows, and into units."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from recordio.format.page import Indices


def window_cuts(
    weighed: Iterable[tuple[Indices, Indices]], budget: int, later: int | None = None
) -> tuple[Indices, Indices]:
    """(first block, first sample) of each window, then the totals, from the weight and the samples of each block.

    A new window begins wherever the weight of all blocks before it passes the budget, and again each `later` after
    that: the budget if None.
    """
    later = later or budget
    cuts: list[Indices] = []
    starts: list[Indices] = []
    last, block, weight, sample = -1, 0, 0, 0
    for weights, counts in weighed:
        weighs, samples = weight + np.cumsum(weights), sample + np.cumsum(counts)
        number = np.maximum((weighs - weights - budget) // later, -1) + 1
        first = np.flatnonzero(number != np.concatenate([[last], number[:-1]]))
        cuts.append(block + first)
        starts.append((samples - counts)[first])
        last, block, weight, sample = int(number[-1]), block + len(weights), int(weighs[-1]), int(samples[-1])
    return np.concatenate([*cuts, [block]]), np.concatenate([*starts, [sample]])


def unit_cuts(shards: Indices, weights: Indices, unit_bytes: int) -> Indices:
    """The first block of each unit, then the total. A unit is a run of blocks of one shard that are read together.

    `shards`: index of the first block of each shard.
    """
    number = np.cumsum(weights)
    number -= weights
    number -= np.repeat(number[shards[:-1]], np.diff(shards))
    number //= unit_bytes
    return np.union1d(shards, np.flatnonzero(np.diff(number)) + 1)
