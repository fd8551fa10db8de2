"""A batch that a trainer holds before its training loop has seen it: the state of a loader must not count it.

Ray Train's `prepare_data_loader` wraps a loader in one that always fetches the next batch before it hands one over.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

_WRAPPERS = "ray.train.torch.train_loop_utils"  # their module


class HeldBatch:
    """What a wrapper holds of an epoch."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = weakref.ref(wrapper)
        self._before: dict[str, Any] | None = None

    def watch(self, batches: Iterator[Any], state: Callable[[], dict[str, Any]]) -> Iterator[Any]:
        """The batches; keeps the state from before the latest."""
        end = object()
        while True:
            self._before = state()
            batch = next(batches, end)
            if batch is end:
                return
            yield batch

    @property
    def before(self) -> dict[str, Any] | None:
        """The state from before the batch that the wrapper holds; None if it holds none."""
        wrapper = self._wrapper()
        return None if wrapper is None or wrapper.next_batch is None else self._before


def held_by_caller() -> HeldBatch | None:
    """For the `iter()` of a loader that was called by such a wrapper; None for any other caller."""
    caller = sys._getframe(2)
    # Others' locals are left alone: to look at them keeps them alive for as long as the function runs.
    if caller.f_globals.get("__name__") != _WRAPPERS or not hasattr(caller.f_locals.get("self"), "next_batch"):
        return None
    return HeldBatch(caller.f_locals["self"])
