"""A shard in an object store: which of its parts are wanted, on their way, on disk or in memory."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recordio.errors import CorruptError, StorageError
from recordio.format.page import Indices
from recordio.remote.giving_up import wait_for
from recordio.remote.helper_process import HelperDied, RemoteError
from recordio.remote.remote_stats import count_discarded, count_read
from recordio.remote.shard_cache import CachedShard, ShardCache
from recordio.remote.shard_fetch import ShardFetch
from recordio.remote.shard_parts import Parts, ShardParts
from recordio.storage.base import File, Range, ShardPlace

if TYPE_CHECKING:
    from recordio.remote.remote_storage import RemoteStorage

_READS = 100
SMALL_NBYTES = 256 << 10  # a shard of about a block comes as a whole: two requests more would take longer


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
        self._uses_cache = storage.cache is not None
        self._parts = ShardParts(place, None)
        self._fetches: dict[int, ShardFetch] = {}  # by the number of each part that is on its way, or in memory
        self._comes_whole = False

    def parts(self) -> ShardParts:
        """With its pages as soon as the index is known."""
        if not self._parts.is_whole and (index := self.place.index()) is not None:
            parts = ShardParts(self.place, index)
            if self._comes_whole and (cached := self.cached()) is not None:
                cached.mark_good(parts.checks((1, len(parts) - 1)))
            self._parts = parts
        return self._parts

    @property
    def _cache(self) -> ShardCache | None:
        """The cache, if this shard's files in it are of use."""
        return self.storage.cache if self._uses_cache else None

    def cached(self) -> CachedShard | None:
        """Its files in the cache; None if there are none, or they are of no use."""
        cache = self._cache
        return None if cache is None else cache.shard(self.place.digest, self.place.nbytes, self.place.pages + 2)

    @property
    def is_whole(self) -> bool:
        """Whether every part is in the cache, as far as is known."""
        cache = self._cache
        return cache is not None and cache.is_whole(self.place.digest)

    def refused_by_disk(self, why: str, is_full: bool) -> None:
        """The cache does not take what was fetched: its disk is full or fails, or the shard's files were removed."""
        self._uses_cache = False
        if is_full and self.storage.cache is not None:
            self.storage.cache.refused(why, full=True)

    def present(self, parts: ShardParts, run: Parts) -> npt.NDArray[np.bool_]:
        """bool (n,): which parts of a run are on disk."""
        cached = self.cached()
        if cached is None:
            return np.zeros(run[1] - run[0], bool)
        if run[0] > 0 and run[1] < len(parts):  # pages alone
            return cached.present(run[0] + 1, run[1] + 1)
        numbers = parts.numbers(run)
        first = int(numbers.min())
        found: npt.NDArray[np.bool_] = cached.present(first, int(numbers.max()) + 1)[numbers - first]
        return found

    def want(self, ranges: Iterable[Range]) -> list[ShardFetch]:
        """Has what is missing of these ranges fetched, and asks for nothing twice: what is asked for now."""
        if self.is_whole:
            return []
        parts = self.parts()
        missing = parts.touched(ranges)
        if not parts.is_whole:
            missing[1:-1] = False
        if not missing.any() or self.storage.is_offline:
            return []
        first, last = np.flatnonzero(missing)[[0, -1]].tolist()
        started = []
        with self._lock:
            missing[first : last + 1] &= ~self.present(parts, (first, last + 1))
            if not missing.any() and self.cached() is not None and (cache := self._cache) is not None:
                cache.look_whether_whole(self.place.digest)
            for part in np.flatnonzero(missing).tolist():
                missing[part] = parts.number(part) not in self._fetches
            for run in self._requests(parts, missing):
                numbers = [parts.number(part) for part in range(*run) if missing[part]]
                fetch = ShardFetch(self, run, parts, numbers)
                self._fetches.update(dict.fromkeys(numbers, fetch))
                started.append(fetch)
        if started:
            ShardFetch.start_all(started)
        return started

    def _requests(self, parts: ShardParts, missing: npt.NDArray[np.bool_]) -> Iterable[Parts]:
        """The runs of parts to fetch: everything of a small shard for its header and index, if that is kept."""
        if parts.is_whole or self.place.nbytes > SMALL_NBYTES or not missing.any() or self.cached() is None:
            return parts.requests(missing, self.storage.max_gap)
        self._comes_whole = True
        missing[[0, -1]] = [number not in self._fetches for number in (0, 1)]
        return [(0, len(parts))]

    def arrived(self, fetch: ShardFetch, error: BaseException | None) -> None:
        """A fetch has ended."""
        if error is not None or not fetch.in_memory:
            with self._lock:
                for number in fetch.unread:
                    self._fetches.pop(number, None)

    def read(self, target: memoryview, offset: int) -> None:
        """Fills the target with what lies there. Raises CorruptError, StorageError."""
        if not target:
            return
        count_read(len(target))
        if self._read_whole(target, offset):
            return
        parts = self.parts()
        run = parts.of(offset, len(target))
        if parts.are_numbered(run):
            for _ in range(_READS):
                if self._read_cached(target, offset, parts, run) or self._read(target, offset, parts, run):
                    return
            raise StorageError(f"other readers took what was fetched, {_READS} times").at(file=self.name)
        try:
            data, _, _ = self.storage.ask("get", self.name, offset, offset + len(target), len(target))
        except FileNotFoundError:
            raise CorruptError("the shard is missing").at(file=self.name) from None
        target[:] = data

    def _read_whole(self, target: memoryview, offset: int) -> bool:
        """Whether every part was on disk."""
        cache = self._cache
        whole = None if cache is None else cache.whole(self.place.digest, self.place.nbytes)
        return whole is not None and whole.read(target, offset)

    def _read_cached(self, target: memoryview, offset: int, parts: ShardParts, run: Parts) -> bool:
        """Whether all was on disk."""
        if not self.present(parts, run).all():
            return False
        cached = self.cached()
        if cached is not None and cached.read(target, offset):
            return True
        self._uses_cache = False  # the file was cut, or the disk fails
        return False

    def _read(self, target: memoryview, offset: int, parts: ShardParts, run: Parts) -> bool:
        """Whether all has arrived; False if some of it went elsewhere meanwhile."""
        end = offset + len(target)
        self.want([(offset, len(target))])
        if self.storage.is_offline:
            raise self._missing(parts)
        with self._lock:
            found = [self._fetches.get(number) for number in parts.numbers(run).tolist()]
        for fetch in dict.fromkeys(found):
            if fetch is not None:
                self.wait(fetch)
        present = self.present(parts, run)
        for part, fetch, on_disk in zip(range(*run), found, present.tolist(), strict=True):
            low, high = max(offset, int(parts.bounds[part])), min(end, int(parts.bounds[part + 1]))
            piece = target[low - offset : high - offset]
            if on_disk:
                if not self._read_cached(piece, low, parts, (part, part + 1)):
                    return False
            elif fetch is None or not self._from_memory(fetch, parts, part, piece, low):
                return False
        return True

    def _from_memory(self, fetch: ShardFetch, parts: ShardParts, part: int, target: memoryview, offset: int) -> bool:
        """Reads a part that is in memory, which is given back then. Whether it was still there."""
        number = parts.number(part)
        if not fetch.in_memory:
            self._uses_cache = False  # it was written, and is not there: the files were removed
            return False
        with self._lock:
            if number not in fetch.unread:
                return False
            fetch.read(target, offset)
            if number > 1 or len(target) == parts.bounds[part + 1] - parts.bounds[part]:
                self._drop(number)
        return True

    def give_back(self, fetch: ShardFetch) -> bool:
        """Whether it has arrived in memory, which is given back."""
        with self._lock:
            for number in list(fetch.unread) if fetch.in_memory else []:
                self._drop(number)
        return fetch.in_memory

    def _drop(self, number: int) -> None:
        """Gives back a part in memory."""
        if (fetch := self._fetches.pop(number, None)) is not None:
            fetch.drop(number)

    def wait(self, fetch: ShardFetch) -> None:
        """Until it has arrived. Raises CorruptError, StorageError."""
        wait_for(fetch.done)
        try:
            fetch.done.result()
        except RemoteError as error:
            raise self.storage.explained(error, self.name) from error
        except HelperDied as error:
            raise StorageError("the helper process that reads from the network died again and again") from error

    def _missing(self, parts: ShardParts) -> StorageError:
        """The error of a read without network."""
        count, every = int((~self.present(parts, (0, len(parts)))).sum()), len(parts)
        what = f"{count:,} of {every:,} pages are" if parts.is_whole else "its index is"
        text = (
            f"{what} not in the cache, and offline=True asks nothing of the network; `recordio cache fill` fetches all"
        )
        return StorageError(text).at(file=self.name)

    def discard(self, offset: int, nbytes: int) -> bool:
        """Drops what is kept of this range. Whether reading it again may give other bytes."""
        parts = self.parts()
        run = parts.of(offset, nbytes)
        if not parts.are_numbered(run):
            return False
        numbers = parts.numbers(run)
        with self._lock:
            was_whole = self.is_whole  # by now another process may have cleared these parts
            on_disk = bool(self.present(parts, run).any())
            if on_disk or was_whole:
                self._clear(numbers)
            for number in numbers[numbers < 2].tolist():
                if (fetch := self._fetches.get(number)) is not None and fetch.done.done():
                    self._drop(number)
        unchecked = numbers.min() < 2  # header and index are not checked when they arrive
        count_discarded(on_disk or unchecked)
        return on_disk or was_whole or unchecked

    def _clear(self, numbers: Indices) -> None:
        if self.storage.cache is not None:
            self.storage.cache.found_damaged(self.place.digest)
        cached = self.cached()
        for number in numbers.tolist():
            if cached is None or not cached.clear(number, number + 1):
                self._uses_cache = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way, or in memory."""
        return not self._fetches


class RemoteShardFile(File):
    """A shard in an object store as a file.

    Attributes:
        shard: what is kept of it.
    """

    def __init__(self, shard: RemoteShard) -> None:
        self.name = shard.name
        self.nbytes = shard.place.nbytes
        self.identity = shard.place.digest
        self.shard = shard

    def _read(self, offset: int, nbytes: int) -> bytes:
        data = bytearray(nbytes)
        self.shard.read(memoryview(data), offset)
        return bytes(data)

    def _read_into(self, target: memoryview, offset: int, direct: bool) -> int:
        nbytes = max(0, min(len(target), self.nbytes - offset))
        self.shard.read(target[:nbytes], offset)
        return nbytes

    @property
    def is_here(self) -> bool:
        return self.shard.is_whole

    def will_need(self, ranges: Iterable[Range]) -> None:
        self.shard.want(ranges)

    def wont_need(self, offset: int, nbytes: int) -> None:
        pass

    def discard(self, offset: int, nbytes: int) -> bool:
        return self.shard.discard(offset, nbytes)

    def map(self) -> mmap.mmap | bytes:
        raise StorageError("an object in a store cannot be mapped").at(file=self.name)

    def close(self) -> None:
        pass
