"""A shard in an object store: which of its parts are wanted, on their way, on disk or in memory."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recordio.errors import CorruptError, StorageError
from recordio.remote.arena import Arena
from recordio.remote.helper_process import HelperDied, HelperProcess, RemoteError, asked
from recordio.remote.remote_stats import count_read
from recordio.remote.shard_cache import CachedShard, Flags
from recordio.remote.shard_parts import Parts, ShardParts
from recordio.storage.base import File, Range, ShardPlace

if TYPE_CHECKING:
    from recordio.remote.remote_storage import RemoteStorage

_STARTS = 3
_READS = 100


class Fetch:
    """A range on its way, and where it arrives: at its own offset on disk, or somewhere in memory.

    Attributes:
        parts: the parts of the shard in it.
        done: when it has arrived; raises RemoteError, HelperDied.
    """

    def __init__(self, shard: RemoteShard, parts: Parts, layout: ShardParts, wanted: Iterable[int]) -> None:
        self._shard = shard
        self._layout = layout
        self.parts = parts
        self.begin, self.end = layout.extent(parts)
        self.done: Future[Any] = Future()
        self.unread = set(wanted)
        self._cached: CachedShard | None = None
        self._arena: Arena | None = None
        self.start_in_arena = 0
        self._tries = 0

    def start(self, on_disk: bool = True) -> None:
        """Asks for it, again if the helper dies, in memory if the disk is full."""
        storage, nbytes = self._shard.storage, self.end - self.begin
        self._cached = self._shard.cached() if on_disk and storage.cache and storage.cache.takes(nbytes) else None
        if self._cached is None and self._arena is None:
            self._arena = storage.memory()
            self.start_in_arena = self._arena.reserve(nbytes)
        self._tries += 1
        try:
            asked(self._send).add_done_callback(self._arrived)
        except Exception as error:  # noqa: BLE001 - raised again by those who wait
            self.done.set_exception(error)

    def _send(self, helper: HelperProcess) -> Future[Any]:
        storage, layout, flags = self._shard.storage, self._layout, None
        if self._cached is None:
            assert self._arena is not None
            target, at = self._arena.descriptor, self.start_in_arena
        else:
            target, at = self._cached.data, self.begin
            numbers = layout.numbers(self.parts)
            flags = (
                storage.attached(helper, self._cached.flags_file),
                self._cached.flag_offset(numbers[0]),
                len(numbers),
            )
        return helper.submit(
            "fetch",
            helper.store(storage.url, storage.options),
            self._shard.name,
            self.begin,
            self.end,
            storage.attached(helper, target),
            at,
            flags,
            layout.checks(self.parts),
        )

    def _arrived(self, answer: Future[Any]) -> None:
        error = answer.exception()
        if isinstance(error, HelperDied) and self._tries < _STARTS:
            self.start(self._cached is not None)
        elif isinstance(error, RemoteError) and error.kind == "full" and self._cached is not None:
            storage = self._shard.storage
            assert storage.cache is not None
            storage.cache.is_full = True
            self.start(on_disk=False)
        else:
            self._shard.arrived(self, error)

    @property
    def in_memory(self) -> bool:
        return self._cached is None

    def read(self, target: memoryview, offset: int) -> None:
        """Reads from where it arrived in memory."""
        assert self._arena is not None
        _pread(self._arena.descriptor, target, self.start_in_arena + offset - self.begin)

    def free(self) -> None:
        if self._arena is not None:
            self._arena.free(self.start_in_arena, self.end - self.begin)


class RemoteShard:
    """What is known of a shard and kept of it. Thread-safe.

    Attributes:
        storage: the folder that it lies in.
        name: its name there.
        place: what the manifest says of it.
    """

    def __init__(self, storage: RemoteStorage, name: str, place: ShardPlace) -> None:
        self.storage = storage
        self.name = name
        self.place = place
        self._lock = threading.RLock()
        self._cached: CachedShard | None = None
        self._flags: Flags = np.zeros(0, np.uint8)
        self._parts = ShardParts(place, None)
        self._fetches: dict[int, Fetch] = {}  # by the number of each part that is on its way, or in memory

    def parts(self) -> ShardParts:
        """With its pages as soon as the index is known."""
        if not self._parts.is_whole and (index := self.place.index()) is not None:
            self._parts = ShardParts(self.place, index)
        return self._parts

    def cached(self) -> CachedShard | None:
        """Its files in the cache; None if there is none, or no files can be made there."""
        cache = self.storage.cache
        with self._lock:
            if self._cached is None and cache is not None:
                try:
                    self._cached = cache.shard(self.place.digest, self.place.nbytes)
                except OSError:
                    cache.is_full = True
            return self._cached

    def _present(self, parts: ShardParts) -> npt.NDArray[Any]:
        """(parts,): not 0 where a part is on disk."""
        count = len(parts) if parts.is_whole else 2
        if len(self._flags) != count and (cached := self.cached()) is not None:
            self._flags = cached.flags(count)
        if len(self._flags) != count:
            return np.zeros(len(parts), np.uint8)
        if not parts.is_whole:
            return np.array([self._flags[0], 0, self._flags[1]])
        return parts.arranged(self._flags)

    def want(self, ranges: Iterable[Range]) -> None:
        """Has what is missing of these ranges fetched. Asks for nothing twice. Raises nothing."""
        parts = self.parts()
        missing = parts.touched(ranges)
        if not parts.is_whole:
            missing[1:-1] = False
        started = []
        with self._lock:
            missing &= self._present(parts) == 0
            for part in np.flatnonzero(missing).tolist():
                missing[part] = parts.number(part) not in self._fetches
            for run in parts.requests(missing):
                numbers = [n for n, part in zip(parts.numbers(run), range(*run), strict=True) if missing[part]]
                fetch = Fetch(self, run, parts, numbers)
                self._fetches.update(dict.fromkeys(numbers, fetch))
                started.append(fetch)
        for fetch in started:
            fetch.start()

    def arrived(self, fetch: Fetch, error: BaseException | None) -> None:
        """A fetch has ended."""
        with self._lock:
            if error is not None or not fetch.in_memory:
                for number in fetch.unread:
                    self._fetches.pop(number, None)
        if error is None:
            fetch.done.set_result(None)
        else:
            fetch.done.set_exception(error)

    def read(self, target: memoryview, offset: int) -> None:
        """Fills the target with what lies there. Raises CorruptError, StorageError."""
        parts = self.parts()
        run = parts.of(offset, len(target))
        count_read(len(target))
        if not parts.is_whole and run != (0, 1) and run != (2, 3):
            try:
                data, _, _ = self.storage.ask("get", self.name, offset, offset + len(target), len(target))
            except FileNotFoundError:
                raise CorruptError("the shard is missing").at(file=self.name) from None
            target[:] = data
            return
        for _ in range(_READS):
            if self._read(target, offset, parts, run):
                return
        raise StorageError(f"other readers took what was fetched, {_READS} times").at(file=self.name)

    def _read(self, target: memoryview, offset: int, parts: ShardParts, run: Parts) -> bool:
        """Whether all was there, or has arrived; False if another reader took a part out of memory meanwhile."""
        end = offset + len(target)
        if self._cached is not None and self._present(parts)[slice(*run)].all():
            self._from_disk(target, offset)
            return True
        self.want([(offset, len(target))])
        with self._lock:
            found = [self._fetches.get(number) for number in parts.numbers(run)]
        for fetch in dict.fromkeys(found):
            if fetch is not None:
                self._wait(fetch)
        present = self._present(parts)[slice(*run)]
        for part, fetch, on_disk in zip(range(*run), found, present.tolist(), strict=True):
            low, high = max(offset, int(parts.bounds[part])), min(end, int(parts.bounds[part + 1]))
            piece = target[low - offset : high - offset]
            if on_disk:
                self._from_disk(piece, low)
            elif fetch is None or not self._from_memory(fetch, parts, part, piece, low):
                return False
        return True

    def _from_disk(self, target: memoryview, offset: int) -> None:
        assert self._cached is not None
        _pread(self._cached.data, target, offset)

    def _from_memory(self, fetch: Fetch, parts: ShardParts, part: int, target: memoryview, offset: int) -> bool:
        """Reads a part that is in memory, which is given back then. Whether it was still there."""
        number = parts.number(part)
        with self._lock:
            if number not in fetch.unread:
                return False
            fetch.read(target, offset)
            if number > 1 or len(target) == parts.bounds[part + 1] - parts.bounds[part]:
                fetch.unread.discard(number)
                self._fetches.pop(number, None)
                if not fetch.unread:
                    fetch.free()
        return True

    def _wait(self, fetch: Fetch) -> None:
        try:
            fetch.done.result()
        except RemoteError as error:
            raise self.storage.explained(error, self.name) from error
        except HelperDied as error:
            raise StorageError("the helper process that reads from the network died again and again") from error

    def discard(self, offset: int, nbytes: int) -> bool:
        """Drops what is on disk of this range. Whether there was anything."""
        with self._lock:
            parts = self.parts()
            run = parts.of(offset, nbytes)
            if self._cached is None or not self._present(parts)[slice(*run)].any():
                return False
            numbers = parts.numbers(run)
            self._flags[numbers] = 0
            return True

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way, or in memory."""
        return not self._fetches

    def close(self) -> None:
        """Closes its files in the cache."""
        if self._cached is not None:
            self.storage.detach(self._cached.data)
            self.storage.detach(self._cached.flags_file)
            self._cached.close()
            self._cached = None


