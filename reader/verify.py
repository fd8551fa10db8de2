"""`verify`: checks every byte of a dataset.

Streams the shards in bounded memory and continues after a fault, so that one report names all faults.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from recordio.errors import CorruptError, RecordIOError, SchemaError, StorageError, UnsupportedError
from recordio.format.manifest import Manifest
from recordio.reader.io_choice import choose_io
from recordio.reader.open_shard import OpenShard
from recordio.reader.page_checks import Check, Checked, PageChecks
from recordio.reader.shard_indexes import ShardIndexes, blocks_of
from recordio.remote.opening import RemoteAccess, StorageArgument, dataset_location, open_storage
from recordio.remote.options import StorageOptions
from recordio.storage.base import Storage
from recordio.storage.dataset_files import read_manifest
from recordio.storage.shard_files import ShardFiles

_AHEAD = 256  # shards in an object store of which the indexes are asked for at a time

Level = Literal["quick", "full"]
Progress = Callable[[int, int], None]


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


def verify(
    path: str | os.PathLike[str],
    level: Level = "full",
    *,
    progress: Progress | None = None,
    storage: StorageArgument = None,
) -> VerifyReport:
    """Checks a dataset and reports every fault.

    Args:
        path: the dataset's folder, or its URL: it is read where it is, past the cache.
        level: "full" reads every byte, compares every checksum and decodes every page; "quick" reads the manifest, and
            the length, header, footer and index of each shard.
        progress: called with (bytes done, total bytes).
        storage: how an object store is reached, see `StorageOptions`.

    Raises:
        DatasetError: there is no dataset at the path. A damaged one is a report.
        StorageError: the manifest cannot be read. An unreadable shard is a problem in the report.
    """
    if level not in ("quick", "full"):
        raise SchemaError(f"unknown level {level!r}: expected 'quick' or 'full'")
    folder = dataset_location("path", path)
    opened = open_storage(folder, RemoteAccess(StorageOptions.of(storage), cache=None))
    try:
        manifest, _ = read_manifest(opened, folder)
    except (CorruptError, UnsupportedError) as error:
        return VerifyReport(folder, level, problems=(error,))
    total, done = sum(manifest.table.nbytes.tolist()), 0
    report = VerifyReport(folder, level, shards=len(manifest.shards))
    for one in _Verification(opened, manifest, level).results():
        done += one.nbytes
        if progress is not None:
            progress(done, total)
        report = replace(
            report,
            blocks=report.blocks + one.blocks,
            samples=report.samples + one.samples,
            nbytes=report.nbytes + (one.nbytes if one.readable else 0),
            problems=(*report.problems, *one.problems),
        )
    return report


class _Verification:
    """The checks of all shards, in the order of their bytes."""

    def __init__(self, storage: Storage, manifest: Manifest, level: Level) -> None:
        self._manifest = manifest
        self._files = ShardFiles(storage, manifest)
        blocks = blocks_of(manifest)
        self._indexes = ShardIndexes(self._files, manifest, blocks.first, blocks.shard)
        self._level = level
        io = choose_io("auto", storage, sum(manifest.table.nbytes.tolist()))
        self._checks = PageChecks(manifest, direct=io.kind == "direct", remote=storage.is_remote)

    def results(self) -> Iterator[Checked]:
        return self._checks.results(self._tasks())

    def _tasks(self) -> Iterator[Check]:
        for position, entry in enumerate(self._manifest.shards):
            if self._checks.access.remote and position % _AHEAD == 0:
                self._files.ask_for_indexes(range(position, min(position + _AHEAD, len(self._manifest.shards))))
            try:
                shard = self._opened(position)
            except (CorruptError, UnsupportedError, StorageError) as error:
                yield partial(Checked, position, entry.nbytes, problems=[error], readable=False)
                continue
            if self._level == "quick":
                yield partial(Checked, position, entry.nbytes, entry.blocks, entry.samples)
            else:
                yield from self._checks.of_shard(position, shard)

    def _opened(self, position: int) -> OpenShard:
        """A shard whose index is good. Raises CorruptError, UnsupportedError, StorageError."""
        file = self._files.open(position)
        index = self._indexes.of(position)
        return self._checks.opened(file, self._manifest.table.numbers.item(position), index)
