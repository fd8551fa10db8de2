"""Opens the shards of a dataset, each proven to be the one in the manifest, and reads their indexes, many at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from recordio.errors import CorruptError, DatasetError, RecordIOError, SchemaError
from recordio.format.index import Index, RawIndex, check_digest
from recordio.format.layout import CHECKSUM, FOOTER
from recordio.format.manifest import Manifest
from recordio.format.shard import Footer, ShardHeader
from recordio.format.shard_table import shard_name
from recordio.storage.base import File, ShardPlace, Storage
from recordio.storage.dataset_files import check_footer, open_shard_file, read_manifest
from recordio.storage.machine import share_of_files
from recordio.storage.memory import MemoryFile, new_memory

_SMALL = 64 << 10  # to read so much takes less time than to open a file
_AHEAD = 32  # files of which the headers and indexes are read at a time, if so many may be open
_AHEAD_REMOTE = 512

T = TypeVar("T")


class ShardFiles:
    """The shards of a dataset as files. Shards are counted by their position in the manifest. Thread-safe.

    Args:
        storage: the dataset's folder.
        manifest: the manifest.
        digest: the digest of the manifest's bytes: errors say if the dataset was replaced. None if it does not matter.

    Attributes:
        index_in_memory: the index of a shard, if it has been read: a storage over a network then knows its pages.
        state: another object whenever a shard is found to be another file than before, or to have been changed.
    """

    def __init__(self, storage: Storage, manifest: Manifest, digest: bytes | None = None) -> None:
        self.storage = storage
        self._manifest = manifest
        self._digest = digest
        self._proven: dict[int, Hashable] = {}  # the files whose footers have been checked
        self.state = object()
        self.index_in_memory: Callable[[int], Index | None] = lambda number: None
        # Most shards of a dataset have the same JSON in their headers, that of the manifest: it is not parsed again.
        self._text = b""
        with contextlib.suppress(SchemaError):  # of metadata that no recordio has written, such as 1e999
            self._text = ShardHeader(manifest.dataset_id, 0, manifest.schema, manifest.metadata).text()

    def open(self, number: int) -> File:
        """The file of a shard.

        Raises StorageError, CorruptError if it is missing or another than it should be, and DatasetError if that is so
        because the dataset was replaced.
        """
        try:
            file = self._opened(number)
            if file.identity is None or file.identity != self._proven.get(number):
                [footer] = self._footers([number])
                self._twice(file, footer, lambda: self._check(file, number, footer))
        except CorruptError as error:
            better = self.explained(error)
            raise better from better.__cause__
        return file

    def explained(self, error: RecordIOError) -> RecordIOError:
        """The error, or a better one if its cause is that the dataset was replaced."""
        if self._digest is None or not isinstance(error, CorruptError) or not self._was_replaced():
            return error
        better = DatasetError("the dataset was replaced since it was opened; open it again").at(file=error.place.file)
        better.__cause__ = error
        return better

    def _was_replaced(self) -> bool:
        """Whether the manifest on disk is another one by now, and not the same one with shards appended."""
        try:
            manifest, found = read_manifest(self.storage, "")
            own = self._manifest.table.digests
            return found != self._digest and not np.array_equal(manifest.table.digests[: len(own)], own)
        except RecordIOError:
            return False

    def _opened(self, number: int) -> File:
        name = shard_name(self._manifest.table.numbers.item(number))
        return open_shard_file(self.storage, name, self._place(number) if self.storage.is_remote else None)

    def _place(self, number: int) -> ShardPlace:
        [footer] = self._footers([number])
        return ShardPlace.of(footer, self._text, lambda: self.index_in_memory(number))  # as it is set by then

    def _check(self, file: File, number: int, expected: Footer) -> Footer:
        """The footer of a shard, which is the expected one or differs from it in what the manifest does not say."""
        footer, fits = expected, file.nbytes == expected.file_nbytes and expected.index_offset >= 0
        if not fits or file.read(file.nbytes - FOOTER.size, FOOTER.size) != expected.encode():
            footer = check_footer(file, self._manifest.shards[number], self._manifest.dataset_id)
        self._note(file, number)
        return footer

    def _twice(self, file: File, footer: Footer, read: Callable[[], T]) -> T:
        """What `read` gives of a shard's ends, of the original if the copy that is kept of them is damaged."""
        try:
            return read()
        except CorruptError:
            tail = max(0, footer.index_offset)
            header = file.discard(0, self._header_nbytes(footer))
            if not file.discard(tail, footer.file_nbytes - tail) and not header:
                raise
        return read()

    def _header_nbytes(self, footer: Footer) -> int:
        """The length of a shard's header, most likely."""
        return len(ShardHeader.encode_text(footer.dataset_id, footer.number, self._text))

    def _note(self, file: File, number: int) -> None:
        """Notes that this file is the shard."""
        if number in self._proven and (file.identity is None or file.identity != self._proven[number]):
            self.state = object()
        self._proven[number] = file.identity

    def _footers(self, numbers: Sequence[int]) -> list[Footer]:
        """The footers that the manifest expects."""
        table, numbers = self._manifest.table, list(numbers)
        every = [column[numbers].tolist() for column in (table.numbers, table.nbytes, table.samples, table.blocks)]
        digests = table.digests[numbers].tobytes()
        identity, fields = self._manifest.dataset_id, len(self._manifest.schema)
        return [
            Footer.meant(identity, fields, number, nbytes, samples, blocks, digests[16 * k : 16 * k + 16])
            for k, (number, nbytes, samples, blocks) in enumerate(zip(*every, strict=True))
        ]

    def ask_for_indexes(self, numbers: Sequence[int]) -> None:
        """Asks for the headers and indexes of these shards, all at once. Waits for nothing."""
        for number, footer in zip(numbers, self._footers(numbers), strict=True):
            with contextlib.suppress(RecordIOError):  # raised again when they are read
                self._ask_for_index(self._opened(number), footer)

    def _ask_for_index(self, file: File, footer: Footer) -> None:
        tail = footer.file_nbytes - footer.index_offset
        file.will_need([(0, len(self._text)), (footer.index_offset, tail)])

    def read_indexes(
        self, numbers: Sequence[int], whole: dict[int, File] | None = None
    ) -> tuple[dict[int, RawIndex], dict[int, RecordIOError]]:
        """The indexes of these shards, and the errors of those that have none.

        `whole`: small shards are read as a whole, once, and put there as files in memory.
        """
        found = {} if whole is None else self._read_whole(numbers, whole)
        failed: dict[int, RecordIOError] = {}
        numbers = [number for number in numbers if number not in found]
        ahead = _AHEAD_REMOTE if self.storage.is_remote else min(_AHEAD, share_of_files(64))
        for begin in range(0, len(numbers), ahead):
            opened: list[tuple[int, File, Footer]] = []
            some = numbers[begin : begin + ahead]
            for number, footer in zip(some, self._footers(some), strict=True):
                try:
                    file = self._opened(number)
                except RecordIOError as error:
                    failed[number] = self.explained(error)
                    continue
                self._ask_for_index(file, footer)
                opened.append((number, file, footer))
            for number, file, footer in opened:
                try:
                    found[number] = self._twice(file, footer, partial(self._read_index, file, number, footer))
                except RecordIOError as error:
                    failed[number] = self.explained(error.at(file=file.name))
        return found, failed

    def _read_whole(self, numbers: Sequence[int], whole: dict[int, File]) -> dict[int, RawIndex]:
        """The indexes of small shards that are just as expected; others are read again, to find out what is wrong."""
        small = [number for number, nbytes in zip(numbers, self._nbytes_of(numbers), strict=True) if nbytes <= _SMALL]
        footers = self._footers(small)
        files = [(shard_name(footer.number), footer.file_nbytes) for footer in footers]
        try:
            memory = memoryview(new_memory(sum(nbytes for _, nbytes in files)))  # freed with the last file in it
        except OSError:  # there is not enough
            return {}
        found: dict[int, RawIndex] = {}
        begin = 0
        identities = self.storage.read_whole(files, memory)
        for number, footer, (name, nbytes), identity in zip(small, footers, files, identities, strict=True):
            data = memory[begin : begin + nbytes]
            if identity is not None and (index := self._index_of(data, footer)) is not None:
                found[number] = index
                whole[number] = file = MemoryFile(name, data, identity)
                self._note(file, number)
            begin += nbytes
        return found

    def _nbytes_of(self, numbers: Sequence[int]) -> list[int]:
        nbytes: list[int] = self._manifest.table.nbytes[numbers].tolist()
        return nbytes

    def _index_of(self, data: memoryview, footer: Footer) -> RawIndex | None:
        """The index of a shard of these bytes, if its header and its footer are those that are expected."""
        header = ShardHeader.encode_text(footer.dataset_id, footer.number, self._text)
        if footer.index_offset < len(header) or data[: len(header)] != header:
            return None
        tail = bytes(data[footer.index_offset :])
        if not tail.endswith(footer.encode()):
            return None
        return RawIndex(tail[: footer.index_nbytes], footer, len(header), header[-CHECKSUM.size :])

    def _read_index(self, file: File, number: int, footer: Footer) -> RawIndex:
        """The index of a shard of which this footer is expected; both are read together."""
        fits, nbytes = file.nbytes == footer.file_nbytes and footer.index_offset >= 0, footer.index_nbytes + FOOTER.size
        if fits and (tail := file.read(footer.index_offset, nbytes)).endswith(footer.encode()):
            self._note(file, number)
        else:
            footer = self._check(file, number, footer)
            tail = file.read(footer.index_offset, footer.index_nbytes)
        header = self._checked_header(file, footer)
        index = RawIndex(tail[: footer.index_nbytes], footer, len(header), header[-CHECKSUM.size :])
        if self.storage.is_remote:  # a copy that is damaged can be had again
            check_digest(index)
        return index

    def _checked_header(self, file: File, footer: Footer) -> bytes:
        expected = ShardHeader.encode_text(footer.dataset_id, footer.number, self._text)
        header = file.read(0, min(len(expected), footer.index_offset))
        if header == expected:
            return header
        if (nbytes := ShardHeader.nbytes(header)) != len(header):
            header = file.read(0, nbytes)
        dataset_id, number, text = ShardHeader.decode_fixed(header)
        same = (dataset_id, number) == (footer.dataset_id, footer.number)
        if not same or ShardHeader.decode(header).schema != self._manifest.schema:
            raise CorruptError("the shard's header belongs to another shard or another schema")
        self._text = text
        return header
