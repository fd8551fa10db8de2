"""What parity gives back: a shard as the XOR of the parity of its group and of all the other shards in it.

It is one more copy of the shard. Where a second file of the group is damaged, it is damaged as well, which its own
checksums tell, block by block: so nothing has to be known beforehand of what is good.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np

from recordio.errors import CorruptError, RecordIOError, StorageError
from recordio.format.header import header_nbytes
from recordio.format.layout import HEADER, PARITY_MAGIC
from recordio.format.manifest import ShardEntry, shard_name
from recordio.format.parity import Parity, ParityEntry, ParityHeader, parity_name, parity_number
from recordio.salvage.copies import ShardCopy, look
from recordio.salvage.mending import Mended
from recordio.storage.base import File, Range, ShardPlace, Storage
from recordio.storage.memory import MemoryFile, MemoryStorage
from recordio.storage.parity_files import Span, Xor, open_parity, read_parity

_UNKNOWN = bytes(16)


def found_parity(
    storage: Storage, names: Iterable[str], dataset_id: bytes
) -> tuple[Parity | None, list[ParityHeader], list[str]]:
    """The parity that a lost manifest of this dataset named, by the files that are there, and notes.

    The digest of a file whose end is damaged is unknown, 16 zero bytes.
    """
    headers: list[ParityHeader] = []
    files: list[ParityEntry] = []
    notes: list[str] = []
    for name in names:
        if (number := parity_number(name)) is None:
            continue
        try:
            with contextlib.closing(storage.open(name)) as file:
                start = file.read(0, min(HEADER.size, file.nbytes))
                header = ParityHeader.decode(file.read(0, header_nbytes(PARITY_MAGIC, start)))
                if (header.dataset_id, header.number) != (dataset_id, number):
                    raise CorruptError("it is the parity of another dataset")
                digest = _UNKNOWN
                with contextlib.suppress(RecordIOError):
                    digest = read_parity(file).end.digest
                entry = ParityEntry(number, file.nbytes, digest, tuple(shard.number for shard in header.shards))
        except (RecordIOError, FileNotFoundError) as error:
            notes.append(f"{name} is left as it is: {error.fault if isinstance(error, RecordIOError) else error}")
            continue
        headers.append(header)
        files.append(entry)
    group = max((len(header.shards) for header in headers), default=0)
    return Parity(group, tuple(files)) if group else None, headers, notes


class Source(NamedTuple):
    """What there is of a shard: a file of it, or what was mended, around which the file counts if something is lost."""

    copy: ShardCopy | None
    mended: Mended | None = None


FindSource = Callable[[int], Source | None]


def given_back(
    storage: Storage, header: ParityHeader, entry: ParityEntry, number: int, source: FindSource
) -> ShardCopy:
    """A shard as its group gives it back, of which nothing was read yet.

    Args:
        storage: where the file of parity is.
        header: that of the file.
        entry: what the manifest says of it.
        number: the shard's number.
        source: what there is of another shard.

    Raises CorruptError if another file of the group is missing.
    """
    sources: list[Source] = []
    for shard in header.shards:
        found = None if shard.number == number else source(shard.number)
        if found is not None:
            sources.append(found)
        elif shard.number != number:
            raise CorruptError(f"{shard.name} of the same group is missing too")

    def opened() -> _GivenBack:
        with ExitStack() as stack:
            parity = stack.enter_context(contextlib.closing(open_parity(storage, entry, header)))
            spans = [Span(parity, _start_of(parity, header), header.nbytes)]
            for one, shard in zip(sources, (shard for shard in header.shards if shard.number != number), strict=True):
                spans += _spans_of(one, shard.nbytes, stack)
            return _GivenBack(own, spans, stack.pop_all())

    own = next(shard for shard in header.shards if shard.number == number)
    opened().close()
    return look(_Folder(opened), own.name, parity_name(header.number))


def _start_of(file: File, header: ParityHeader) -> int:
    """Where the parity begins; if the file's own header is damaged, where recordio lets it begin."""
    with contextlib.suppress(RecordIOError):
        return header_nbytes(PARITY_MAGIC, file.read(0, min(HEADER.size, file.nbytes)))
    return len(header.encode())


