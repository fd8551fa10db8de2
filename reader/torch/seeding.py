"""The loader behind torch's: it takes its seed from torch unless it is given one, and pins its batches if asked to."""

from __future__ import annotations

from typing import Any

import torch

from recordio.errors import SchemaError
from recordio.reader.loading.loader import DataLoader
from recordio.reader.order.ranks import found_ranks
from recordio.reader.torch.pinning import to_pinned
from recordio.reader.view import DatasetView


def default_seed(generator: torch.Generator | None, world_size: int) -> int:
    """The seed if none is given. No number is drawn.

    Processes of one job must agree on the order, and may have different seeds: there it is 0, as with torch's
    DistributedSampler.
    """
    if generator is not None:
        return generator.initial_seed()
    return 0 if world_size > 1 or _has_companions() else torch.initial_seed()


class SeededLoader(DataLoader):
    """recordio.DataLoader, whose seed is by default that of a torch.Generator, or torch's own.

    Attributes:
        pins: whether its threads put batches into pinned memory.
    """

    def __init__(self, dataset: DatasetView, generator: torch.Generator | None, **options: Any) -> None:
        super().__init__(dataset, **options)
        self._generator = generator

    @property
    def pins(self) -> bool:
        return self._finish is not None

    @pins.setter
    def pins(self, value: bool) -> None:
        self._finish = to_pinned if value else None

    def _default_seed(self) -> int:
        return default_seed(self._generator, self.world_size)

    @property
    def _adopts_seeds(self) -> bool:
        return super()._adopts_seeds and self._generator is None


def _has_companions() -> bool:
    try:
        return found_ranks()[1] > 1
    except SchemaError:  # a launcher's variables make no sense, and this loader need not know the ranks
        return True
