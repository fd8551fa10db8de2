"""How the batches of a loader are made, as its options say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

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
    if options.pad_value is None and options.sequence_length is None:
        return None
    option = "pad_value" if options.sequence_length is None else "sequence_length"
    if options.collates or options.batch_size is None or dataset.tuple_fields is not None:
        raise SchemaError(f"{option} makes dicts of arrays: without collate_fn, batch_size=None and ds.tuples")
    sequences = sequences_of(dataset.schema)
    field = options.bucket_by or next(iter(sequences), None)
    given = options.pad_value
    named: Mapping[str, float] = given if isinstance(given, Mapping) else {}
    value = 0 if given is None or isinstance(given, Mapping) else given
    values = dict.fromkeys(sequences, value) | dict(named)
    for name in () if dataset.has_maps else sequences:  # a map may make values of another type
        _check_value(name, dataset.schema[name], values[name])
    if options.sequence_length is None:
        if not values:
            raise SchemaError("pad_value is for arrays of any length, and no field is one")
        padding = Padding(named or values, options.batch_tokens, field)
        if not dataset.has_maps or not named:
            _check_present(padding.values, dataset.schema)
        if not dataset.has_maps:
            check_free([f"{name}_length" for name in padding.values], dataset.schema)
        return padding
    if not dataset.has_maps:
        check_free(PACKED_NAMES, dataset.schema)
        _check_present(sequences, dataset.schema)
    others = [name for name in dataset.schema if name not in sequences]
    if others and not dataset.has_maps:
        raise SchemaError(
            f"rows hold arrays of any length, not {', '.join(map(repr, others))}: read the others alone, as "
            f"ShardDataset(..., fields={sequences})"
        )
    truncates = options.on_overlong == "truncate"
    return Packing(options.sequence_length, truncates, named, value, field)  # a map may have made other fields


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
