"""The statistics of a dataset: as they were written, or from reading every sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ma

from recordio.format.fields import Field
from recordio.format.image_field import Image
from recordio.format.page import encode_page
from recordio.images.decode import decode_image
from recordio.reader.columns import values_of
from recordio.reader.preview import mean_nbytes, stored_column
from recordio.statistics.measures import Measures
from recordio.statistics.numbers import PixelMoments
from recordio.statistics.records import Statistics

if TYPE_CHECKING:
    from recordio.reader.view import DatasetView

_CHUNK_SAMPLES = 1 << 16
_CHUNK_NBYTES = 32 << 20


def written_statistics(view: DatasetView) -> Statistics | None:
    """The statistics in the manifest; None if there are none, or if the view is not all of one dataset, in order."""
    part = view.parts[0]
    written = part.store.manifest.statistics
    whole = isinstance(part.numbers, range) and part.numbers == range(part.store.samples)
    if part is not view or not whole or written is None:
        return None
    found = Statistics.from_json(written)
    return Statistics({name: found[name] for name in view.schema if name in found})


def measured(view: DatasetView, names: Sequence[str]) -> Statistics:
    """The statistics of these fields of all samples, as they are stored. Pictures are decoded."""
    schema = view.schema.select(names)
    measures = Measures(schema)
    rows = min(max(_CHUNK_NBYTES // max(mean_nbytes(view), 1), 1), _CHUNK_SAMPLES)
    sources = [view._only([name]) for name in schema]
    for start in range(0, len(view), rows):
        indices = np.arange(start, min(start + rows, len(view)))
        for number, (name, kind) in enumerate(schema.items()):
            column = stored_column(sources[number], name, indices)
            measures.add(number, _page(kind, column), len(indices))
            if isinstance(kind, Image) and kind.encoded:
                for data in column:
                    if data is not None:
                        measures.add_pixels(name, PixelMoments.of(decode_image(data, kind.mode)))
    return measures.statistics()


def _page(kind: Field, column: Any) -> bytes:
    """The content of the page that a column would be written to."""
    if isinstance(column, np.ndarray) and not isinstance(column, ma.MaskedArray) and not kind.optional:
        return column.tobytes()
    values = values_of(column)
    packed = [None if value is None and kind.optional else kind.pack(value) for value in values]
    return bytes(encode_page(kind, [packed]))
