"""`recordio.append`: adds the samples of one dataset to another. Its readers see the old dataset or the new one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from recordio.arguments import integer
from recordio.edit.job import EditReport, make, report_of
from recordio.edit.merge import require_classes, rewriting_notes, statistics_of, units_of
from recordio.edit.sources import (
    SOURCES,
    conversion_of,
    open_source,
    shards_digest,
    source_record,
    target_of,
    without_record,
)
from recordio.edit.units import EditPlan
from recordio.errors import DatasetError, SchemaError
from recordio.format.checksum import digest
from recordio.reader.combined import ConcatDataset
from recordio.reader.dataset import ShardDataset
from recordio.remote.opening import StorageArgument
from recordio.writer.convert.progress import ProgressSink
from recordio.writer.convert.record import KEY
from recordio.writer.metadata import require_fit
from recordio.writer.shard_writer import WriteOptions


def append(
    destination: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    workers: int | None = None,
    storage: StorageArgument = None,
    progress: ProgressSink | None = None,
) -> EditReport:
    """Adds the samples of one dataset to another that is there, behind its own. The source stays as it is.

    Shards are copied as `recordio.merge` copies them; those of narrower fields, which hold without loss in the fields
    of the destination, are written anew, with a note. The destination keeps its fields and its metadata. Readers that
    have opened it go on with what they know; `refresh` shows them the new samples.

    Where the destination has parity, that of its last shards grows, and what is added has parity too.

    The destination records what was added, in `metadata["conversion"]["sources"]`. So the same append again, also
    after the first one was killed, adds nothing twice; and once the source has grown, only its new shards are added.

    Args:
        destination: the folder of the dataset that grows.
        source: the folder of the dataset whose samples are added.
        workers: processes; 0 and 1 are this one, None is one for each processor if there is enough to do.
        storage: how object stores are reached, see `recordio.remote.options.StorageOptions`.
        progress: called as progress(samples done, samples to do).

    Raises:
        DatasetError: one of the two is no dataset, or they are the same, or another writer is at work.
        SchemaError: the fields of the source do not fit those of the destination, or a label means two classes.
        CorruptError: one of the two is damaged.
        StorageError: the system refused; the destination is as before, and the next run goes on.
    """
    integer("workers", workers, 0, optional=True)
    added = open_source(source, storage)
    target = target_of(destination, [added], storage)
    open_source(destination, storage)  # before the lock would make a folder
    with target.held():
        old, now = open_source(destination, storage), target.read()
        if now is None or now.encode() != old.store.manifest.encode():
            raise DatasetError("another writer has published there meanwhile: run it again").at(file=target.location)
        first = _taken_before(old.metadata, added)
        notes = (f"{first} of its shards were added before",) if first else ()
        if first == len(added.store.manifest.shards):
            return report_of(target, old.store.manifest, notes)
        plan = _plan(old, added, first, notes, workers)
        return make(target, plan, True, progress)


def _taken_before(metadata: Mapping[str, Any], added: ShardDataset) -> int:
    """How many of the first shards of a dataset the record says were taken already."""
    shards, found = added.store.manifest.shards, 0
    records = conversion_of(metadata).get(SOURCES)
    for record in records if isinstance(records, list) else []:
        count = record.get("shards") if isinstance(record, dict) else None
        if isinstance(count, int) and found < count <= len(shards):
            found = count if record.get("digest") == shards_digest(shards[:count]) else found
    return found


def _plan(old: ShardDataset, added: ShardDataset, first: int, notes: tuple[str, ...], workers: int | None) -> EditPlan:
    """Raises SchemaError."""
    whole = ConcatDataset([old, added])
    require_classes([old, added])
    for name, kind in old.schema.items():
        if whole.schema[name] != kind:
            raise SchemaError(
                f"{kind} here cannot hold {added.schema[name]} of {added!r} without loss; recordio.merge makes a "
                "dataset of both, with a field that can"
            ).at(field=name)
    metadata = without_record(old.metadata)
    record = conversion_of(old.metadata)
    before = record.get(SOURCES)
    listed = [*(before if isinstance(before, list) else []), source_record(added, metadata, first)]
    manifest = old.store.manifest
    require_fit(old.schema, {**metadata, KEY: record | {SOURCES: listed}}, manifest.shards)
    part = whole.parts[1]
    units = units_of(part, old.schema, 0, first)
    return EditPlan(
        schema=old.schema,
        metadata=metadata,
        record={KEY: record | {SOURCES: listed}},
        dataset_id=manifest.dataset_id,
        digest=digest([old.store.manifest_digest, added.store.manifest_digest]),
        units=units,
        statistics=None if first else statistics_of([old, added], units),
        views=[part],
        write=WriteOptions(),
        workers=workers,
        kept=list(manifest.shards),
        parity=manifest.parity,
        notes=(*notes, *rewriting_notes([part], old.schema)),
    )
