"""The dataset as blocks: its manifest, a bounded number of open shards, a bounded cache of decoded pages, and windows.

Nothing here knows about order, views or batches. Samples and blocks are numbered through the whole dataset.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import weakref
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from recordio.errors import CorruptError, DatasetError, RecordIOError, SchemaError, StorageError
from recordio.format.layout import MAX_MANIFEST_NBYTES
from recordio.format.manifest import FILE_NAME, Manifest, ShardEntry
from recordio.format.page import Indices, Pages
from recordio.format.schema import Columns
from recordio.reader.batches.memory import ArenaPool
from recordio.reader.open_shard import Shard, Verify, check_footer, grouped, nothing, scatter
from recordio.reader.order.shuffle import PLAN_NBYTES, Blocks
from recordio.storage.local import File, Storage


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a dataset is read.

    Attributes:
        fields: the fields to read, None for all of them.
        verify: "first" checks a page the first time this process touches it, "always" each time, "never" not at all.
        io: "mmap" reads from memory maps, "pread" with positioned reads: slower, but a file that is cut while it is
            read gives an error where a map would kill the process; for network disks.
        cache_bytes: decoded pages kept for random access, at most.
        max_open_shards: shards open at a time, at most; None for a quarter of the files that the process may open, up
            to 256.
    """

    fields: tuple[str, ...] | None = None
    verify: Verify = "first"
    io: Literal["mmap", "pread"] = "mmap"
    cache_bytes: int = 128 << 20
    max_open_shards: int | None = None

    def __post_init__(self) -> None:
        if self.verify not in ("first", "always", "never"):
            raise SchemaError(f"unknown verify {self.verify!r}: expected 'first', 'always' or 'never'")
        if self.io not in ("mmap", "pread"):
            raise SchemaError(f"unknown io {self.io!r}: expected 'mmap' or 'pread'")
        if self.cache_bytes < 0 or (self.max_open_shards is not None and self.max_open_shards < 1):
            raise SchemaError("cache_bytes must not be negative, max_open_shards at least 1")


class PageCache:
    """Decoded pages, the least recently used going first. Safe for threads."""

    def __init__(self, nbytes: int) -> None:
        self._room = nbytes
        self._pages: OrderedDict[tuple[int, int, int], Pages] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, key: tuple[int, int, int], make: Callable[[], Pages]) -> Pages:
        """The page of this key, made if it is not there."""
        with self._lock:
            if key in self._pages:
                self._pages.move_to_end(key)
                return self._pages[key]
        page = make()
        with self._lock:
            if key not in self._pages:
                self._pages[key] = page
                self._room -= page.nbytes
            while self._room < 0 and len(self._pages) > 1:
                self._room += self._pages.popitem(last=False)[1].nbytes
        return page


def read_manifest(storage: Storage, place: str) -> tuple[Manifest, bytes]:
    """The manifest and the digest of its bytes. Raises DatasetError where there is none, CorruptError."""
    try:
        file = storage.open(FILE_NAME)
    except FileNotFoundError:
        raise DatasetError(f"not a recordio dataset: {_instead(storage)}").at(file=place) from None
    data = file.read(0, min(file.nbytes, MAX_MANIFEST_NBYTES + 1))
    file.close()
    try:
        return Manifest.decode(data), Manifest.digest(data)
    except RecordIOError as error:
        raise error.at(file=os.path.join(place, FILE_NAME))


def _instead(storage: Storage) -> str:
    """What there is instead of a manifest; of the folders below, the first few that hold datasets."""
    found = []
    try:
        for name in storage.names()[:32]:
            with contextlib.suppress(FileNotFoundError, DatasetError):
                storage.open(f"{name}/{FILE_NAME}").close()
                found.append(name)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return "there is no such folder"
        if isinstance(error.__cause__, NotADirectoryError):
            return "this is no folder; `recordio convert` makes datasets of files"
    return f"there is no {FILE_NAME}" + (f"; there is one in each of {', '.join(found)}" if found else "")


def open_shard_file(storage: Storage, entry: ShardEntry) -> File:
    """The file of a shard. Raises CorruptError when it is missing or no regular file, StorageError."""
    try:
        return storage.open(entry.name)
    except FileNotFoundError:
        raise CorruptError("the shard is missing").at(file=entry.name) from None
    except DatasetError as error:
        raise CorruptError(error.fault, error.place) from error


def check_shards(storage: Storage, manifest: Manifest) -> list[RecordIOError]:
    """What is wrong with the shards of a manifest, as far as their lengths and last bytes tell."""
    problems: list[RecordIOError] = []
    for entry in manifest.shards:
        try:
            file = open_shard_file(storage, entry)
            check_footer(file, entry, manifest.dataset_id)
            file.close()
        except RecordIOError as error:
            problems.append(error)
    return problems


