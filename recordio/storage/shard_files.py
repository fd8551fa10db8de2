"""Opens the shards of a dataset, each proven to be the one in the manifest, and reads their indexes, many at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Sequence

import numpy as np

from recordio.errors import CorruptError, DatasetError, RecordIOError, SchemaError
from recordio.format.index import RawIndex
from recordio.format.layout import CHECKSUM, FOOTER, index_dtype, padded
from recordio.format.manifest import Manifest
from recordio.format.shard import Footer, ShardHeader
from recordio.format.shard_table import shard_name
from recordio.storage.base import File, Storage
from recordio.storage.dataset_files import check_footer, open_shard_file, read_manifest
from recordio.storage.machine import share_of_files

_AHEAD = 32  # files of which the headers and indexes are read at a time, if so many may be open


class ShardFiles:
    """The shards of a dataset as files. Shards are counted by their position in the manifest. Thread-safe.

    Args:
        storage: the dataset's folder.
        manifest: the manifest.
        digest: the digest of the manifest's bytes: errors say if the dataset was replaced. None if it does not matter.

    Attributes:
        state: another object whenever a shard is found to be another file than before, or to have been changed.
    """

    def __init__(self, storage: Storage, manifest: Manifest, digest: bytes | None = None) -> None:
        self.storage = storage
        self._manifest = manifest
        self._digest = digest
        self._row_nbytes = index_dtype(len(manifest.schema)).itemsize
        self._proven: dict[int, Hashable] = {}  # the files whose footers have been checked
        self.state = object()
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
                self._check(file, number, self._footer(number))
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
        return open_shard_file(self.storage, name)

    def _check(self, file: File, number: int, expected: Footer) -> Footer:
        """The footer of a shard, which is the expected one or differs from it in what the manifest does not say."""
        footer, fits = expected, file.nbytes == expected.file_nbytes and expected.index_offset >= 0
        if not fits or file.read(file.nbytes - FOOTER.size, FOOTER.size) != expected.encode():
            footer = check_footer(file, self._manifest.shards[number], self._manifest.dataset_id)
        self._note(file, number)
        return footer

    def _note(self, file: File, number: int) -> None:
        """Notes that this file is the shard."""
        if number in self._proven and (file.identity is None or file.identity != self._proven[number]):
            self.state = object()
        self._proven[number] = file.identity

    def _footer(self, number: int) -> Footer:
        """The footer that the manifest expects."""
        table = self._manifest.table
        nbytes, blocks = table.nbytes.item(number), table.blocks.item(number)
        index_nbytes = padded(blocks * self._row_nbytes)
        return Footer(
            dataset_id=self._manifest.dataset_id,
            number=table.numbers.item(number),
            fields=len(self._manifest.schema),
            file_nbytes=nbytes,
            index_offset=nbytes - FOOTER.size - index_nbytes,
            index_nbytes=index_nbytes,
            samples=table.samples.item(number),
            blocks=blocks,
            digest=table.digests[number].tobytes(),
        )

    def read_indexes(self, numbers: Sequence[int]) -> tuple[dict[int, RawIndex], dict[int, RecordIOError]]:
        """The indexes of these shards, and the errors of those that have none."""
        found: dict[int, RawIndex] = {}
        failed: dict[int, RecordIOError] = {}
        ahead = min(_AHEAD, share_of_files(64))
        for begin in range(0, len(numbers), ahead):
            opened: list[tuple[int, File, Footer]] = []
            for number in numbers[begin : begin + ahead]:
                try:
                    file, footer = self._opened(number), self._footer(number)
                except RecordIOError as error:
                    failed[number] = self.explained(error)
                    continue
                tail = footer.file_nbytes - footer.index_offset
                file.will_need([(0, len(self._text)), (footer.index_offset, tail)])
                opened.append((number, file, footer))
            for number, file, footer in opened:
                try:
                    found[number] = self._read_index(file, number, footer)
                except RecordIOError as error:
                    failed[number] = self.explained(error.at(file=file.name))
        return found, failed

    def _read_index(self, file: File, number: int, footer: Footer) -> RawIndex:
        """The index of a shard of which this footer is expected; both are read together."""
        fits, nbytes = file.nbytes == footer.file_nbytes and footer.index_offset >= 0, footer.index_nbytes + FOOTER.size
        if fits and (tail := file.read(footer.index_offset, nbytes)).endswith(footer.encode()):
            self._note(file, number)
        else:
            footer = self._check(file, number, footer)
            tail = file.read(footer.index_offset, footer.index_nbytes)
        header = self._checked_header(file, footer)
        return RawIndex(tail[: footer.index_nbytes], footer, len(header), header[-CHECKSUM.size :])

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
