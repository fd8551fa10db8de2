"""How datasets show themselves in notebooks. Nothing here raises: what cannot be shown says why.

The work is bounded, however large the dataset: a few samples, some thousand labels, about a second.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from recordio.arguments import integer
from recordio.display.markup import Markup, joined, style, tag
from recordio.display.pictures import is_picture_field
from recordio.display.pieces import bars_of, cards_of, fields_of, paragraph, sample_card, sample_table, value_of
from recordio.display.summary import label_histogram
from recordio.display.text import clean, count_text, cut, error_text
from recordio.display.values import LABELS, Damaged, classes_of, label_field, sample_lines
from recordio.errors import RecordIOError
from recordio.reader.preview import label_counts, spread, stored_samples, stored_values

if TYPE_CHECKING:
    from recordio.reader.view import DatasetView

PICTURES = 8
ROWS = 3  # samples in the card of a dataset without pictures
MOST_SHOWN = 200
_LABEL_SECONDS = 0.7
_MOST_FIELDS = 20
_REPR_COLUMNS = 400


def dataset_card(view: DatasetView) -> str:
    """The card of a dataset as HTML: its samples, fields, pictures and labels."""
    parts = (_head, _examples, _labels)
    return _card(*(_guarded(partial(part, view)) for part in parts))


def _head(view: DatasetView) -> Markup:
    title = tag("h3", type(view).__name__, " ", tag("small", count_text(len(view), "sample")))
    return joined([title, paragraph(cut(repr(view), _REPR_COLUMNS)), fields_of(view.schema, _MOST_FIELDS)])


def _card(*parts: Markup) -> Markup:
    return tag("div", style(), *parts, class_="recordio")


def _guarded(make: Callable[[], Markup]) -> Markup:
    """A part of a card, or why there is none: a notebook shows a traceback in place of the whole card."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001 any code of the user's may run in here
        return value_of(_failed(error))


def _failed(error: Exception) -> Damaged:
    return Damaged(str(error) if isinstance(error, RecordIOError) else error_text(error))


def _examples(view: DatasetView) -> Markup:
    """A strip of pictures from all over the dataset, or the first samples where there are none."""
    name = next((name for name, kind in view.schema.items() if is_picture_field(kind)), None)
    if name is None:
        names = list(view.schema)[:_MOST_FIELDS]
        return sample_table(stored_samples(view, names, np.arange(min(len(view), ROWS))), _classes(view))
    pictures = stored_values(view, name, spread(len(view), PICTURES))
    return tag("div", *map(value_of, pictures), class_="r-strip")


def _classes(view: DatasetView) -> dict[str, Any]:
    return {name: classes_of(name, view.metadata) for name in LABELS}


def _labels(view: DatasetView) -> Markup:
    """The histogram of the labels; nothing without a label that has classes."""
    name = label_field(view.schema, view.metadata)
    if name is None:
        return Markup()
    classes = view.metadata["classes"]
    statistics = view.statistics
    known = statistics[name].values if statistics and name in statistics else None
    counts, seen = (known, len(view)) if known is not None else label_counts(view, name, _LABEL_SECONDS)
    which = f"{seen:,} of the samples, evenly spread" if seen < len(view) else "all samples"
    words = f"{name}: {len(classes):,} classes, counted in {which}"
    return joined([paragraph(words), bars_of(label_histogram(counts, classes))])


class Samples:
    """The first samples of a dataset, as it gives them: transforms and maps applied.

    A notebook shows pictures, other places text. Each time that it is shown, the samples are read again.
    """

    def __init__(self, view: DatasetView, n: int) -> None:
        self._view = view
        self._n = min(integer("n", n, 0), MOST_SHOWN, len(view))

    def _samples(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Number and sample. One that cannot be read, or that a function fails on, has the error in its place."""
        for index in range(self._n):
            try:
                yield index, _named(self._view[index], self._view.tuple_fields)
            except Exception as error:  # noqa: BLE001 functions of the user's run in here
                yield index, {"": _failed(error)}

    def _repr_html_(self) -> str:
        of = paragraph(f"{count_text(self._n, 'sample')} of {len(self._view):,}")
        return _card(_guarded(self._markup), of)

    def _markup(self) -> Markup:
        classes = _classes(self._view)
        if any(map(is_picture_field, self._view.schema.values())):
            return cards_of(sample_card(index, sample, classes) for index, sample in self._samples())
        return sample_table(self._samples(), classes)

    def __repr__(self) -> str:
        return "\n".join(self._lines(shutil.get_terminal_size().columns))

    def _lines(self, columns: int) -> Iterator[str]:
        yield f"{count_text(self._n, 'sample')} of {clean(repr(self._view))}"
        for index, sample in self._samples():
            yield f"sample {index}"
            failed = sample.get("")
            if isinstance(failed, Damaged):
                yield f"  {clean(failed.reason)}"
            else:
                yield from sample_lines(sample, self._view.metadata, columns)


def _named(sample: Any, fields: Sequence[str] | None) -> Mapping[str, Any]:
    """The values of a sample by name: maps may return anything. `fields`: what it is a tuple of, if known."""
    if isinstance(sample, dict):
        return _by_text(sample)
    values = sample if isinstance(sample, (tuple, list)) else [sample]
    return dict(zip(fields or map(str, range(len(values))), values, strict=True))


def _by_text(sample: dict[Any, Any]) -> dict[str, Any]:
    """The values by the text of their keys. Types tell keys of one text apart, such as 1 and "1"."""
    found: dict[str, Any] = {}
    for key, value in sample.items():
        name = str(key)
        while not isinstance(key, str) and (name in sample or name in found):
            name += f" ({type(key).__name__})"
        found[name] = value
    return found