def refuse(problems: Sequence[RecordIOError], place: str) -> None:
    """Raises CorruptError naming every problem, if there is any."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise CorruptError(f"{len(problems)} shards are not what the manifest says: {lines}\n").at(file=place)


def _keep_freed_memory() -> None:
    """Lets malloc reuse the memory of batches instead of giving it back to the system after each.

    glibc raises its thresholds for that when a large block is freed (mallopt(3), M_MMAP_THRESHOLD), which any program
    with large arrays does sooner or later. Without it every batch pays for fresh pages, up to 80 % of its time. The
    block is never touched.
    """
    with contextlib.suppress(MemoryError):
        np.empty(31 << 20, np.uint8)


def _starts(counts: Indices) -> Indices:
    """int64 (n + 1,): where each run of these many begins, and where the last ends."""
    out = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=out[1:])
    return out


_stores: weakref.WeakSet[Store] = weakref.WeakSet()


@dataclass(eq=False)
class Store:
    """An open dataset. Opens shards when they are needed; safe for threads, and after a fork."""

    storage: Storage
    manifest: Manifest
    options: ReadOptions
    manifest_digest: bytes
    shards: dict[int, Shard] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        names = list(self.manifest.schema)
        self.schema = self.manifest.schema.select(names if self.options.fields is None else self.options.fields)
        self.columns = [names.index(name) for name in self.schema]
        self.first = [0, *np.cumsum([entry.samples for entry in self.manifest.shards], dtype=np.int64).tolist()]
        self.samples: int = self.first[-1]
        self._first = np.array(self.first, np.int64)
        self._most_open = self.options.max_open_shards or max(
            1, min(256, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        )
        self.restart()
        self.sample = self._sampler()
        _stores.add(self)
        _keep_freed_memory()

    def restart(self) -> None:
        """Forgets every open thing; they are opened anew when needed. A forked child begins so."""
        self.shards.clear()
        self._cache = PageCache(self.options.cache_bytes)
        self.arenas = ArenaPool()
        self._lock = threading.Lock()

    @cached_property
    def content_nbytes(self) -> int:
        """The size of all pages as they are decoded."""
        return sum(entry.content_nbytes for entry in self.manifest.shards)

    @cached_property
    def blocks(self) -> Blocks:
        """All the blocks. A block's weight is its share of its shard's content, and the plan of its samples."""
        entries = self.manifest.shards
        runs = np.array([run for entry in entries for run in entry.runs], np.int64).reshape(-1, 2)
        counts = np.repeat(runs[:, 0], runs[:, 1])
        blocks = np.array([entry.blocks for entry in entries], np.int64)
        means = [entry.content_nbytes // max(1, entry.samples) + PLAN_NBYTES for entry in entries]
        weights = counts * np.repeat(np.array(means, np.int64), blocks)
        return Blocks(_starts(counts), weights, _starts(blocks))

    def shard(self, number: int) -> Shard:
        """The open shard at this place in the manifest."""
        shard = self.shards.get(number)
        if shard is not None:
            return shard
        with self._lock:
            return self.shards.get(number) or self._open(number)

    def _open(self, number: int) -> Shard:
        entry = self.manifest.shards[number]
        while len(self.shards) >= self._most_open:
            self.shards.pop(next(iter(self.shards)))  # who still reads from it keeps it open
        options = self.options
        try:
            file = open_shard_file(self.storage, entry)
            shard = Shard(file, entry, self.manifest, self.columns, options.verify, options.io == "mmap", self._cache)
        except CorruptError as error:
            if self._replaced():
                raise DatasetError("the dataset was replaced since it was opened; open it again").at(
                    file=entry.name
                ) from error
            raise
        self.shards[number] = shard
        return shard

    def _replaced(self) -> bool:
        """Whether another manifest stands where this one was."""
        try:
            return read_manifest(self.storage, "")[1] != self.manifest_digest
        except RecordIOError:
            return False

    def _sampler(self) -> Callable[[int], dict[str, Any]]:
        """The function that gives one sample by its number, 0 <= number < samples; images as they are stored."""
        first, shards, store = self.first, self.shards, weakref.proxy(self)

        def sample(number: int) -> dict[str, Any]:
            at = bisect_right(first, number) - 1
            shard = shards.get(at) or store.shard(at)
            return shard.sample(number - first[at])

        return sample

    def located(self, error: CorruptError, numbers: Indices) -> CorruptError:
        """The error of the first of these samples that cannot be read, with its place. For a batch that failed."""
        if error.place.byte is not None:  # a page's error knows its place
            return error
        for number in numbers.tolist():
            try:
                self.sample(number)
            except CorruptError as found:
                return found.at(sample=number)
        return error

    def place(self, number: int) -> dict[str, Any]:
        """Where a sample is, for an error's place."""
        at = bisect_right(self.first, number) - 1
        block = int(np.searchsorted(self.shard(at).index.first, number - self.first[at], side="right")) - 1
        return {"file": self.manifest.shards[at].name, "block": block, "sample": number}

    def take(self, numbers: Indices) -> Columns:
        """Any samples as columns, in the order asked for; images as they are stored."""
        try:
            return self._take(numbers)
        except CorruptError as error:
            raise self.located(error, numbers) from None

    def _take(self, numbers: Indices) -> Columns:
        if len(self.first) == 2:
            return self._take_from(0, numbers)
        at = np.searchsorted(self._first, numbers, side="right") - 1
        shards, order, runs = grouped(at)
        parts = [self._take_from(s, numbers[run] - self._first[s]) for s, run in zip(shards, runs, strict=True)]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return {name: nothing(kind) for name, kind in self.schema.items()}
        return {name: scatter([part[name] for part in parts], order) for name in self.schema}

    def _take_from(self, number: int, rows: Indices) -> Columns:
        shard = self.shard(number)
        block = np.searchsorted(shard.index.first, rows, side="right") - 1
        row = rows - shard.index.first[block]
        return {
            name: shard.readers[column].take(block, row) for name, column in zip(self.schema, self.columns, strict=True)
        }


def _restart_stores() -> None:
    for store in list(_stores):
        store.restart()


os.register_at_fork(after_in_child=_restart_stores)
