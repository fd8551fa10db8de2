"""The memory that reads go through: a buffer for each thread."""

from __future__ import annotations

import threading
from mmap import mmap

from recordio.storage.base import DIRECT_ALIGNMENT
from recordio.storage.memory import new_memory

MAX_SCRATCH = 4 << 20  # larger buffers are not kept

_idle: list[mmap] = []  # thread-safe: a list's pop and append are atomic


class _Buffer:
    """The memory of a thread. A later thread goes on with it: to touch new memory first takes as long as to fill it."""

    def __init__(self) -> None:
        try:
            self.memory = _idle.pop()
        except IndexError:
            self.memory = new_memory(DIRECT_ALIGNMENT)

    def __del__(self, idle: list[mmap] = _idle) -> None:  # globals are gone when the interpreter ends
        if len(self.memory) <= 1 << 20 and len(idle) < 8:
            idle.append(self.memory)


_threads = threading.local()


def scratch(nbytes: int) -> memoryview:
    """Aligned memory for a read; the next read of this thread overwrites it."""
    try:
        own: _Buffer = _threads.buffer
    except AttributeError:
        own = _threads.buffer = _Buffer()
    if len(own.memory) >= nbytes:
        return memoryview(own.memory)[:nbytes]
    memory = new_memory(nbytes)
    if nbytes <= MAX_SCRATCH:
        own.memory = memory
    return memoryview(memory)[:nbytes]
