"""Decoded pages, kept for random access."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from recordio.format.page import Pages


class PageCache:
    """A cache of decoded pages, of which the least recently used one is dropped. Thread-safe.

    The kernels read single samples without asking here, and count that. Such a page is spared the first time, once.

    Attributes:
        misses: how often a page was not here.
    """

    def __init__(self, nbytes: int) -> None:
        self._hits = self.misses = 0
        self._free_nbytes = nbytes
        self._pages: OrderedDict[tuple[int, int, int], Pages] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def hits(self) -> int:
        """How often a page was here."""
        with self._lock:
            return self._hits + sum(_uses(page) for page in self._pages.values())

    def holds(self, key: tuple[int, int, int]) -> bool:
        """Whether the page is here; it may go at any time."""
        return key in self._pages

    def known(self, keys: Sequence[tuple[int, int, int]]) -> list[Pages | None]:
        """The pages that are here, and None for others: a third of the time of as many calls."""
        with self._lock:
            found = [self._pages.get(key) for key in keys]
            for key, page in zip(keys, found, strict=True):
                if page is not None:
                    self._hits += 1
                    self._pages.move_to_end(key)
        return found

    def __call__(self, key: tuple[int, int, int], make: Callable[[], Pages]) -> Pages:
        """The cached page, or a new one from `make`."""
        with self._lock:
            if key in self._pages:
                self._hits += 1
                self._pages.move_to_end(key)
                return self._pages[key]
        page = make()
        with self._lock:
            self.misses += 1
            if key not in self._pages:
                self._free_nbytes -= page.nbytes
                self._make_room()
                self._pages[key] = page
        return page

    def _make_room(self) -> None:
        while self._free_nbytes < 0 and self._pages:
            key, page = self._pages.popitem(last=False)
            if uses := _uses(page):
                self._hits += uses
                page.kernel.uses = 0
                self._pages[key] = page
            else:
                self._free_nbytes += page.nbytes


def _uses(page: Pages) -> int:
    """Reads by the kernels since they were counted last."""
    kernel = page.__dict__.get("kernel")  # none is made for this
    return 0 if kernel is None else int(kernel.uses)
