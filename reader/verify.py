"""`verify`: checks every byte of a dataset.

Streams the shards in bounded memory and continues after a fault, so that one report names all faults.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from recordio.arguments import folder_path
from recordio.errors import CorruptError, RecordIOError, SchemaError, StorageError, UnsupportedError
from recordio.format.layout import block_header_nbytes, padded
from recordio.format.manifest import Manifest
from recordio.reader.io_choice import choose_io
from recordio.reader.open_shard import OpenShard
from recordio.reader.page_access import PageAccess
from recordio.reader.page_reads import scratch
from recordio.reader.shard_indexes import ShardIndexes, blocks_of
from recordio.storage.base import DIRECT_ALIGNMENT, Storage
from recordio.storage.dataset_files import read_manifest
from recordio.storage.local import LocalStorage
from recordio.storage.shard_files import ShardFiles

Level = Literal["quick", "full"]
Progress = Callable[[int, int], None]

_READ_NBYTES = 1 << 20


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
    folder = folder_path("path", path)
    storage = LocalStorage(folder)
    try:
        manifest, _ = read_manifest(storage, folder)
    except (CorruptError, UnsupportedError) as error:
        return VerifyReport(folder, level, problems=(error,))
    total, done = sum(manifest.table.nbytes.tolist()), 0
    report = VerifyReport(folder, level, shards=len(manifest.shards))
    for one in _Verification(storage, manifest, level).results():
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


class _Checked(NamedTuple):
    """What was checked, and what was wrong. A shard that cannot be opened counts as no shard, no blocks, no samples."""

    nbytes: int
    blocks: int = 0
    samples: int = 0
    problems: Sequence[RecordIOError] = ()
    readable: bool = True


class _Verification:
    """Reads all shards in the order of their bytes, a few reads ahead, in threads that check what they have read."""

    def __init__(self, storage: Storage, manifest: Manifest, level: Level) -> None:
        self._manifest = manifest
        self._files = ShardFiles(storage, manifest)
        blocks = blocks_of(manifest)
        self._indexes = ShardIndexes(self._files, manifest, blocks.first, blocks.shard)
        self._level = level
        io = choose_io("auto", storage, sum(manifest.table.nbytes.tolist()))
        self._access = PageAccess(verify="always", cache=lambda key, make: make(), direct=io.kind == "direct")

    def results(self) -> Iterator[_Checked]:
        ahead: deque[Future[_Checked]] = deque()
        with ThreadPoolExecutor(self._access.reads, "recordio-verify") as pool:
            for task in self._tasks():
                ahead.append(pool.submit(task))
                if len(ahead) > 2 * self._access.reads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _tasks(self) -> Iterator[Callable[[], _Checked]]:
        for number, entry in enumerate(self._manifest.shards):
            try:
                shard = self._opened(number)
            except (CorruptError, UnsupportedError, StorageError) as error:
                yield partial(_Checked, entry.nbytes, problems=[error], readable=False)
                continue
            if self._level == "quick":
                yield partial(_Checked, entry.nbytes, entry.blocks, entry.samples)
                continue
            ends = [*shard.index.block_offsets.tolist(), entry.nbytes]
            yield partial(_Checked, ends[0])
            for begin, end in _runs(ends):
                yield partial(self._check, shard, begin, end, ends[begin], ends[end])

    def _opened(self, number: int) -> OpenShard:
        """A shard whose index is good. Raises CorruptError, UnsupportedError, StorageError."""
        file = self._files.open(number)
        index = self._indexes.of(number)
        checked, own = np.zeros(index.pages.shape, bool), self._manifest.table.numbers.item(number)
        return OpenShard(file, own, self._manifest, lambda: index, checked, self._access)

    def _check(self, shard: OpenShard, begin: int, end: int, low: int, high: int) -> _Checked:
        """Checks the blocks from `begin` to `end` - 1, which lie between these offsets of the file."""
        start = low // DIRECT_ALIGNMENT * DIRECT_ALIGNMENT
        target = scratch(-(-high // DIRECT_ALIGNMENT) * DIRECT_ALIGNMENT - start)
        data: memoryview | None = target
        try:
            shard.file.read_into(target, start, high - start, direct=self._access.direct)
        except RecordIOError:
            data = None  # each page is read alone, to find out which of them are bad
        problems = [problem for block in range(begin, end) for problem in _problems(shard, block, data, start)]
        return _Checked(high - low, end - begin, int(shard.index.samples[begin:end].sum()), problems)


def _runs(ends: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cuts blocks that begin and end at these offsets into runs (first, end) of about _READ_NBYTES, or of one block."""
    begin = 0
    for end in range(1, len(ends)):
        if end == len(ends) - 1 or ends[end + 1] - ends[begin] > _READ_NBYTES:
            yield begin, end
            begin = end


def _problems(shard: OpenShard, block: int, data: memoryview | None, start: int) -> Iterator[RecordIOError]:
    """What is wrong with a block, of which the file's bytes from `start` on may have been read."""
    index, fields = shard.index, len(shard.fields)

    def part(offset: int, nbytes: int) -> memoryview | None:
        return None if data is None else data[offset - start :][:nbytes]

    header = part(int(index.block_offsets[block]), block_header_nbytes(fields))
    checks: list[Callable[[], object]] = [partial(shard.check_block_header, block, header)]
    for column in range(fields):
        nbytes = padded(int(index.pages[block, column]["stored_nbytes"]))
        checks.append(partial(shard.content, block, column, part(int(index.page_offsets[block, column]), nbytes)))
    for check in checks:
        try:
            check()
        except (CorruptError, StorageError) as error:
            yield error
