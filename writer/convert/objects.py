"""Python objects as what is to be converted: which they are, what makes samples of them, and which options fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from recordio.arguments import describe
from recordio.errors import SchemaError
from recordio.writer.convert.job import ConvertJob
from recordio.writer.convert.plan import ConvertOptions
from recordio.writer.convert.publication import Publication
from recordio.writer.convert.stream import StreamJob
from recordio.writer.sources import SourceOptions, SourceSpec
from recordio.writer.sources.python.functions import SampleMaker
from recordio.writer.sources.python.python_inputs import KIND, Inputs, is_list_of_inputs, named
from recordio.writer.sources.tables.table_options import TableOptions


def is_path(source: Any) -> bool:
    return isinstance(source, (str, bytes, os.PathLike))


def sample_maker(
    source: Any,
    fn: Callable[[Any], Any] | None,
    schema: Any,
    identity: Any,
    columns: tuple[str, ...],
    on_error: str,
) -> SampleMaker | None:
    """What makes the samples; None for a path without a function, whose samples are those of the source."""
    if identity is not None and not isinstance(identity, str):
        raise SchemaError(f"identity is {identity!r}: expected a text that changes with the inputs, or with fn")
    if not is_path(source):
        return SampleMaker(fn, columns, on_error == "skip", identity)
    if fn is not None:
        return SampleMaker(fn, (), on_error == "skip", identity)
    for name, given in (("schema", schema), ("identity", identity)):
        if given is not None:
            raise SchemaError(f"{name} is for the samples of fn, or of Python objects; the files here say their own")
    return None


def object_splits(source: Any, split: str | None) -> dict[str, Any]:
    """The datasets of a `DatasetDict` by name, "" for a source of one. Raises SchemaError for an unknown split."""
    splits = source if isinstance(source, Mapping) and source and all(map(_is_split, source.values())) else {}
    if split is None:
        return dict(splits) or {"": source}
    if split not in splits:
        known = f"there are {', '.join(map(str, splits))}" if splits else f"a {type(source).__name__} has none"
        raise SchemaError(f"there is no split {split!r}: {known}")
    return {"": splits[split]}


def _is_split(value: Any) -> bool:
    """Whether this is a dataset by itself, and not a column or a value of a sample."""
    values = (str, bytes, bytearray, Mapping, list, tuple, set, range)
    several = isinstance(value, Iterable) or hasattr(value, "__getitem__")
    return several and not isinstance(value, values) and not hasattr(value, "dtype")


def object_job(
    source: Any, kind: str | None, given: SourceOptions, publication: Publication, options: ConvertOptions
) -> ConvertJob | StreamJob:
    """The job for a Python object. Raises SchemaError for what is no source, or an option for files."""
    table = TableOptions(columns=given.table.columns)
    if kind is not None or given != SourceOptions(table=table):
        raise SchemaError(
            f"the source is a {type(source).__name__}: kind, embed, root, masks, mode and the options of tables but "
            "columns are for files"
        )
    assert options.maker is not None
    if is_list_of_inputs(source):
        maker = options.maker
        inputs = Inputs(source, maker.identity, as_stored=maker.function is None and not maker.columns)
        return ConvertJob(SourceSpec(named(source), KIND, given=inputs), publication, options)
    return StreamJob(named(source), _iterator(source), publication, options)


def _iterator(source: Any) -> Iterator[Any]:
    if not isinstance(source, Iterable):
        raise SchemaError(f"the source is {describe(source)}: expected a path, a dataset, or an iterable of samples")
    return iter(source)
