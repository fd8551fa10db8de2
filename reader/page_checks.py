"""Reads all pages of open shards, a few reads ahead, in threads that check what they have read.

Continues after a fault, so that every fault is found. `verify` and `repair` both use it; `repair` saves
what was written, and does not ask whether the values can be read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np

from recordio.errors import CorruptError, DecodeError, RecordIOError, StorageError
from recordio.format.checksum import checksum_of
from recordio.format.codec import Codec
from recordio.format.fields import Field
from recordio.format.index import Index
from recordio.format.layout import ALIGNMENT, CHECKSUM, block_header_nbytes, padded
from recordio.format.manifest import Manifest
from recordio.format.page import check_page as check_offsets
from recordio.process_guard import ThreadPool
from recordio.reader.open_shard import OpenShard
from recordio.reader.page_access import PageAccess
from recordio.reader.page_cache import PageCache
from recordio.reader.read_buffers import MAX_SCRATCH, scratch
from recordio.reader.value_checks import check_values
from recordio.storage.base import DIRECT_ALIGNMENT, File

_READ_NBYTES = MAX_SCRATCH - 2 * DIRECT_ALIGNMENT  # whatever is larger costs new memory each time
_REMOTE_READ_NBYTES = 8 << 20
_AHEAD = 16  # checks whose bytes are asked for
_IN_PLACE = (int(Codec.PLAIN), int(Codec.NARROW))

Doubt = tuple[int, int | None]  # a block, and the position of the field whose page it is, None for the block's header


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
        before = ends[0]
        for begin, end in _runs(ends, _REMOTE_READ_NBYTES if self.access.remote else _READ_NBYTES):
            if self.access.remote:
                shard.file.will_need([(ends[begin], ends[end] - ends[begin])])
            yield partial(self._check, position, shard, range(begin, end), before, ends[begin], ends[end])
            before = 0
        if before:  # a shard without blocks
            yield partial(Checked, position, before)

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

    def _check(self, position: int, shard: OpenShard, blocks: range, before: int, low: int, high: int) -> Checked:
        """Checks blocks between these offsets of the file. `before`: bytes before them that are good, to be counted."""
        start = low // DIRECT_ALIGNMENT * DIRECT_ALIGNMENT if self.access.direct else low
        data = scratch(-(-high // DIRECT_ALIGNMENT) * DIRECT_ALIGNMENT - start)
        try:
            shard.file.read_into(data, start, high - start, direct=self.access.direct)
        except RecordIOError:  # each page is read alone, to find out which of them are bad
            problems = list(self._problems(shard, product(blocks, (None, *range(len(shard.fields)))), None, start))
        else:
            problems = list(
                self._problems(shard, doubtful(shard, blocks, data, start, values=self._values), data, start)
            )
        samples = int(shard.index.samples[blocks.start : blocks.stop].sum())
        return Checked(position, before + high - low, len(blocks), samples, problems)

    def _problems(
        self, shard: OpenShard, doubtful: Iterable[Doubt], data: memoryview | None, start: int
    ) -> Iterator[RecordIOError]:
        """What is wrong with headers and pages, of which the file's bytes from `start` on may have been read."""
        index = shard.index

        def part(offset: int, nbytes: int) -> memoryview | None:
            return None if data is None else data[offset - start :][:nbytes]

        for block, column in doubtful:
            try:
                if column is None:
                    header = part(int(index.block_offsets[block]), block_header_nbytes(len(shard.fields)))
                    shard.check_block_header(block, header)
                else:
                    nbytes = padded(int(index.pages[block, column]["stored_nbytes"]))
                    stored = part(int(index.page_offsets[block, column]), nbytes)
                    check_page(shard, block, column, stored, values=self._values)
            except (CorruptError, DecodeError, StorageError) as error:
                yield error


def doubtful(shard: OpenShard, blocks: range, data: memoryview, start: int, *, values: bool) -> Iterator[Doubt]:
    """The headers and pages of some blocks that are not found to be sound at a quick look: most are.

    A page of plain values of one size costs its checksum and hardly more. Words no errors: what is wrong, if anything
    is, `OpenShard.check_block_header` and `check_page` say.

    Args:
        shard: the shard, whose index is good.
        blocks: which to look at.
        data: the bytes of the file from `start` on, with all of these blocks.
        start: an offset in the file.
        values: whether the values have to be fit to be read, too.
    """
    index, fixed = shard.index, [field.row_nbytes is not None for field in shard.fields]
    columns = (index.block_offsets, index.samples, index.pages)
    facts = (column[blocks.start : blocks.stop].tolist() for column in columns)
    expected = shard.block_headers(blocks.start, blocks.stop)
    for block, header, offset, samples, pages in zip(blocks, expected, *facts, strict=True):
        low = offset - start
        high = low + len(header)
        found = bytes(data[low:high])
        if found != header or checksum_of(found[: -CHECKSUM.size]) != CHECKSUM.unpack(found[-CHECKSUM.size :])[0]:
            yield block, None
        for column, (nbytes, _, checksum, codec, _) in enumerate(pages):
            low, high = high, high + -(-nbytes // ALIGNMENT) * ALIGNMENT
            page = data[low:high]
            if codec not in _IN_PLACE or checksum_of(page) != checksum:
                yield block, column  # coded pages are decoded by `check_page`
            elif not fixed[column] and not _is_sound(shard.fields[column], samples, page[:nbytes], values):
                yield block, column  # of values of one size the index has proven that they fit, narrow or not


def _is_sound(field: Field, samples: int, content: memoryview, values: bool) -> bool:
    """Whether the offsets of a plain page fit, and its values can be read."""
    try:
        check_offsets(field, samples, content)
        if values:
            check_values(field, content, samples)
    except (CorruptError, DecodeError):
        return False
    return True


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
