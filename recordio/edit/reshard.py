"""`recordio.reshard`: the samples of a dataset or a view written anew: other shards, blocks, codec, order or fields."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xxhash

from recordio.arguments import integer
from recordio.determinism import MASK
from recordio.edit.job import EditReport, make_new
from recordio.edit.sources import conversion_of, source_view, target_of, without_record
from recordio.edit.units import EditPlan, Rewritten
from recordio.format.page import Indices
from recordio.reader.dataset import ShardDataset
from recordio.reader.view import DatasetView
from recordio.remote.opening import StorageArgument
from recordio.writer.convert.plan import cut, json_digest, shuffled
from recordio.writer.convert.progress import ProgressSink
from recordio.writer.convert.record import KEY
from recordio.writer.metadata import require_fit
from recordio.writer.shard_writer import DEFAULT_SHARD_BYTES, WriteOptions

_RULE = 1  # version of the cutting; part of the dataset's identity


def reshard(
    source: str | os.PathLike[str] | DatasetView,
    destination: str | os.PathLike[str],
    *,
    compression: str | None = "auto",
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    block_bytes: int | None = None,
    shuffle: int | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    parity: int | None = None,
    storage: StorageArgument = None,
    progress: ProgressSink | None = None,
) -> EditReport:
    """Writes the samples of a dataset anew. Values do not change: pictures and text are the same bytes.

        recordio.reshard("raw", "packed", compression="zstd:9", shard_bytes=1 << 30)
        recordio.reshard(recordio.ShardDataset("raw").filter(lambda c: c["score"] > 0.5), "good")

    A view of `filter`, `select` or `split`, of some fields, or of several datasets gives its samples in its order. The
    same samples and options give the same bytes, whatever `workers` is. What was stopped goes on where it was when it
    is run again, and a finished dataset is left as it is.

    Args:
        source: the folder of a dataset, or a dataset or view without transforms and maps.
        destination: the folder of the new dataset; it is made if need be.
        compression: None, "auto" (code what pays), "narrow", "zstd", "narrow+zstd", or these with
            ":LEVEL"; docs/performance.md compares them.
        shard_bytes: about the size of a shard; it is as much of the source's files, so it differs with the codec.
        block_bytes: what a block aims at before coding; see DatasetWriter.
        shuffle: a seed from 0, by which all samples are mixed; None keeps their order. Each new shard takes a pass over
            all compressed pages then, and a process holds a whole shard: larger shards are made sooner.
        workers: processes; 0 and 1 are this one, None is one for each processor if there is enough to do.
        overwrite: replaces another dataset at the destination; it stays whole until the new one stands.
        parity: a file of parity for every so many shards, see `DatasetWriter`.
        storage: how object stores are reached, see `recordio.remote.options.StorageOptions`.
        progress: called as progress(samples done, samples to do).

    Raises:
        DatasetError: the source is no dataset, or the destination is not free, or is or lies in the source.
        SchemaError: an argument does not fit, or the view has transforms or maps.
        CorruptError: the source is damaged.
        StorageError: the system refused; what is finished is kept, and the next run goes on.
    """
    integer("workers", workers, 0, optional=True)
    integer("shuffle", shuffle, 0, MASK, optional=True)
    write = WriteOptions(compression=compression, shard_bytes=shard_bytes, block_bytes=block_bytes, parity=parity)
    view = source_view(source, storage)
    target = target_of(destination, view.parts, storage)
    if shuffle is not None:
        view = view.select(shuffled(len(view), shuffle))
    plan = rewriting_plan(view, write, workers)
    if shuffle is not None:
        plan = replace(plan, whole=True)
    return make_new(target, plan, overwrite, progress)


def rewriting_plan(
    view: DatasetView, write: WriteOptions, workers: int | None, notes: tuple[str, ...] = ()
) -> EditPlan:
    """The plan of a dataset of the samples of a view, in its order. Raises SchemaError, CorruptError, StorageError."""
    metadata, record = without_record(view.metadata), _record(view)
    require_fit(view.schema, {**metadata, **record})
    nbytes = stored_nbytes(view)
    cuts = cut(nbytes, write.shard_bytes) if len(view) else np.zeros(1, np.int64)
    identity = {
        "rule": _RULE,
        "samples": view.fingerprint,
        "schema": view.schema.to_json(),
        "metadata": metadata,
        "compression": write.compression,
        "block_bytes": write.block_target(view.schema),
        "cuts": xxhash.xxh3_128_hexdigest(cuts.astype("<i8").tobytes()),
    }
    dataset_id = json_digest(identity)
    sums = np.concatenate([[0], np.cumsum(nbytes)])[cuts].tolist()
    ends = cuts.tolist()
    units = [Rewritten(0, ends[k], ends[k + 1], sums[k + 1] - sums[k]) for k in range(len(ends) - 1)]
    return EditPlan(
        schema=view.schema,
        metadata=metadata,
        record=record,
        dataset_id=dataset_id,
        digest=dataset_id,
        units=units,
        views=[view],
        write=write,
        parity=write.new_parity,
        workers=workers,
        notes=notes,
    )


def _record(view: DatasetView) -> Mapping[str, Any]:
    """The record of the conversion as it is; the names of files that it hides are those that are still there."""
    record = conversion_of(view.metadata)
    hidden = record.pop("names", [])
    names = [name for name in view.schema if isinstance(hidden, list) and name in hidden]
    record = ({"names": names} if names else {}) | record
    return {KEY: record} if record else {}


def stored_nbytes(view: DatasetView) -> Indices:
    """int64 (n,): about how many bytes of files each sample of a view takes, by the mean of its block.

    Of the fields of the view alone. Raises CorruptError, StorageError.
    """
    every = np.arange(len(view))
    out = np.zeros(len(view), np.int64)
    for piece in view.pieces(every):
        numbers = piece.dataset.numbers_of(piece.indices)
        block = np.searchsorted(piece.dataset.store.blocks.first, numbers, side="right") - 1
        blocks, at = np.unique(block, return_inverse=True)
        out[piece.rows] = _block_means(piece.dataset, blocks)[at]
    return out


def _block_means(dataset: ShardDataset, blocks: Indices) -> Any:
    """int64 (b,): the bytes that a sample of each of these blocks takes on average."""
    entries, failed = dataset.store.entries(blocks, dataset.fields.columns)
    for error in failed.values():
        raise error
    return entries.stored_nbytes.sum(axis=1) // dataset.store.samples_of(blocks)
