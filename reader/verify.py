"""`verify`: proof that every byte of a dataset is what was written.

Streams the shards in bounded memory and goes on after a fault, so that one report names all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from recordio.errors import CorruptError, RecordIOError, SchemaError, StorageError, UnsupportedError
from recordio.format.manifest import Manifest, ShardEntry
from recordio.reader.open_shard import OpenShard, PageAccess
from recordio.storage.base import Storage
from recordio.storage.dataset_files import ShardOpener, open_shard_file, read_manifest
from recordio.storage.local import LocalStorage

Level = Literal["quick", "full"]
Progress = Callable[[int, int], None]

_AHEAD = 16  # blocks read and checked at a time


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        path: the dataset's folder.
        level: "quick" or "full".
        shards: how many the manifest lists.
        blocks, samples, nbytes: what was looked at of them: what could be reached.
        problems: every fault, as the error that reading would raise, with its place.
    """

    path: str
    level: Level
    shards: int = 0
    blocks: int = 0
    samples: int = 0
    nbytes: int = 0
    problems: tuple[RecordIOError, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """As plain dicts and lists."""
        names = ("path", "level", "shards", "blocks", "samples", "nbytes")
        return {
            "ok": self.ok,
            **{name: getattr(self, name) for name in names},
            "problems": [_to_json(p) for p in self.problems],
        }


def _to_json(problem: RecordIOError) -> dict[str, Any]:
    place = problem.place
    where = {"file": place.file, "block": place.block, "field": place.field, "byte": place.byte}
    return {"kind": type(problem).__name__, "fault": problem.fault, **where}


def verify(path: str | os.PathLike[str], level: Level = "full", *, progress: Progress | None = None) -> VerifyReport:
    """Checks a dataset and reports every fault.

    Args:
        path: the dataset's folder.
        level: "full" reads every byte, compares every checksum and decodes every page; "quick" reads the manifest and
        each
            shard's length, header, footer and index.
        progress: called with (bytes done, bytes in all).

    Raises:
        DatasetError: there is no dataset at the path. A damaged one is a report.
        StorageError: the system refused to read the manifest; what it refuses of a shard is a problem in the report.
    """
    if level not in ("quick", "full"):
        raise SchemaError(f"unknown level {level!r}: expected 'quick' or 'full'")
    place = os.fsdecode(path)
    storage = LocalStorage(place)
    try:
        manifest, _ = read_manifest(storage, place)
    except (CorruptError, UnsupportedError) as error:
        return VerifyReport(place, level, problems=(error,))
    total = sum(entry.nbytes for entry in manifest.shards)
    tally = _Tally(total, progress)
    for entry in manifest.shards:
        tally.problems += _verify_shard(storage, manifest, entry, level, tally)
    return VerifyReport(
        place, level, len(manifest.shards), tally.blocks, tally.samples, tally.nbytes, tuple(tally.problems)
    )


class _Tally:
    """Counts what has been looked at, and tells the progress."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.problems: list[RecordIOError] = []
        self.blocks = self.samples = self.nbytes = self._done = 0
        self._total, self._progress = total, progress

    def add(self, nbytes: int, blocks: int = 0, samples: int = 0) -> None:
        self.blocks, self.samples, self.nbytes = self.blocks + blocks, self.samples + samples, self.nbytes + nbytes
        self.skip(nbytes)

    def skip(self, nbytes: int) -> None:
        """Bytes that are done with, though they could not be looked at."""
        self._done += nbytes
        if self._progress is not None:
            self._progress(self._done, self._total)


def _verify_shard(
    storage: Storage, manifest: Manifest, entry: ShardEntry, level: Level, tally: _Tally
) -> list[RecordIOError]:
    try:
        file = open_shard_file(storage, entry)
        index = ShardOpener(manifest).read(file, entry)
        shard = OpenShard(file, entry, manifest, index, PageAccess("always", False, lambda key, make: make()))
    except (CorruptError, UnsupportedError, StorageError) as error:
        tally.skip(entry.nbytes)
        return [error]
    index = shard.index
    body = int(index.block_offsets[0]) if entry.blocks else entry.nbytes
    if level == "quick":
        tally.add(entry.nbytes, entry.blocks, entry.samples)
        return []
    tally.add(body)
    ends = [*index.block_offsets[1:].tolist(), entry.nbytes][: entry.blocks]
    problems: list[RecordIOError] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for block, found in enumerate(_ahead(pool, shard, entry.blocks)):
            problems += found
            tally.add(ends[block] - int(index.block_offsets[block]), 1, int(index.samples[block]))
    return problems


def _ahead(pool: ThreadPoolExecutor, shard: OpenShard, blocks: int) -> Iterator[list[RecordIOError]]:
    """The problems of each block in order, a few blocks being looked at ahead."""
    for start in range(0, blocks, _AHEAD):
        yield from pool.map(lambda block: _verify_block(shard, block), range(start, min(start + _AHEAD, blocks)))


def _verify_block(shard: OpenShard, block: int) -> list[RecordIOError]:
    problems: list[RecordIOError] = []
    checks: list[Callable[[], object]] = [
        partial(shard.check_block_header, block),
        *(partial(shard.content, block, c) for c in range(len(shard.fields))),
    ]
    for check in checks:
        try:
            check()
        except (CorruptError, StorageError) as error:
            problems.append(error)
    return problems
