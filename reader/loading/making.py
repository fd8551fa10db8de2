"""How the batches of a loader are made, as its options say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from numbers import Number
from typing import Any

import numpy as np

from recordio.errors import SchemaError
from recordio.format.schema import Schema
from recordio.reader.batches.layout import PACKED_NAMES, Layout, Packing, Padding, check_free
from recordio.reader.batches.maker import BatchMaker
from recordio.reader.loading.lengths import sequences_of
from recordio.reader.loading.options import LoaderOptions
from recordio.reader.view import DatasetView


def maker_of(
    options: LoaderOptions, dataset: DatasetView, layout: Layout | None, finish: Callable[[Any], Any] | None = None
) -> BatchMaker:
    """What makes the batches of a loader. `finish`: see BatchMaker."""
    by_index = options.sampler is not None or options.batch_sampler is not None
    return BatchMaker(
        [dataset] if by_index else [part[:0] for part in dataset.parts],  # slices name the samples
        collate_fn=options.collate_fn,
        unbatched=options.batch_size is None and not by_index,
        skip=options.on_error == "skip",
        layout=layout,
        finish=finish,
    )


def layout_of(options: LoaderOptions, dataset: DatasetView) -> Layout | None:
    """How batches are padded or packed, if they are. Raises SchemaError."""
    given, size = options.pad_value, options.sequence_length
    if given is None and size is None:
        return None
    option = "pad_value" if size is None else "sequence_length"
    if options.collates or options.batch_size is None or dataset.tuple_fields is not None:
        raise SchemaError(f"{option} makes dicts of arrays: without collate_fn, batch_size=None and ds.tuples")
    named: Mapping[str, float] = given if isinstance(given, Mapping) else {}
    value = 0 if given is None or isinstance(given, Mapping) else given
    _check_numbers([value, *named.values()])
    sequences = sequences_of(dataset.schema)
    field = options.bucket_by or next(iter(sequences), None)
    values = dict.fromkeys(sequences, value) | dict(named)
    if not dataset.has_maps:  # a map may make other fields, and values of another type
        for name in sequences:
            _check_value(name, dataset.schema[name], values[name])
    if size is None:
        padding = Padding(named or values, options.batch_tokens, field)
        _check_padding(padding, dataset, by_name=bool(named))
        return padding
    if not dataset.has_maps:
        _check_rows(sequences, dataset.schema)
    return Packing(size, options.on_overlong == "truncate", named, value, field)


def _check_padding(padding: Padding, dataset: DatasetView, *, by_name: bool) -> None:
    """Raises SchemaError for fields that cannot be padded, or lengths that would take the name of a field."""
    if not padding.values:
        raise SchemaError("pad_value is for arrays of any length, and no field is one")
    if not dataset.has_maps or not by_name:
        _check_present(padding.values, dataset.schema)
    if not dataset.has_maps:
        check_free([f"{name}_length" for name in padding.values], dataset.schema)


def _check_rows(sequences: list[str], schema: Schema) -> None:
    """Raises SchemaError for fields that rows cannot hold."""
    check_free(PACKED_NAMES, schema)
    _check_present(sequences, schema)
    if others := [name for name in schema if name not in sequences]:
        raise SchemaError(
            f"rows hold arrays of any length, not {', '.join(map(repr, others))}: read the others alone, as "
            f"ShardDataset(..., fields={sequences})"
        )


def _check_numbers(values: Iterable[Any]) -> None:
    """Raises SchemaError for a padding that is no number."""
    for value in values:
        if isinstance(value, bool | np.bool_) or not isinstance(value, Number):
            raise SchemaError(f"pad_value is {value!r}: expected a number, or a dict of numbers by field")


def _check_present(names: Iterable[str], schema: Schema) -> None:
    """Raises SchemaError for a field of which values may be missing."""
    for name in names:
        if name in schema and schema[name].optional:
            raise SchemaError(
                f"field {name!r} is optional, and a missing value is neither padded nor packed: leave it out by "
                "fields=, fill it in a map, or name the fields to pad by pad_value={...}"
            )


def _check_value(name: str, kind: Any, value: Any) -> None:
    """Raises SchemaError for a padding that a field cannot hold."""
    try:
        fits = bool(kind.dtype.type(value) == value or value != value)  # not a number is unlike itself
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise SchemaError(f"field {name!r} is {kind}, which cannot hold pad_value={value!r}")
