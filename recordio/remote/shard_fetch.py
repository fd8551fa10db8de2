"""A range of a shard on its way: at its own offset on disk, or somewhere in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
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
        self._counted = 0

    def start(self, on_disk: bool = True) -> None:
        """Asks for it, again if the helper dies, in memory if the disk does not take it."""
        self.in_memory = not (on_disk and (self._counted or self._is_counted()))
        if self.in_memory and self._arena is None:
            self._arena = self._shard.storage.memory()
            self._start_in_arena = self._arena.reserve(self._end - self._begin)
        self._starts += 1
        try:
            asked(self._send).add_done_callback(self._arrived)
        except Exception as error:  # noqa: BLE001 - raised again by those who wait
            self._ended(error)

    def _is_counted(self) -> bool:
        """Whether the cache has files for the shard, and room for this."""
        cached, cache = self._shard.cached(), self._shard.storage.cache
        if cached is None or not cached.is_writable or cache is None or not cache.takes(self._end - self._begin):
            return False
        self._counted = self._end - self._begin
        self._path = cached.path
        return True

    def _uncount(self) -> None:
        cache, self._counted = self._shard.storage.cache, 0
        if cache is not None:
            cache.gives_back(self._end - self._begin)

    def _send(self, helper: HelperProcess) -> Future[Any]:
        storage = self._shard.storage
        if self.in_memory:
            assert self._arena is not None
            place: tuple[Any, ...] = storage.attached(helper, self._arena), self._start_in_arena
        else:
            place = self._path, self._layout.number(self.parts[0]), self.parts[1] - self.parts[0]
        store, checks = helper.store(storage.url, storage.options), self._layout.checks(self.parts)
        return helper.submit("fetch", store, self._shard.name, self._begin, self._end, place, checks)

    def _arrived(self, answer: Future[Any]) -> None:
        try:
            self._handle(answer)
        except Exception as error:  # noqa: BLE001 - a warning may be one; nobody must wait for ever
            self._ended(error)

    def _handle(self, answer: Future[Any]) -> None:
        error = answer.exception()
        if isinstance(error, HelperDied) and self._starts < _STARTS:
            self.start(not self.in_memory)
        elif isinstance(error, RemoteError) and error.kind in ("full", "removed") and not self.in_memory:
            self._uncount()
            self._shard.refused_by_disk(str(error), error.kind == "full")
            self.start(on_disk=False)
        else:
            if self._counted and (error is not None or not answer.result()):
                self._uncount()
            self._ended(error)

    def _ended(self, error: BaseException | None) -> None:
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
