"""`verify`: checks every byte of a dataset.

Streams the shards in bounded memory and continues after a fault, so that one report names all faults.
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
    """The result of `verify`.

    Attributes:
        path: the dataset's folder.
        level: "quick" or "full".
        shards: number of shards in the manifest.
        blocks, samples, nbytes: how much was checked; unreadable shards do not count.
        problems: every fault, as the error that reading would raise, with its location.
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
        """The report as plain dicts and lists."""
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
        level: "full" reads every byte, compares every checksum and decodes every page; "quick" reads the manifest, and
            the length, header, footer and index of each shard.
        progress: called with (bytes done, total bytes).

    Raises:
        DatasetError: there is no dataset at the path. A damaged one is a report.
        StorageError: the manifest cannot be read. An unreadable shard is a problem in the report.
    """
    if level not in ("quick", "full"):
        raise SchemaError(f"unknown level {level!r}: expected 'quick' or 'full'")
    folder = os.fsdecode(path)
    storage = LocalStorage(folder)
    try:
        manifest, _ = read_manifest(storage, folder)
    except (CorruptError, UnsupportedError) as error:
        return VerifyReport(folder, level, problems=(error,))
    total = sum(entry.nbytes for entry in manifest.shards)
    tally = _Tally(total, progress)
    for entry in manifest.shards:
        tally.problems += _verify_shard(storage, manifest, entry, level, tally)
    return VerifyReport(
        path=folder,
        level=level,
        shards=len(manifest.shards),
        blocks=tally.blocks,
        samples=tally.samples,
        nbytes=tally.nbytes,
        problems=tuple(tally.problems),
    )


class _Tally:
    """Collects problems and counts, and reports progress."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.problems: list[RecordIOError] = []
        self.blocks = self.samples = self.nbytes = self._done = 0
        self._total = total
        self._progress = progress

    def add(self, nbytes: int, blocks: int = 0, samples: int = 0) -> None:
        self.nbytes += nbytes
        self.blocks += blocks
        self.samples += samples
        self.skip(nbytes)

    def skip(self, nbytes: int) -> None:
        """Advances the progress past bytes that cannot be checked."""
        self._done += nbytes
        if self._progress is not None:
            self._progress(self._done, self._total)


def _verify_shard(
    storage: Storage, manifest: Manifest, entry: ShardEntry, level: Level, tally: _Tally
) -> list[RecordIOError]:
    try:
        file = open_shard_file(storage, entry)
        index = ShardOpener(manifest).read(file, entry)
        access = PageAccess(verify="always", mapped=False, cache=lambda key, make: make())
        shard = OpenShard(file, entry, manifest, index, access)
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
    """The problems of each block, in order; a few blocks are checked ahead."""
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
