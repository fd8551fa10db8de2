"""`recordio.merge`: several datasets become one. Shards of the same fields are copied, page by page as they are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recordio.arguments import describe, flag, integer
from recordio.edit.job import EditReport, make_new
from recordio.edit.sources import (
    SOURCES,
    hidden_fields,
    name_of,
    open_source,
    place_of,
    source_record,
    target_of,
    without_record,
)
from recordio.edit.units import Copied, EditPlan, Rewritten
from recordio.errors import SchemaError
from recordio.format.schema import Schema
from recordio.reader.combined import ConcatDataset
from recordio.reader.dataset import ShardDataset
from recordio.reader.joining import Cast
from recordio.remote.opening import StorageArgument
from recordio.statistics.records import merged_json
from recordio.writer.convert.plan import json_digest
from recordio.writer.convert.progress import ProgressSink
from recordio.writer.convert.record import KEY
from recordio.writer.metadata import require_fit
from recordio.writer.shard_writer import WriteOptions

_RULE = 1  # version of what follows from the sources; part of the dataset's identity


def merge(
    destination: str | os.PathLike[str],
    sources: Sequence[str | os.PathLike[str]],
    *,
    relabel: bool = False,
    workers: int | None = None,
    overwrite: bool = False,
    parity: int | None = None,
    storage: StorageArgument = None,
    progress: ProgressSink | None = None,
) -> EditReport:
    """Makes one dataset of several, one after the other. The sources stay as they are.

        recordio.merge("week", ["monday", "tuesday", "wednesday"])

    Shards are copied: pages are not coded anew, and each checksum is compared on the way. Where fields of two types
    are joined without loss, as ConcatDataset joins them, the shards of the narrower type are written anew, with a note.
    The same sources give the same bytes, whatever `workers` is. A merge that was stopped goes on where it was when it
    is run again, and a finished one is left as it is.

    Metadata on which all sources agree is that of the result. What differs is kept by source, with the record of its
    conversion, in `metadata["conversion"]["sources"]`, and a note says so.

    Args:
        destination: the folder of the dataset; it is made if need be.
        sources: the folders of the datasets; one may be given twice.
        relabel: maps labels to the union of the classes in `metadata["classes"]`; those shards are written anew.
        workers: processes; 0 and 1 are this one, None is one for each processor if there is enough to do.
        overwrite: replaces another dataset at the destination; it stays whole until the new one stands.
        parity: a file of parity for every so many shards, see `DatasetWriter`. That of the sources is left behind.
        storage: how object stores are reached, see `recordio.remote.options.StorageOptions`.
        progress: called as progress(samples done, samples to do).

    Raises:
        DatasetError: a source is no dataset, or the destination is not free, or is or lies in a source.
        SchemaError: fields cannot be joined without loss, or a label means two classes; the message names them.
        CorruptError: a source is damaged.
        StorageError: the system refused; what is finished is kept, and the next run goes on.
    """
    if isinstance(sources, (str, bytes, os.PathLike)) or not sources:
        raise SchemaError(f"sources is a list of the folders of datasets, not {describe(sources)}")
    integer("workers", workers, 0, optional=True)
    opened = [open_source(source, storage) for source in sources]
    target = target_of(destination, opened, storage)
    plan = _plan(opened, flag("relabel", relabel), WriteOptions(parity=parity), workers)
    return make_new(target, plan, overwrite, progress)


def _plan(sources: Sequence[ShardDataset], relabel: bool, write: WriteOptions, workers: int | None) -> EditPlan:
    """Raises SchemaError."""
    whole = ConcatDataset(sources, relabel=relabel)
    require_classes(sources)
    metadata = without_record(whole.metadata)
    record = _record(sources, metadata)
    require_fit(whole.schema, {**metadata, **record})
    units = [unit for k, part in enumerate(whole.parts) for unit in units_of(part, whole.schema, k)]
    identity = {
        "rule": _RULE,
        "sources": [source.store.manifest_digest.hex() for source in sources],
        "schema": whole.schema.to_json(),
        "metadata": metadata,
    }
    dataset_id = json_digest(identity)
    return EditPlan(
        schema=whole.schema,
        metadata=metadata,
        record=record,
        statistics=statistics_of(sources, units),
        dataset_id=dataset_id,
        digest=dataset_id,
        units=units,
        views=whole.parts,
        write=write,
        parity=write.new_parity,
        workers=workers,
        notes=(*rewriting_notes(whole.parts, whole.schema), *_metadata_notes(sources, metadata)),
    )


def require_classes(sources: Sequence[ShardDataset]) -> None:
    """Raises SchemaError if some datasets name the classes of their labels, and others do not."""
    named = [isinstance(source.metadata.get("classes"), list) for source in sources]
    if any(named) and not all(named):
        some, other = sources[named.index(True)], sources[named.index(False)]
        raise SchemaError(
            f"{some!r} names its classes in metadata['classes'] and {other!r} does not, so it cannot be told whether "
            "their labels mean the same"
        )


def units_of(part: ShardDataset, schema: Schema, view: int, first: int = 0) -> list[Copied | Rewritten]:
    """A unit for each shard of a dataset with samples, from number `first` on."""
    place, starts = place_of(part), part.store.first
    entries = [(k, entry) for k, entry in enumerate(part.store.manifest.shards) if k >= first and entry.samples]
    if is_copied(part, schema):
        return [Copied(place, entry) for _, entry in entries]
    return [Rewritten(view, starts[k], starts[k + 1], entry.nbytes) for k, entry in entries]


def is_copied(part: ShardDataset, schema: Schema) -> bool:
    """Whether the shards of a part of a combined dataset are those of its schema already."""
    return part.schema == schema and all(map(_keeps, part.processing.casts.values()))


def _keeps(cast: Cast) -> bool:
    """Whether a cast changes no label, and no type."""
    same = cast.labels is None or np.array_equal(cast.labels, np.arange(len(cast.labels)))
    return same and cast.stored == cast.joined


def rewriting_notes(parts: Sequence[ShardDataset], schema: Schema) -> list[str]:
    """Which datasets are written anew, and why."""
    notes = []
    for part in parts:
        if not is_copied(part, schema):
            other = [f"{name} ({kind} -> {schema[name]})" for name, kind in part.schema.items() if kind != schema[name]]
            why = ", ".join(other) or "its labels get other numbers"
            notes.append(f"{name_of(part)} is written anew: {why}")
    return notes


def statistics_of(sources: Sequence[ShardDataset], units: Sequence[Copied | Rewritten]) -> Mapping[str, Any] | None:
    """The statistics of all samples of these datasets; None if values are written in another form."""
    if not all(isinstance(unit, Copied) for unit in units):
        return None
    return merged_json([source.store.manifest.statistics for source in sources])


def _record(sources: Sequence[ShardDataset], metadata: Mapping[str, Any]) -> dict[str, Any]:
    hidden = hidden_fields(sources)
    names = {"names": hidden} if hidden else {}
    return {KEY: names | {SOURCES: [source_record(source, metadata) for source in sources]}}


def _metadata_notes(sources: Sequence[ShardDataset], metadata: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys(name for source in sources for name in without_record(source.metadata))
    return [
        f"the metadata {name!r} differs among the sources: it is kept by source, in metadata['conversion']['sources']"
        for name in names
        if name != "classes"  # of which the labels tell
        if name not in metadata or any(source.metadata.get(name) != metadata[name] for source in sources)
    ]
