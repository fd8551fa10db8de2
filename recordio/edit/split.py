"""`recordio.split`: a dataset is cut into several, each of a share of its samples, drawn by a seed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy import ma

from recordio.arguments import describe, integer
from recordio.determinism import key
from recordio.edit.job import EditReport, make_new
from recordio.edit.reshard import rewriting_plan
from recordio.edit.sources import source_view, target_of
from recordio.errors import DatasetError, SchemaError
from recordio.format.fields import Text
from recordio.format.manifest import FILE_NAME
from recordio.format.masks import missing_rows
from recordio.format.numeric import Scalar
from recordio.format.page import Indices
from recordio.reader.columns import grouped
from recordio.reader.order.split import split_parts
from recordio.reader.view import DatasetView
from recordio.remote.opening import StorageArgument
from recordio.writer.convert.progress import ProgressSink
from recordio.writer.convert.publication import open_publication
from recordio.writer.shard_writer import DEFAULT_SHARD_BYTES, WriteOptions

_NAME = re.compile(r"[^./\\\0][^/\\\0]*")


def split(
    source: str | os.PathLike[str] | DatasetView,
    destination: str | os.PathLike[str],
    parts: Mapping[str, float],
    *,
    seed: int = 0,
    stratify: str | None = None,
    compression: str | None = "auto",
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    block_bytes: int | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    parity: int | None = None,
    storage: StorageArgument = None,
    progress: ProgressSink | None = None,
) -> dict[str, EditReport]:
    """Makes a dataset at destination/NAME for each part, of its share of the samples. The source stays as it is.

        recordio.split("all", "parts", {"train": 0.8, "val": 0.1, "test": 0.1}, stratify="label")

    No sample is in two parts; which is where follows from the seed alone, and is what `ds.split` says for the same
    fractions. Each part keeps the order of the source, and is written anew as `recordio.reshard` does it: the same
    bytes whatever `workers` is, and the same command goes on where one was stopped. `ds.split` gives views instead,
    and copies nothing.

    Args:
        source: the folder of a dataset, or a dataset or view without transforms and maps.
        destination: the folder of the new datasets; it is made if need be.
        parts: the fraction of the samples of each part by its name. With a sum below 1 the rest is left out, and a
            note says so.
        seed: from 0.
        stratify: the name of a field, such as "label": each of its values is split in these proportions, rounded.
        compression, shard_bytes, block_bytes, workers, overwrite, parity: of each part; see `recordio.reshard`.
        storage: how object stores are reached, see `recordio.remote.options.StorageOptions`.
        progress: called as progress(samples done, samples to do).

    Returns:
        A report for each part.

    Raises:
        DatasetError, SchemaError, CorruptError, StorageError: as `recordio.reshard` does; also SchemaError for parts
            that are no fractions, and for a part without samples.
    """
    integer("workers", workers, 0, optional=True)
    write = WriteOptions(compression=compression, shard_bytes=shard_bytes, block_bytes=block_bytes, parity=parity)
    view = source_view(source, storage)
    top = open_publication("destination", destination, storage)
    if top.has(FILE_NAME):
        text = "there is a dataset here, so it cannot hold others; choose another folder"
        raise DatasetError(text).at(file=top.location)
    views = split_views(view, parts, seed, stratify)
    targets = {name: target_of(f"{os.fspath(destination)}/{name}", view.parts, storage) for name in views}
    left = len(view) - sum(map(len, views.values()))
    notes = (f"{left} samples are in no part: the fractions add up to {sum(parts.values()):g}",) if left else ()
    plans = {name: rewriting_plan(part, write, workers, notes) for name, part in views.items()}
    return {name: make_new(targets[name], plan, overwrite, progress) for name, plan in plans.items()}


def split_views(
    view: DatasetView, parts: Mapping[str, float], seed: int, stratify: str | None
) -> dict[str, DatasetView]:
    """The view of each part. Raises SchemaError."""
    if not isinstance(parts, Mapping) or not parts:
        raise SchemaError(f"parts is a dict such as {{'train': 0.8, 'val': 0.2}}, not {describe(parts)}")
    for name in parts:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise SchemaError(f"the name of a part is that of a folder, and begins with no dot; {name!r} is not")
    fractions = list(parts.values())
    found: list[Any] = view.split(fractions, seed) if stratify is None else _stratified(view, fractions, seed, stratify)
    for (name, fraction), part in zip(parts.items(), found, strict=True):
        if not len(part):
            raise SchemaError(f"the part {name!r} is {fraction} of {len(view)} samples, which is none")
    return dict(zip(parts, found, strict=True))


def _stratified(view: DatasetView, fractions: Sequence[float], seed: int, field: str) -> list[DatasetView]:
    """The samples of each value of the field are split by themselves; missing values count as one."""
    kind = view.schema.select([field])[field]
    if not isinstance(kind, Text) and not (isinstance(kind, Scalar) and kind.dtype.kind in "biu"):
        raise SchemaError(f"stratify takes a field of integers, bools or text, not {kind}").at(field=field)
    part = np.zeros(len(view), np.int64)
    numbers, _, runs = grouped(_codes(view.column(field)))
    for number, rows in zip(numbers, runs, strict=True):
        part[rows], _ = split_parts(len(rows), fractions, key(integer("seed", seed, 0), number))
    return [view.select(np.flatnonzero(part == k)) for k in range(len(fractions))]


def _codes(column: Any) -> Indices:
    """int64 (n,): a number for each value, by its order among the values; the last for missing ones."""
    if isinstance(column, np.ndarray):
        values, codes = np.unique(ma.getdata(column), return_inverse=True)
        missing = missing_rows(column) if isinstance(column, ma.MaskedArray) else np.zeros(len(column), bool)
        return np.where(missing, len(values), codes)
    numbers = {value: k for k, value in enumerate(sorted({value for value in column if value is not None}))}
    return np.array([numbers.get(value, len(numbers)) for value in column], np.int64)
