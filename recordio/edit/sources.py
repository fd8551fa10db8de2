"""The datasets that an edit reads: opened whole, kept apart from the destination, and recorded by what they were."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recordio.errors import DatasetError
from recordio.format.checksum import digest
from recordio.format.shard_table import ShardEntry
from recordio.reader.dataset import ShardDataset
from recordio.reader.stored import require_stored
from recordio.reader.view import DatasetView
from recordio.remote.opening import StorageArgument
from recordio.remote.remote_storage import RemoteStorage
from recordio.remote.write_target import RemoteTarget
from recordio.storage.local import LocalStorage
from recordio.writer.convert.publication import Publication, RemotePublication, open_publication
from recordio.writer.convert.record import KEY

SOURCES = "sources"  # in the record of a conversion: the datasets that samples were taken from


def open_source(path: str | os.PathLike[str], storage: StorageArgument = None) -> ShardDataset:
    """A dataset with all of its fields, those too that are read on request alone. Every shard is proven to be there.

    One in an object store is not kept on disk: it is read once.
    """
    dataset = ShardDataset(path, storage=storage, cache=None)
    every = list(dataset.store.manifest.schema)
    if list(dataset.schema) == every:
        return dataset
    return ShardDataset(path, fields=every, storage=storage, cache=None)


def source_view(source: str | os.PathLike[str] | DatasetView, storage: StorageArgument = None) -> DatasetView:
    """The samples of a dataset, or of a view as it is. Raises SchemaError for a view with transforms or maps."""
    if not isinstance(source, DatasetView):
        return open_source(source, storage)
    require_stored(source)
    return source


def place_of(dataset: ShardDataset) -> Path | RemoteTarget:
    """Where the shards of a dataset are. Raises DatasetError if they cannot be copied from there."""
    storage = dataset.store.storage
    if isinstance(storage, LocalStorage):
        return storage.folder
    if isinstance(storage, RemoteStorage):
        return RemoteTarget(storage.url, storage.options)
    raise DatasetError(f"{dataset!r} is not in a folder: its shards cannot be copied")


def name_of(dataset: ShardDataset) -> str:
    """The last part of its path."""
    place = place_of(dataset)
    return place.name if isinstance(place, Path) else place.url.rpartition("/")[2]


def target_of(
    destination: str | os.PathLike[str], sources: Iterable[ShardDataset], storage: StorageArgument = None
) -> Publication:
    """Where to write. Raises DatasetError if it is that of a source, lies in one, or one lies in it."""
    target = open_publication("destination", destination, storage)
    ours = target.target.url if isinstance(target, RemotePublication) else os.path.realpath(target.location)
    for place in map(place_of, sources):
        theirs = os.path.realpath(place) if isinstance(place, Path) else place.url
        if theirs == ours:
            raise DatasetError("the destination is the source itself").at(file=target.location)
        if f"{ours}/".startswith(f"{theirs.rstrip('/')}/") or f"{theirs}/".startswith(f"{ours.rstrip('/')}/"):
            raise DatasetError("the destination lies in the source, or the source in it").at(file=target.location)
    return target


def without_record(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata without the record of a conversion, which shards do not hold."""
    return {name: value for name, value in metadata.items() if name != KEY}


def conversion_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a conversion, empty if there is none. A stranger's metadata may hold anything there."""
    record = metadata.get(KEY)
    return dict(record) if isinstance(record, dict) else {}


def source_record(dataset: ShardDataset, agreed: Mapping[str, Any], first: int = 0) -> dict[str, Any]:
    """What the record keeps of a dataset whose shards from number `first` on are taken.

    Its folder's name, its id, how many samples are taken, how many shards it has and their digest; the metadata that
    is not that of the new dataset, and the record of its own conversion.
    """
    shards = dataset.store.manifest.shards
    left = {name: value for name, value in without_record(dataset.metadata).items() if agreed.get(name) != value}
    said = {
        "name": name_of(dataset),
        "dataset_id": dataset.store.manifest.dataset_id.hex(),
        "samples": sum(entry.samples for entry in shards[first:]),
        "shards": len(shards),
        "digest": shards_digest(shards),
        "metadata": left,
        KEY: conversion_of(dataset.metadata),
    }
    return {name: value for name, value in said.items() if value != {}}


def shards_digest(shards: Sequence[ShardEntry]) -> str:
    """32 hex digits that stand for the content of these shards, in order."""
    return digest([entry.digest for entry in shards]).hex()


def hidden_fields(datasets: Sequence[ShardDataset]) -> list[str]:
    """The fields that are read on request alone in every dataset that has them."""
    every = [conversion_of(dataset.metadata).get("names") for dataset in datasets]
    lists = [names if isinstance(names, list) else [] for names in every]
    return [name for name in lists[0] if all(name in one for one in lists)]
