"""The blocks of a dataset, as an order needs them."""

from __future__ import annotations

from dataclasses import dataclass

from recordio.format.page import Indices


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of a dataset, numbered through its shards.

    Attributes:
        first: int64 (blocks + 1,), the number of each block's first sample, then the total.
        nbytes: int64 (blocks,), the approximate size of each block in memory.
        shard: int64 (shards + 1,), the first block of each shard, then the total.
    """

    first: Indices
    nbytes: Indices
    shard: Indices
