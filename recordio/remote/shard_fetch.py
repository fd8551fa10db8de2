"""A range of a shard on its way: at its own offset on disk, or somewhere in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from recordio.remote.arena import Arena
from recordio.remote.helper_process import HelperDied, HelperProcess, RemoteError, asked
from recordio.remote.shard_parts import Parts, ShardParts

if TYPE_CHECKING:
    from recordio.remote.remote_shard import RemoteShard

_STARTS = 3


class ShardFetch:
    """A range of a shard that is fetched.

    Attributes:
        parts: the parts of the shard in it.
        unread: the numbers of those that are wanted, and in memory until they are read.
        in_memory: whether it arrives in memory.
        done: when it has arrived; raises RemoteError, HelperDied.
    """

    def __init__(self, shard: RemoteShard, parts: Parts, layout: ShardParts, wanted: Iterable[int]) -> None:
        self._shard = shard
        self._layout = layout
        self.parts = parts
        self.unread = set(wanted)
        self.in_memory = False
        self.done: Future[Any] = Future()
        self._begin, self._end = layout.extent(parts)
        self._arena: Arena | None = None
        self._start_in_arena = 0
        self._starts = 0
        self._is_counted = False
        self._path = ""  # of the shard's files in the cache

    @staticmethod
    def start_all(fetches: Sequence[ShardFetch], on_disk: bool = True) -> None:
        """Asks for ranges of one shard at once, again if the helper dies, in memory if the disk does not take them."""
        try:
            if on_disk and not all(fetch._is_counted for fetch in fetches):
                ShardFetch._count(fetches)
            for fetch in fetches:
                fetch._place(on_disk)
            futures = asked(lambda helper: helper.submit_all("fetch", [fetch._message(helper) for fetch in fetches]))
        except Exception as error:  # noqa: BLE001 - raised again by those who wait
            for fetch in fetches:
                fetch._ended(error)
        else:
            for fetch, future in zip(fetches, futures, strict=True):
                future.add_done_callback(fetch._arrived)

    @staticmethod
    def _count(fetches: Sequence[ShardFetch]) -> None:
        """Counts those for which the cache has room, if it has files for the shard."""
        cached, cache = fetches[0]._shard.cached(), fetches[0]._shard.storage.cache
        if cached is None or not cached.is_writable or cache is None:
            return
        count = cache.taken([fetch._nbytes for fetch in fetches])
        for fetch in fetches[:count]:
            fetch._is_counted, fetch._path = True, cached.path

    @property
    def _nbytes(self) -> int:
        return self._end - self._begin

    def _place(self, on_disk: bool) -> None:
        """Where it is to arrive."""
        self.in_memory = not (on_disk and self._is_counted)
        if self.in_memory and self._arena is None:
            self._arena = self._shard.storage.memory()
            self._start_in_arena = self._arena.reserve(self._nbytes)
        self._starts += 1

    def _uncount(self, nbytes: int | None = None) -> None:
        """So many bytes, or none at all, were not written to the cache."""
        cache, self._is_counted = self._shard.storage.cache, False
        if cache is not None:
            cache.gives_back(self._nbytes if nbytes is None else nbytes)

    def _message(self, helper: HelperProcess) -> tuple[Any, ...]:
        storage = self._shard.storage
        if self.in_memory:
            assert self._arena is not None
            place: tuple[Any, ...] = storage.attached(helper, self._arena), self._start_in_arena
        else:
            count = self.parts[1] - self.parts[0]
            if count == 3 and not self._layout.is_whole:
                count = 2  # pages have no numbers before the index is known
            place = self._path, self._layout.number(self.parts[0]), count
        store, checks = helper.store(storage.url, storage.options), self._layout.checks(self.parts)
        return store, self._shard.name, self._begin, self._end, place, checks

    def _arrived(self, answer: Future[Any]) -> None:
        try:
            self._handle(answer)
        except Exception as error:  # noqa: BLE001 - a warning may be one; nobody must wait for ever
            self._ended(error)

    def _handle(self, answer: Future[Any]) -> None:
        error = answer.exception()
        if isinstance(error, HelperDied) and self._starts < _STARTS:
            self.start_all([self], on_disk=not self.in_memory)
        elif isinstance(error, RemoteError) and error.kind in ("full", "removed") and not self.in_memory:
            self._uncount()
            self._shard.refused_by_disk(str(error), error.kind == "full")
            self.start_all([self], on_disk=False)
        else:
            if error is None and self._is_counted and (others := self._nbytes - answer.result()) > 0:
                self._uncount(others)
            self._ended(error)

    def _ended(self, error: BaseException | None) -> None:
        if error is not None and self._is_counted:
            self._uncount()
        self._shard.arrived(self, error)
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)

    def read(self, target: memoryview, offset: int) -> None:
        """Reads from where it arrived in memory."""
        assert self._arena is not None
        done, start = 0, self._start_in_arena + offset - self._begin
        while done < len(target):
            done += os.preadv(self._arena.descriptor, [target[done:]], start + done)

    def drop(self, number: int) -> None:
        """A part in memory is needed no more; the memory is given back with the last one."""
        self.unread.discard(number)
        if not self.unread and self._arena is not None:
            self._arena.free(self._start_in_arena, self._end - self._begin)
