"""Reads parity files, and the XOR of files that they are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recordio.errors import CorruptError, RecordIOError
from recordio.format.checksum import checksum, require
from recordio.format.header import header_nbytes
from recordio.format.layout import HEADER, PARITY_MAGIC, PARITY_PIECE_NBYTES
from recordio.format.parity import ParityEnd, ParityEntry, ParityHeader
from recordio.storage.base import File, ShardPlace, Storage
from recordio.storage.dataset_files import open_shard_file


class Span(NamedTuple):
    """`nbytes` bytes of a file from `start` on, which stand at offset `at` of something, with zero bytes around."""

    file: File
    start: int
    nbytes: int
    at: int = 0


class Xor:
    """The XOR of spans: parity of shards, or a shard of its parity and others. It joins spans that do not overlap."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans
        self._part = np.empty(PARITY_PIECE_NBYTES, np.uint8)

    def read_into(self, target: npt.NDArray[np.uint8], offset: int) -> None:
        """Fills the target with what lies at this offset of the spans. Raises CorruptError, StorageError."""
        for begin in range(0, len(target), PARITY_PIECE_NBYTES):  # stays in a processor's own cache
            self._piece(target[begin : begin + PARITY_PIECE_NBYTES], offset + begin)

    def _piece(self, target: npt.NDArray[np.uint8], offset: int) -> None:
        target[:] = 0
        for span in self._spans:
            low, high = max(offset, span.at), min(offset + len(target), span.at + span.nbytes)
            if low < high:
                part, out = self._part[: high - low], target[low - offset : high - offset]
                span.file.read_into(part.data, span.start + low - span.at, high - low)
                np.bitwise_xor(out, part, out=out)


@dataclass(frozen=True)
class ParityFile:
    """A parity file whose header and end are good.

    Attributes:
        header: its header.
        start: where the parity begins.
        end: its end.
    """

    header: ParityHeader
    start: int
    end: ParityEnd

    @property
    def entry(self) -> ParityEntry:
        """What a manifest says of it."""
        return self.header.entry(self.end)


def open_parity(storage: Storage, entry: ParityEntry, header: ParityHeader) -> File:
    """The file of a parity. Raises StorageError, and CorruptError if it is missing or no regular file."""
    place = None
    if storage.is_remote:
        end = max(0, entry.nbytes - header.end_nbytes)
        place = ShardPlace(entry.nbytes, entry.digest, len(header.encode()), end, 0, lambda: None)
    return open_shard_file(storage, entry.name, place, "parity file")


def read_parity(file: File) -> ParityFile:
    """The header and the end of a parity file. Raises CorruptError, UnsupportedError, StorageError."""
    start = file.read(0, min(HEADER.size, file.nbytes))
    data = file.read(0, header_nbytes(PARITY_MAGIC, start))
    header = ParityHeader.decode(data)
    expected = len(data) + header.nbytes + header.end_nbytes
    if file.nbytes != expected:
        raise CorruptError(f"the parity has {file.nbytes} bytes, its header says {expected}")
    end = ParityEnd.decode(file.read(expected - header.end_nbytes, header.end_nbytes), header.count)
    if end != header.end(data, end.checksums):
        raise CorruptError("the digest of the parity is not that of its header and its checksums")
    return ParityFile(header, len(data), end)


def check_parity(file: File, header: ParityHeader, entry: ParityEntry) -> ParityFile:
    """Checks by header and end that a file is the one that the manifest means. Raises as `read_parity` does."""
    try:
        found = read_parity(file)
        if found.header != header:
            raise CorruptError("the parity of other shards than the manifest says")
        if found.entry != entry:
            raise CorruptError("another parity file than the manifest means: its length or its digest differs")
    except RecordIOError as error:
        raise error.at(file=file.name)
    return found


def piece_problems(file: File, parity: ParityFile) -> Iterator[RecordIOError]:
    """What is wrong with the pieces of a parity file, all of which are read."""
    for (begin, end), stored in zip(parity.header.pieces(), parity.end.checksums, strict=True):
        try:
            require("parity", stored, checksum(file.read(parity.start + begin, end - begin)))
        except RecordIOError as error:
            yield error.at(file=file.name, byte=parity.start + begin)


def parity_problems(storage: Storage, header: ParityHeader, entry: ParityEntry, full: bool) -> list[RecordIOError]:
    """What is wrong with a file of parity. `full`: its pieces are read, too."""
    try:
        with contextlib.closing(open_parity(storage, entry, header)) as file:
            found = check_parity(file, header, entry)
            return list(piece_problems(file, found)) if full else []
    except RecordIOError as error:
        return [error]


def prove_parity(file: File, header: ParityHeader, entry: ParityEntry) -> ParityFile:
    """Compares every checksum of a file of parity. Raises CorruptError, UnsupportedError, StorageError."""
    found = check_parity(file, header, entry)
    for problem in piece_problems(file, found):
        raise problem
    return found
