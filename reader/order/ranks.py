"""Ranks: which of how many processes of a training job this one is, and the share of an epoch that it delivers.

The samples of an epoch have positions 0, 1, 2, ... Rank r of w delivers the positions p with p % w == r, and a global
batch is a run of positions. So a global batch does not depend on the number of ranks, and a position is all it takes to
resume exactly.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from recordio.arguments import choice
from recordio.errors import SchemaError
from recordio.format.page import Indices
from recordio.reader.order.shuffle import Mask, Order, WindowPlan

_LAUNCHERS = (
    ("RANK", "WORLD_SIZE"),  # torchrun, Accelerate, DeepSpeed
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
)


def resolve_ranks(rank: int | None, world_size: int | None, ranks: Literal["auto"] | None) -> tuple[int, int]:
    """(rank, world size) from the arguments of a loader, (0, 1) by default. Raises SchemaError."""
    choice("ranks", ranks, ("auto", None))
    if ranks == "auto" and rank is None and world_size is None:
        return found_ranks()
    if (rank is None) != (world_size is None):
        raise SchemaError("rank and world_size belong together: give both, or ranks='auto'")
    return checked_ranks(rank or 0, 1 if world_size is None else world_size)


def found_ranks() -> tuple[int, int]:
    """(rank, world size): from torch.distributed where it runs, else from the launcher's variables, else (0, 1).

    Raises SchemaError when the variables make no sense.
    """
    if (ranks := distributed_ranks()) is not None:
        return ranks
    for names in _LAUNCHERS:
        rank, world_size = map(os.environ.get, names)
        if rank is not None and world_size is not None:
            return checked_ranks(rank, world_size, names=" and ".join(names))
    return 0, 1


def distributed_ranks() -> tuple[int, int] | None:
    """(rank, world size) where torch.distributed runs."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)  # imported by whoever uses it
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return None


def checked_ranks(rank: object, world_size: object, names: str = "rank and world_size") -> tuple[int, int]:
    """Both as integers. Raises SchemaError, which calls them by their `names`."""
    try:
        pair = int(str(rank)), int(str(world_size))
    except ValueError:
        pair = -1, 0
    if not 0 <= pair[0] < pair[1]:
        raise SchemaError(f"{names} are {rank!r} and {world_size!r}: expected integers, 0 <= rank < world size")
    return pair


@dataclass(frozen=True, slots=True)
class RankShare:
    """The positions of one rank: all from `start` to `stop` - 1 that are `rank` modulo `world`.

    Positions beyond the end of the epoch are padding: they repeat its first samples.

    Attributes:
        run: how many neighbouring positions a rank gets at a time: position p is of rank p // run % world. Runs of more
            than one position are not padded.
    """

    rank: int
    world: int
    start: int
    stop: int
    run: int = 1

    @classmethod
    def of(cls, rank: int, world: int, start: int, total: int, batch_size: int, *, drop_last: bool, even: bool) -> Self:
        """The rest of an epoch of `total` samples from `start`.

        `drop_last` keeps whole global batches only; `even` pads, so that every rank has equally many samples.
        """
        left = total - start
        if drop_last:
            left -= left % (batch_size * world)
        elif even:
            left += -left % world
        return cls(rank, world, start, start + left)

    @property
    def first(self) -> int:
        """The first position."""
        turn = self.run * self.world
        own = self.start - self.start % turn + self.rank * self.run
        return self.start if own <= self.start < own + self.run else own if own > self.start else own + turn

    def __len__(self) -> int:
        return max(0, self._before(self.stop) - self._before(self.start))

    def _before(self, position: int) -> int:
        """The number of positions of this rank before a position."""
        turns, rest = divmod(position, self.run * self.world)
        return turns * self.run + min(self.run, max(0, rest - self.rank * self.run))

    def mask(self, position: Indices) -> Mask:
        """bool (n,): which of these positions are in the share."""
        inside = (position >= self.start) & (position < self.stop)
        if self.world == 1:
            return inside
        turn = position if self.run == 1 else position // self.run
        mine: Mask = inside & (turn % self.world == self.rank)
        return mine

    def lanes(self, lanes: int) -> range | None:
        """The lanes that contain the positions; None for all lanes."""
        common = math.gcd(lanes, self.world) if self.run == 1 else 1
        return None if common == 1 else range(self.rank % common, lanes, common)

    def padding(self, total: int) -> Iterator[int]:
        """The padding, as the positions whose samples it repeats."""
        for position in range(self.first, self.stop, self.world)[max(0, -(-(total - self.first) // self.world)) :]:
            yield position % total


def window_plans(order: Order, share: RankShare) -> Iterator[WindowPlan]:
    """The samples of a rank, window by window."""
    lanes, total = share.lanes(order.lanes), int(order.starts[-1])
    for number in windows_from(order, share.start):
        if order.starts[number] >= share.stop:
            break
        plan = order.window(number, lanes)
        plan = plan.only(share.mask(plan.position))
        if len(plan):
            yield plan
    for position in share.padding(total):
        yield one_sample(order, position)


def window_blocks(order: Order, share: RankShare) -> Iterator[Indices]:
    """int64 (b,), ascending: the blocks that a rank needs of each window: of those of `window_plans`, none missing.

    To look far ahead: no sample is planned. There are more blocks than needed if the world size does not divide the
    lanes, and windows or ends of windows of which the rank needs nothing.
    """
    lanes = share.lanes(order.lanes)
    for number in windows_from(order, share.start):
        if order.starts[number] >= share.stop:
            break
        yield order.blocks(number, lanes)


def windows_from(order: Order, start: int) -> range:
    """The window that holds this position, and all later ones."""
    return range(max(0, int(np.searchsorted(order.starts, start, side="right")) - 1), len(order.starts) - 1)


def one_sample(order: Order, position: int) -> WindowPlan:
    """The plan of a window with the sample of this position only."""
    plan = order.window(windows_from(order, position)[0])
    return plan.only(plan.position == position)
