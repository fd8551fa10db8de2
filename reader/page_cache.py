"""Decoded pages, kept for random access."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from recordio.format.page import Pages


class PageCache:
    """An LRU cache of decoded pages. Thread-safe.

    Attributes:
        hits, misses: how often a page was here, or not.
    """

    def __init__(self, nbytes: int) -> None:
        self.hits = self.misses = 0
        self._free_nbytes = nbytes
        self._pages: OrderedDict[tuple[int, int, int], Pages] = OrderedDict()
        self._lock = threading.Lock()

    def holds(self, key: tuple[int, int, int]) -> bool:
        """Whether the page is here; it may go at any time."""
        return key in self._pages

    def __call__(self, key: tuple[int, int, int], make: Callable[[], Pages]) -> Pages:
        """The cached page, or a new one from `make`."""
        with self._lock:
            if key in self._pages:
                self.hits += 1
                self._pages.move_to_end(key)
                return self._pages[key]
        page = make()
        with self._lock:
            self.misses += 1
            if key not in self._pages:
                self._pages[key] = page
                self._free_nbytes -= page.nbytes
            while self._free_nbytes < 0 and len(self._pages) > 1:
                self._free_nbytes += self._pages.popitem(last=False)[1].nbytes
        return page
