"""Reads all pages of open shards, a few reads ahead, in threads that check what they have read.

Continues after a fault, so that every fault is found. `verify` and `repair` both use it; `repair` saves
what was written, and does not ask whether the values can be read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

import numpy as np

from recordio.errors import CorruptError, DecodeError, RecordIOError, StorageError
from recordio.format.index import Index
from recordio.format.layout import block_header_nbytes, padded
from recordio.format.manifest import Manifest
from recordio.process_guard import ThreadPool
from recordio.reader.open_shard import OpenShard
from recordio.reader.page_access import PageAccess
from recordio.reader.page_cache import PageCache
from recordio.reader.page_reads import scratch
from recordio.reader.value_checks import check_values
from recordio.storage.base import DIRECT_ALIGNMENT, File

_READ_NBYTES = 1 << 20
_REMOTE_READ_NBYTES = 8 << 20
_AHEAD = 16  # checks whose bytes are asked for


class Checked(NamedTuple):
    """What was checked, and what was wrong.

    Attributes:
        shard: its position in the manifest.
        nbytes, blocks, samples: how much; a shard that cannot be opened counts as no blocks and no samples.
        problems: the faults.
        readable: whether the shard could be opened.
    """

    shard: int
    nbytes: int
    blocks: int = 0
    samples: int = 0
    problems: Sequence[RecordIOError] = ()
    readable: bool = True


Check = Callable[[], Checked]


class PageChecks:
    """The checks of all blocks of shards.

    Args:
        manifest: the manifest.
        direct: read past the system's cache.
        remote: every read is a request over a network.
        values: prove that the values can be read, and not only that the pages are what was written.
    """

    def __init__(self, manifest: Manifest, *, direct: bool, remote: bool = False, values: bool = False) -> None:
        self._manifest = manifest
        self._values = values
        self.access = PageAccess(verify="always", cache=PageCache(0), direct=direct, remote=remote)

    def opened(self, file: File, number: int, index: Index) -> OpenShard:
        """The shard of this file, number and index, of which nothing has been checked."""
        return OpenShard(file, number, self._manifest, lambda: index, np.zeros(index.pages.shape, bool), self.access)

    def of_shard(self, position: int, shard: OpenShard) -> Iterator[Check]:
        """The checks of the blocks of a shard whose header, index and footer are good already."""
        ends = [*shard.index.block_offsets.tolist(), shard.file.nbytes]
        yield partial(Checked, position, ends[0])
        for begin, end in _runs(ends, _REMOTE_READ_NBYTES if self.access.remote else _READ_NBYTES):
            if self.access.remote:
                shard.file.will_need([(ends[begin], ends[end] - ends[begin])])
            yield partial(self._check, position, shard, begin, end, ends[begin], ends[end])

    def results(self, checks: Iterable[Check]) -> Iterator[Checked]:
        """What the checks find, in their order."""
        ahead: deque[Future[Checked]] = deque()
        with ThreadPool(self.access.reads, "recordio-verify") as pool:
            for check in checks:
                ahead.append(pool.submit(check))
                if len(ahead) > _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _check(self, position: int, shard: OpenShard, begin: int, end: int, low: int, high: int) -> Checked:
        """Checks the blocks from `begin` to `end` - 1, which lie between these offsets of the file."""
        start = low // DIRECT_ALIGNMENT * DIRECT_ALIGNMENT if self.access.direct else low
        target = scratch(-(-high // DIRECT_ALIGNMENT) * DIRECT_ALIGNMENT - start)
        data: memoryview | None = target
        try:
            shard.file.read_into(target, start, high - start, direct=self.access.direct)
        except RecordIOError:
            data = None  # each page is read alone, to find out which of them are bad
        blocks = range(begin, end)
        problems = [problem for block in blocks for problem in self._problems(shard, block, data, start)]
        return Checked(position, high - low, end - begin, int(shard.index.samples[begin:end].sum()), problems)

    def _problems(self, shard: OpenShard, block: int, data: memoryview | None, start: int) -> Iterator[RecordIOError]:
        """What is wrong with a block, of which the file's bytes from `start` on may have been read."""
        index, fields = shard.index, len(shard.fields)

        def part(offset: int, nbytes: int) -> memoryview | None:
            return None if data is None else data[offset - start :][:nbytes]

        header = part(int(index.block_offsets[block]), block_header_nbytes(fields))
        checks: list[Callable[[], object]] = [partial(shard.check_block_header, block, header)]
        for column in range(fields):
            nbytes = padded(int(index.pages[block, column]["stored_nbytes"]))
            stored = part(int(index.page_offsets[block, column]), nbytes)
            checks.append(partial(check_page, shard, block, column, stored, values=self._values))
        for check in checks:
            try:
                check()
            except (CorruptError, DecodeError, StorageError) as error:
                yield error


def check_page(
    shard: OpenShard, block: int, column: int, stored: memoryview | None = None, *, values: bool = False
) -> None:
    """Checks a page, of its stored bytes if they have been read, and its values.

    Raises CorruptError, StorageError, DecodeError for a picture.
    """
    content = shard.content(block, column, stored)
    if values:
        try:
            check_values(shard.fields[column], content, int(shard.index.samples[block]))
        except (CorruptError, DecodeError) as error:
            raise error.at(**shard.location(block, column))


def _runs(ends: Sequence[int], nbytes: int) -> Iterator[tuple[int, int]]:
    """Cuts blocks that begin and end at these offsets into runs (first, end) of about `nbytes`, or of one block."""
    begin = 0
    for end in range(1, len(ends)):
        if end == len(ends) - 1 or ends[end + 1] - ends[begin] > nbytes:
            yield begin, end
            begin = end