class RemoteShardFile(File):
    """A shard in an object store as a file."""

    def __init__(self, shard: RemoteShard) -> None:
        self.name = shard.name
        self.nbytes = shard.place.nbytes
        self.identity = shard.place.digest
        self._shard = shard

    def _read(self, offset: int, nbytes: int) -> bytes:
        data = bytearray(nbytes)
        self._shard.read(memoryview(data), offset)
        return bytes(data)

    def _read_into(self, target: memoryview, offset: int, direct: bool) -> int:
        nbytes = max(0, min(len(target), self.nbytes - offset))
        self._shard.read(target[:nbytes], offset)
        return nbytes

    def will_need(self, ranges: Iterable[Range]) -> None:
        self._shard.want(ranges)

    def wont_need(self, offset: int, nbytes: int) -> None:
        pass

    def discard(self, offset: int, nbytes: int) -> bool:
        return self._shard.discard(offset, nbytes)

    def map(self) -> mmap.mmap | bytes:
        raise StorageError("an object in a store cannot be mapped").at(file=self.name)

    def close(self) -> None:
        pass


def _pread(descriptor: int, target: memoryview, offset: int) -> None:
    """Raises StorageError where the file is shorter."""
    done = 0
    while done < len(target):
        count = os.preadv(descriptor, [target[done:]], offset + done)
        if not count:
            raise StorageError("a file of the cache was cut; `recordio cache verify` mends it")
        done += count
