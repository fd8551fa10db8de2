"""Opens a dataset: checked when it is new to this process, as it was when it comes from another process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recordio.format.manifest import Manifest
from recordio.reader.open_dataset import OpenDataset, ReadOptions
from recordio.remote.opening import RemoteAccess, open_storage
from recordio.storage.dataset_files import check_shards, read_manifest, read_version, refuse

_MAX_REPLACED = 10


def open_checked(location: str, access: RemoteAccess, options: ReadOptions) -> OpenDataset:
    """Opens the dataset and checks every shard; tries again if it was replaced in between.

    Raises DatasetError, CorruptError, UnsupportedError, StorageError.
    """
    for _ in range(_MAX_REPLACED):
        storage = open_storage(location, access)
        manifest, digest = read_manifest(storage, location)
        problems = check_shards(storage, manifest)
        if not problems or read_manifest(storage, location)[1] == digest:
            break
    refuse(problems, location)
    return OpenDataset(storage, manifest, options, digest)


def version_of(dataset: OpenDataset) -> Mapping[str, Any]:
    """What another process needs to open this version of the dataset.

    Over a network it is the manifest itself: however many workers there are, it is fetched once.
    """
    manifest = dataset.manifest
    if dataset.storage.is_remote:
        return {"digest": dataset.manifest_digest, "manifest": manifest.encode()}
    return {
        "digest": dataset.manifest_digest,
        "shards": len(manifest.shards),
        "metadata": manifest.metadata,
        "statistics": manifest.statistics,
    }


def open_version(location: str, access: RemoteAccess, options: ReadOptions, version: Mapping[str, Any]) -> OpenDataset:
    """Opens the dataset as it was in another process. Raises DatasetError if it was replaced since."""
    storage, digest = open_storage(location, access), version["digest"]
    if "manifest" in version:
        return OpenDataset(storage, Manifest.decode(version["manifest"]), options, digest)
    before = version["shards"], version["metadata"], version["statistics"]
    return OpenDataset(storage, read_version(storage, location, digest, *before), options, digest)
