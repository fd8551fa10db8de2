"""Makes arrays of the values of a batch that differ in length: padded to the longest, or packed into rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from recordio.errors import SchemaError
from recordio.format.page import Indices
from recordio.format.schema import Columns
from recordio.reader.batches.requests import BatchRequest, IndexRequest, first_of_bins
from recordio.reader.columns import Empty
from recordio.reader.order.bins import piece_numbers

PACKED_NAMES = ("position_ids", "document_ids", "cu_seqlens")


class Layout(Protocol):
    """Makes the arrays of a batch from its columns. Raises SchemaError."""

    def __call__(self, columns: Any, request: BatchRequest | IndexRequest, empty: Empty) -> Columns: ...


@dataclass(frozen=True, slots=True)
class Padding:
    """Pads fields to the longest value of the batch: NAME (n, longest, ...), and NAME_length int64 (n,) beside it.

    Attributes:
        values: the padding of each field, by name.
        size: tokens that a batch is to have at most, if there is such a limit.
        field: the field that is to say how many they are.
    """

    values: Mapping[str, float]
    size: int | None = None
    field: str | None = None

    def __call__(self, columns: Any, request: BatchRequest | IndexRequest, empty: Empty) -> Columns:
        _check_names(self.values, columns)
        check_free([f"{name}_length" for name in self.values], columns)
        out: Columns = {}
        for name, column in columns.items():
            out[name] = column
            if name in self.values:
                out[name], out[f"{name}_length"] = _padded(name, column, self.values[name], empty)
        self._check_size([math.prod(out[name].shape[:2]) for name in self.values])
        return out

    def _check_size(self, tokens: list[int]) -> None:
        """Warns of a batch none of whose padded fields stays within the limit."""
        if self.size is not None and min(tokens) > self.size:
            warnings.warn(
                f"batches have more than batch_tokens={self.size} once they are padded: {_disagreement(self.field)}",
                RuntimeWarning,
                stacklevel=1,  # of all batches one line
            )


def _check_names(values: Mapping[str, float], columns: Any) -> None:
    if not isinstance(columns, dict):
        raise SchemaError(
            "padded batches and packed rows are of samples that are dicts, and a map makes others of them"
        )
    if missing := values.keys() - columns.keys():
        raise SchemaError(f"pad_value is for field {min(missing)!r}, which the samples do not have")


def check_free(added: Iterable[str], names: Collection[str]) -> None:
    """Raises SchemaError if arrays that are added to a batch have the names of fields."""
    if taken := [name for name in added if name in names]:
        raise SchemaError(
            f"batches get {', '.join(taken)} of their own, beside the values of samples, which have such a field: read "
            "other fields alone, by fields=, or rename it in a map"
        )


def _padded(name: str, column: Any, fill: float, empty: Empty) -> tuple[npt.NDArray[Any], Indices]:
    arrays = _arrays(name, column)
    lengths = np.fromiter(map(len, arrays), np.int64, len(arrays))
    first = arrays[0]
    out = empty((len(arrays), int(lengths.max()), *first.shape[1:]), first.dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
        row[len(array) :] = fill
    return out, lengths


def _arrays(name: str, column: Any) -> list[npt.NDArray[Any]]:
    """The values of a column: arrays that differ in their first dimension alone. Raises SchemaError."""
    arrays = [np.asarray(value) for value in column]
    kinds = {(one.dtype, one.shape[1:]) if one.ndim else None for one in arrays}
    if len(kinds) != 1 or None in kinds:
        if any(value is None for value in column):
            raise SchemaError(
                f"field {name!r} is missing in some samples, and is neither padded nor packed: fill it in a map"
            )
        found = " and ".join(sorted({f"{one.dtype}{list(one.shape)}" for one in arrays})[:2])
        raise SchemaError(
            f"field {name!r} is neither padded nor packed: expected arrays that differ in length alone, got {found}"
        )
    return arrays


@dataclass(frozen=True, slots=True)
class Packing:
    """Packs documents into rows: each field (rows, size, ...), and three arrays that say where documents lie.

    Of a document that was split, each piece counts as a document. `position_ids` int64 (rows, size) counts from 0 in
    each document, `document_ids` int32 (rows, size) numbers the documents of a row from 0; where a row is not filled
    they are 0 and -1. `cu_seqlens` int32 is where each document begins in all rows one after the other, then
    rows * size; the rest of a row that is not filled is one more there, as kernels for sequences of several lengths
    need it.

    Attributes:
        size: tokens of a row.
        truncates: whether samples are cut off at this size.
        values: what the rest of a row has, by field.
        fill: what it has in other fields.
        field: the field that is to say how long documents are.
    """

    size: int
    truncates: bool
    values: Mapping[str, float]
    fill: float = 0
    field: str | None = None

    def __call__(self, columns: Any, request: BatchRequest | IndexRequest, empty: Empty) -> Columns:
        assert isinstance(request, BatchRequest), "a sampler has no rows"
        _check_names(self.values, columns)
        check_free(PACKED_NAMES, columns)
        row, piece = _rows(request)
        pieces = {name: self._pieces(name, column, piece) for name, column in columns.items()}
        first, *others = pieces
        lengths = np.fromiter(map(len, pieces[first]), np.int64, len(row))
        for name in others:
            if list(map(len, pieces[name])) != lengths.tolist():
                raise SchemaError(f"fields {first!r} and {name!r} of a document differ in length: read one of them")
        begins = self._begins(row, lengths)
        rows = int(row[-1]) + 1
        out = {
            name: self._filled(rows, begins, pieces[name], self.values.get(name, self.fill), empty) for name in pieces
        }
        return out | self._where(rows, row, begins, lengths, empty)

    def _pieces(self, name: str, column: Any, piece: Indices) -> list[npt.NDArray[Any]]:
        """The tokens of each piece. Raises SchemaError if some of a sample would be in none."""
        arrays, starts = _arrays(name, column), piece_numbers(piece) * self.size
        found = [array[at : at + self.size] for array, at in zip(arrays, starts.tolist(), strict=True)]
        if (
            not self.truncates
            and (np.array([len(array) for array in arrays]) - starts)[piece < 0].max(initial=0) > self.size
        ):
            raise _too_long(self.size, self.field)
        return found

    def _begins(self, row: Indices, lengths: Indices) -> Indices:
        """int64 (n,): where each document begins in all rows one after the other. Raises SchemaError."""
        before = np.cumsum(lengths) - lengths
        first = np.flatnonzero(np.diff(row, prepend=-1))
        begins: Indices = row * self.size + before - before[first][row]
        if (begins + lengths > (row + 1) * self.size).any():
            raise _too_long(self.size, self.field)
        return begins

    def _filled(
        self, rows: int, begins: Indices, pieces: list[npt.NDArray[Any]], fill: float, empty: Empty
    ) -> npt.NDArray[Any]:
        out = empty((rows, self.size, *pieces[0].shape[1:]), pieces[0].dtype)
        flat, at = out.reshape(rows * self.size, *pieces[0].shape[1:]), 0
        for begin, values in zip(begins.tolist(), pieces, strict=True):
            flat[at:begin] = fill
            at = begin + len(values)
            flat[begin:at] = values
        flat[at:] = fill
        return out

    def _where(self, rows: int, row: Indices, begins: Indices, lengths: Indices, empty: Empty) -> Columns:
        number = np.arange(len(row)) - np.flatnonzero(np.diff(row, prepend=-1))[row]
        starts = np.unique(np.concatenate([begins, begins + lengths, [rows * self.size]]))
        counts, held = np.diff(starts), lengths > 0
        owner = np.full(len(counts), -1)
        owner[np.searchsorted(starts, begins[held])] = number[held]
        documents, positions = empty((rows, self.size), np.int32), empty((rows, self.size), np.int64)
        documents.reshape(-1)[...] = np.repeat(owner, counts)
        positions.reshape(-1)[...] = np.arange(rows * self.size) - np.repeat(starts[:-1], counts)
        positions[documents < 0] = 0
        found = empty((len(starts),), np.int32)
        found[...] = starts
        return dict(zip(PACKED_NAMES, (positions, documents, found), strict=True))


def _too_long(size: int, field: str | None) -> SchemaError:
    return SchemaError(f"the documents of a row have more than {size} tokens: {_disagreement(field)}")


def _disagreement(field: str | None) -> str:
    return (
        f"samples are longer than field {field!r} says, or a map has made them longer. Name a field by bucket_by= that "
        "says how long they are in the batch"
    )


def _rows(request: BatchRequest) -> tuple[Indices, Indices]:
    """int64 (n,) each: the row of each document in the batch, and which piece of its sample it is."""
    pieces = []
    for one in request.slices:
        assert one.plan.piece is not None, "documents are packed by an order of bins"
        pieces.append(one.plan.piece[one.begin : one.end])
    first, piece = first_of_bins(request.slices), np.concatenate(pieces)
    if request.sources is not None:  # a row of one dataset may follow one of another
        order = np.argsort(request.batch_rows)
        first, piece = first[order], piece[order]
    return np.cumsum(first) - 1, piece
