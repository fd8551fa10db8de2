"""Reusable memory for decoded pages: fresh memory from the system costs more than decoding into it."""

from __future__ import annotations

import mmap
import os
import weakref
from typing import Any

from recordio.errors import StorageError
from recordio.storage.memory import new_memory

Memory = mmap.mmap | bytes
_MAX_IDLE = 2  # a loader has two windows in memory


class Arena:
    """Memory for one window after another, which begins at its start."""

    start = 0

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None

    def reserve(self, nbytes: int) -> mmap.mmap:
        """Memory of at least that size. The contents are undefined."""
        if self._memory is None or len(self._memory) < nbytes:
            try:
                self._memory = new_memory(nbytes)
            except (OSError, OverflowError) as error:
                raise StorageError(
                    f"cannot get {nbytes} bytes of memory for a window; ask for a smaller one"
                ) from error
        return self._memory


class ArenaPool:
    """Idle arenas for the next epoch of a dataset. Thread-safe: a list's pop and append are atomic."""

    def __init__(self) -> None:
        self._free: list[Arena] = []

    def take(self) -> Arena:
        """An idle arena, or a new one."""
        try:
            return self._free.pop()
        except IndexError:
            return Arena()

    def give_back(self, arena: Arena) -> None:
        if len(self._free) < _MAX_IDLE:
            self._free.append(arena)


_pools: weakref.WeakKeyDictionary[Any, ArenaPool] = weakref.WeakKeyDictionary()
os.register_at_fork(after_in_child=_pools.clear)  # the parent goes on using that memory


def arenas_of(dataset: Any) -> ArenaPool:
    """The idle arenas of an open dataset; they are freed with it."""
    return _pools.setdefault(dataset, ArenaPool())