def _spans_of(source: Source, nbytes: int, stack: ExitStack) -> list[Span]:
    """A shard of this length, as far as it is there. Its files are closed with the stack. Raises CorruptError."""
    copy, mended = source
    if mended is None:
        assert copy is not None
        return [Span(stack.enter_context(copy.opened()), 0, nbytes)]
    spans = _blocks_of(mended, stack)
    if mended.footer is not None:
        assert mended.header is not None
        assert mended.index is not None
        name, end = shard_name(mended.number), mended.index + mended.footer.encode()
        around = [Span(MemoryFile(name, mended.header), 0, len(mended.header))]
        return [*around, *spans, Span(MemoryFile(name, end), 0, len(end), mended.footer.index_offset)]
    assert copy is not None
    file = stack.enter_context(copy.opened())
    ends = [0, *(span.at + span.nbytes for span in spans)]
    starts = [*(span.at for span in spans), nbytes]
    return spans + [Span(file, begin, end - begin, begin) for begin, end in zip(ends, starts, strict=True)]


def _blocks_of(mended: Mended, stack: ExitStack) -> list[Span]:
    """The good blocks of a shard. Raises CorruptError."""
    files: dict[ShardCopy, File] = {}
    spans: list[Span] = []
    for copy, block in mended.blocks:
        file = files.get(copy) or files.setdefault(copy, stack.enter_context(copy.opened()))
        if spans and spans[-1].file is file and spans[-1].at + spans[-1].nbytes == block.offset:
            spans[-1] = spans[-1]._replace(nbytes=spans[-1].nbytes + block.block_nbytes)
        else:
            spans.append(Span(file, block.offset, block.block_nbytes, block.offset))
    return spans


class _GivenBack(File):
    """A shard as the XOR of spans, whose files are closed with it."""

    def __init__(self, shard: ShardEntry, spans: Sequence[Span], stack: ExitStack) -> None:
        self.name = shard.name
        self.nbytes = shard.nbytes
        self._spans = spans
        self._xor = Xor(spans)
        self._stack = stack

    def _read(self, offset: int, nbytes: int) -> bytes:
        target = np.empty(nbytes, np.uint8)
        try:
            self._xor.read_into(target, offset)
        except CorruptError as error:  # another file was cut: that is no end of this one
            raise StorageError(f"{error.place.file} does not go so far: {error.fault}").at(file=self.name) from error
        return target.tobytes()

    def _read_into(self, target: memoryview, offset: int, direct: bool) -> int:
        nbytes = max(0, min(len(target), self.nbytes - offset))
        target[:nbytes] = self._read(offset, nbytes)
        return nbytes

    def will_need(self, ranges: Iterable[Range]) -> None:
        wanted = list(ranges)
        for file, start, length, at in self._spans:
            own = [(max(begin, at), min(begin + nbytes, at + length)) for begin, nbytes in wanted]
            file.will_need([(start + low - at, high - low) for low, high in own if low < high])

    def wont_need(self, offset: int, nbytes: int) -> None:
        pass

    def map(self) -> bytes:
        return self.read(0, self.nbytes)

    def close(self) -> None:
        self._stack.close()


class _Folder(MemoryStorage):
    """A folder of one shard that is given back."""

    def __init__(self, opened: Callable[[], File]) -> None:
        super().__init__({})
        self._opened = opened

    def open(self, name: str, place: ShardPlace | None = None) -> File:
        return self._opened()


def is_given_back(copy: ShardCopy) -> bool:
    """Whether a copy is what parity gives back."""
    return isinstance(copy.storage, _Folder)
