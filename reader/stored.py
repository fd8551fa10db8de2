"""The samples of a view as they are stored, a bounded part at a time, for whatever copies them elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recordio.errors import SchemaError
from recordio.format.page import Indices
from recordio.format.ragged import Ragged
from recordio.format.schema import Columns
from recordio.reader.columns import scatter

if TYPE_CHECKING:
    from recordio.reader.dataset import ShardDataset
    from recordio.reader.view import DatasetView

CHUNK_NBYTES = 64 << 20
CHUNK_SAMPLES = 1 << 16


def require_stored(view: DatasetView) -> None:
    """Raises SchemaError for a view with transforms or maps: their results are not what is stored."""
    for part in view.parts:
        if part.processing.maps or part.processing.transformed:
            raise SchemaError(
                "samples are copied as they are stored, and this view has transforms or maps: copy the dataset, or a "
                "view of filter, select or split, and transform what comes out"
            )


def stored_chunks(view: DatasetView, nbytes: int = CHUNK_NBYTES) -> Iterator[Columns]:
    """The samples of a view in its order, as columns of about so many bytes, pictures as stored.

    Raises SchemaError for a view with transforms or maps, and whatever reading does.
    """
    require_stored(view)
    for indices in chunk_indices(view, nbytes):
        yield stored_columns(view, indices)


def stored_columns(view: DatasetView, indices: Indices) -> Columns:
    """The samples at these indices of a view as columns, pictures as stored. Ignores transforms and maps."""
    pieces = view.pieces(indices)
    columns = [_read(piece.dataset, piece.indices) for piece in pieces]
    if len(pieces) == 1:  # the samples of a single dataset are in the order that was asked for
        return columns[0]
    rows = np.concatenate([piece.rows for piece in pieces])
    return {name: scatter([one[name] for one in columns], rows) for name in columns[0]}


def _read(dataset: ShardDataset, indices: Indices) -> Columns:
    """With the types and labels of the combined dataset that this one is a part of."""
    columns = dataset.read(dataset.numbers_of(indices))
    for name, cast in dataset.processing.casts.items():
        columns[name] = cast.column(columns[name])
    return {name: column.to_list() if isinstance(column, Ragged) else column for name, column in columns.items()}


def chunk_indices(
    view: DatasetView,
    nbytes: int = CHUNK_NBYTES,
    samples: int = CHUNK_SAMPLES,
    start: int = 0,
    stop: int | None = None,
) -> Iterator[Indices]:
    """The indices of a view from `start` to `stop`, in runs of about so many bytes in memory and so many samples.

    By the mean size of a sample of each shard: that takes no look at the samples.
    """
    stop = len(view) if stop is None else stop
    for begin in range(start, stop, samples):
        indices = np.arange(begin, min(begin + samples, stop))
        group = (np.cumsum(_sample_nbytes(view, indices)) // nbytes).astype(np.int64)
        yield from np.split(indices, np.flatnonzero(np.diff(group)) + 1)


def _sample_nbytes(view: DatasetView, indices: Indices) -> npt.NDArray[np.float64]:
    """float64 (n,): the approximate size in memory of each of these samples."""
    sizes = np.zeros(len(indices))
    for piece in view.pieces(indices):
        blocks = piece.dataset.store.blocks
        block = np.searchsorted(blocks.first, piece.dataset.numbers_of(piece.indices), side="right") - 1
        sizes[piece.rows] = blocks.nbytes[block] / np.diff(blocks.first)[block]
    return sizes
