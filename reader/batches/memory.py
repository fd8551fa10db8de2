"""Memory for decoded pages that is used again and again: fresh pages cost more than the decoding into them."""

from __future__ import annotations

import mmap

from recordio.errors import StorageError

_HUGE = 2 << 20
_KEPT = 2  # what one loader needs: a window being delivered, and one being loaded


class Arena:
    """Memory for one window after another."""

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None

    def reserve(self, nbytes: int) -> mmap.mmap:
        """Memory of at least that size; what was in it before is lost."""
        if self._memory is None or len(self._memory) < nbytes:
            try:
                self._memory = mmap.mmap(-1, -(-max(nbytes, 1) // _HUGE) * _HUGE)
            except (OSError, OverflowError) as error:
                raise StorageError(
                    f"cannot get {nbytes} bytes of memory for a window; ask for a smaller one"
                ) from error
            if hasattr(mmap, "MADV_HUGEPAGE"):
                self._memory.madvise(mmap.MADV_HUGEPAGE)
        return self._memory


class ArenaPool:
    """Arenas that nobody uses, for the next epoch. Safe for threads: a list's pop and append are atomic."""

    def __init__(self) -> None:
        self._free: list[Arena] = []

    def take(self) -> Arena:
        """An arena that was used before if there is one."""
        try:
            return self._free.pop()
        except IndexError:
            return Arena()

    def give_back(self, arena: Arena) -> None:
        if len(self._free) < _KEPT:
            self._free.append(arena)
