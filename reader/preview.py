"""Some of a dataset's values as they are stored, for people who look: bounded, and whole whatever is damaged.

Nothing here raises for damage: a value that cannot be read is a Damaged, beside all others.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recordio.display.summary import Summary, measure, summarise
from recordio.display.values import Damaged, classes_of
from recordio.errors import RecordIOError
from recordio.format.page import Indices
from recordio.reader.columns import values_of

if TYPE_CHECKING:
    from recordio.reader.view import DatasetView

LABELS_COUNTED = 4096
_CHUNK_SAMPLES = 256
_CHUNK_NBYTES = 32 << 20
_MOST_NBYTES = 512 << 20  # read for the summary of a field
_LEAST_LOOKED_AT = 16


def spread(n: int, count: int) -> Indices:
    """int64: up to `count` of n indices, evenly spread, ascending."""
    return np.arange(n) if n <= count else np.arange(count) * n // count


def stored_values(view: DatasetView, name: str, indices: Indices) -> list[Any]:
    """A field of these samples as stored: pictures are bytes, missing values None. Reads what can be read."""
    return _read(view._only([name]), name, indices)


def stored_samples(view: DatasetView, names: Sequence[str], indices: Indices) -> Iterator[tuple[int, dict[str, Any]]]:
    """Index and fields of these samples, as stored. Some are in memory at a time."""
    sources = {name: view._only([name]) for name in names}
    for chunk in _chunks(indices, mean_nbytes(view)):
        columns = [_read(source, name, chunk) for name, source in sources.items()]
        for index, *values in zip(chunk.tolist(), *columns, strict=True):
            yield index, dict(zip(names, values, strict=True))


def _read(source: DatasetView, name: str, indices: Indices) -> list[Any]:
    try:
        return list(values_of(stored_column(source, name, indices)))
    except RecordIOError as error:
        if len(indices) == 1:
            return [Damaged(str(error))]
    half = len(indices) // 2
    return _read(source, name, indices[:half]) + _read(source, name, indices[half:])


def stored_column(source: DatasetView, name: str, indices: Indices) -> Any:
    """A field of these samples as stored, of a view of this field alone. Raises what reading raises."""
    pieces = source.pieces(indices) if len(indices) else []
    columns = [piece.dataset._with(_decode=None)._columns(piece.indices)[name] for piece in pieces]
    if len(columns) == 1:
        return columns[0]
    found: list[Any] = [None] * len(indices)
    for piece, column in zip(pieces, columns, strict=True):
        for row, value in zip(piece.rows.tolist(), values_of(column), strict=True):
            found[row] = value
    return found


def mean_nbytes(view: DatasetView) -> int:
    """The decoded size of a sample, about: what all fields take on average."""
    samples: int = sum(part.store.samples for part in view.parts)
    nbytes: int = sum(part.store.content_nbytes for part in view.parts)
    return nbytes // max(samples, 1)


def looked_at(view: DatasetView, most: int) -> Indices:
    """The samples to summarise: `most` at most, evenly spread, and fewer where samples are large."""
    return spread(len(view), min(most, max(_LEAST_LOOKED_AT, _MOST_NBYTES // max(mean_nbytes(view), 1))))


def summary_of(view: DatasetView, name: str, indices: Indices) -> Summary:
    """The summary of a field in these samples."""
    kind, source = view.schema[name], view._only([name])
    nbytes = mean_nbytes(view) if kind.row_nbytes is None else kind.row_nbytes
    chunks = _chunks(indices, nbytes)
    measures = [measure(kind, value) for chunk in chunks for value in _read(source, name, chunk)]
    return summarise(kind, measures, classes_of(name, view.metadata))


def _chunks(indices: Indices, nbytes: int) -> Iterator[Indices]:
    """The indices, as many at a time as fit into memory if each sample takes so many bytes."""
    size = min(max(_CHUNK_NBYTES // max(nbytes, 1), 1), _CHUNK_SAMPLES)
    return (indices[start : start + size] for start in range(0, len(indices), size))


def label_counts(view: DatasetView, name: str, seconds: float) -> tuple[Counter[int], int]:
    """How often each label stands in some samples, evenly spread, and how many samples these are.

    They are LABELS_COUNTED, or fewer once that time is over. Each chunk is spread over all samples, so that those read
    in time are no worse a choice.
    """
    deadline = time.monotonic() + seconds
    indices, source = spread(len(view), LABELS_COUNTED), view._only([name])
    step = -(-len(indices) // _CHUNK_SAMPLES) or 1
    counts: Counter[int] = Counter()
    seen = 0
    for start in range(step):
        labels = _read(source, name, indices[start::step])
        seen += len(labels)
        counts.update(int(label) for label in labels if label is not None and not isinstance(label, Damaged))
        if time.monotonic() > deadline:
            break
    return counts, seen
