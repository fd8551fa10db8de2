"""Whether two batches are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def same(mine: Any, other: Any) -> bool:
    """Whether two batches hold equal values of the same types."""
    if type(mine) is not type(other):
        return False
    if isinstance(mine, torch.Tensor):
        return mine.dtype == other.dtype and torch.equal(mine, other)
    if isinstance(mine, Mapping):
        return mine.keys() == other.keys() and all(same(mine[name], other[name]) for name in mine)
    if isinstance(mine, (list, tuple)):
        return len(mine) == len(other) and all(map(same, mine, other))
    return bool(mine == other)
