"""Reads rows of many Arrow or Parquet files by number, in the order asked for, decoding each group once a run.

A *run* is as many of the samples asked for as fit a bound of bytes. Its samples are read in the order of the files and
given back in the order asked for, so a shuffled conversion decodes a group once a run, not once a sample. Memory: the
samples of one run, 256 MiB by their estimate, if they are not in the order of the files, and one step of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recordio.errors import SourceError
from recordio.packages import pyarrow
from recordio.writer.sources.arrow.arrow_columns import unpacked_nbytes
from recordio.writer.sources.arrow.arrow_files import ArrowFile
from recordio.writer.sources.foreign_errors import reading

Indices = npt.NDArray[np.int64]
_RUN_NBYTES = 256 << 20
_PIECE_NBYTES = 64 << 20  # of rows made to columns at a time, dictionaries written out
_MOST_ROW_NBYTES = 1 << 31
_PIECE_ROWS = 1 << 16


class Piece(NamedTuple):
    """Rows that follow each other in what was asked for: a pyarrow.RecordBatch, or the error from reading them."""

    rows: int
    batch: Any
    error: SourceError | None = None


class Groups:
    """Where the samples lie. Pickles as three arrays.

    Attributes:
        files: the file of each group.
        numbers: its number in the file.
        firsts: its first sample; one more entry is the number of samples.
    """

    def __init__(self, files: Indices, numbers: Indices, rows: Indices) -> None:
        self.files, self.numbers = files, numbers
        self.firsts = np.append(0, np.cumsum(rows))

    def __len__(self) -> int:
        return int(self.firsts[-1])

    def of(self, index: int) -> int:
        """The group of a sample."""
        return int(np.searchsorted(self.firsts, index, "right")) - 1

    def places(self, indices: Indices) -> tuple[Indices, Indices]:
        """The file of each sample, and its row there, from 0."""
        files = self.files[np.searchsorted(self.firsts, indices, "right") - 1]
        return files, indices - self.firsts[np.searchsorted(self.files, files)]


class GroupReader:
    """Reads rows, forward as far as possible: the last file and the last step of a group are kept.

    Args:
        groups: where the samples lie.
        open_file: opens a file by its number.
    """

    def __init__(self, groups: Groups, open_file: Callable[[int], ArrowFile]) -> None:
        self._groups = groups
        self._open_file = open_file
        self._file: ArrowFile | None = None
        self._number = -1
        self._forget()

    def _forget(self) -> None:
        self._group = -1
        self._steps: Iterator[Any] = iter(())
        self._batch: Any = None
        self._start = self._end = 0  # the samples of the batch

    def runs(self, indices: Indices, nbytes: Indices) -> Iterator[Indices]:
        """The samples asked for, cut into runs; `nbytes` estimates each of them. One run if they are in order."""
        if len(indices) < 2 or (np.diff(indices) >= 0).all():
            yield indices
            return
        runs = np.cumsum(nbytes) // _RUN_NBYTES
        yield from np.split(indices, np.flatnonzero(np.diff(runs)) + 1)

    def pieces(self, ordered: Indices) -> Iterator[Piece]:
        """Samples in the order of the files. What cannot be read makes a piece with the error."""
        at = 0
        while at < len(ordered):
            group = self._groups.of(int(ordered[at]))
            try:
                self._step_to(group, int(ordered[at]))
                stop = int(np.searchsorted(ordered, self._end))
                found = list(_small(_rows(self._batch, ordered[at:stop] - self._start)))
            except SourceError as error:
                self._forget()
                stop = int(np.searchsorted(ordered, self._groups.firsts[group + 1]))
                found = [Piece(stop - at, None, error)]
            yield from found
            at = stop

    def ordered(self, indices: Indices) -> Iterator[Any]:
        """Samples in any order, as pyarrow.RecordBatch. Raises SourceError."""
        order = np.argsort(indices, kind="stable")
        in_order = bool((order[1:] > order[:-1]).all())
        kept = []
        for piece in self.pieces(indices[order]):
            if piece.error is not None:
                raise piece.error
            if in_order:
                yield piece.batch
            else:
                kept.append(piece.batch)
        if kept:
            places = np.empty(len(order), np.int64)
            places[order] = np.arange(len(order))
            with reading():
                table = pyarrow().Table.from_batches(kept).take(places)
            for batch in table.to_batches(_PIECE_ROWS):
                yield from (piece.batch for piece in _small(batch))

    def _step_to(self, group: int, index: int) -> None:
        """Decodes until a sample of a group is in the batch."""
        if group != self._group or index < self._start:
            self._forget()
            file = self._file_of(group)
            self._group = group
            self._steps = file.steps(int(self._groups.numbers[group]))
            self._start = self._end = int(self._groups.firsts[group])
        while index >= self._end:
            self._batch = next(self._steps, None)
            if self._batch is None:
                raise SourceError("changed while it was converted: it has fewer rows now")
            self._start, self._end = self._end, self._end + self._batch.num_rows

    def _file_of(self, group: int) -> ArrowFile:
        number = int(self._groups.files[group])
        if self._file is None or number != self._number:
            self.close()
            self._file, self._number = self._open_file(number), number
        return self._file

    def close(self) -> None:
        self._forget()
        if self._file is not None:
            self._file.close()
        self._file, self._number = None, -1

    def __del__(self) -> None:
        self.close()


def _rows(batch: Any, rows: Indices) -> Any:
    first, last = int(rows[0]), int(rows[-1])
    if last - first == len(rows) - 1 and (np.diff(rows) == 1).all():
        return batch.slice(first, len(rows))
    with reading():
        return batch.take(pyarrow().array(rows))


def _small(batch: Any) -> Iterator[Piece]:
    """A batch in pieces of bounded size. Raises SourceError for a row that is too large."""
    with reading():
        nbytes = sum(map(unpacked_nbytes, batch.columns))
    rows = batch.num_rows
    if rows > 1 and nbytes > _PIECE_NBYTES:
        yield from _small(batch.slice(0, rows // 2))
        yield from _small(batch.slice(rows // 2))
    elif nbytes > _MOST_ROW_NBYTES:
        raise SourceError(f"a row has {nbytes >> 20:,} MiB, the most is {_MOST_ROW_NBYTES >> 20:,}")
    else:
        yield Piece(rows, batch)
