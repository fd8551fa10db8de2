"""Opens a dataset: checked when it is new to this process, as it was when it comes from another process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recordio.arguments import choice
from recordio.format.manifest import Manifest
from recordio.format.quarantine import Quarantine
from recordio.reader.open_dataset import OpenDataset, ReadOptions
from recordio.reader.quarantine import OnDamage, found_quarantine, log_damage
from recordio.remote.opening import RemoteAccess, open_storage
from recordio.storage.dataset_files import check_shards, read_manifest, read_version, refuse

_MAX_REPLACED = 10


def open_checked(
    location: str, access: RemoteAccess, options: ReadOptions, on_damage: OnDamage
) -> tuple[OpenDataset, Quarantine | None]:
    """Opens the dataset and checks every shard; tries again if it was replaced in between.

    With `on_damage` "skip" also gives the blocks to leave out; each of them has been logged.

    Raises DatasetError, CorruptError, UnsupportedError, StorageError, SchemaError.
    """
    choice("on_damage", on_damage, ("raise", "skip"))
    for _ in range(_MAX_REPLACED):
        storage = open_storage(location, access)
        manifest, digest = read_manifest(storage, location)
        problems = check_shards(storage, manifest)
        if not problems or read_manifest(storage, location)[1] == digest:
            break
    if on_damage == "raise":
        refuse(problems, location)
        return OpenDataset(storage, manifest, options, digest), None
    quarantine = found_quarantine(storage, location, manifest, problems)
    dataset = OpenDataset(storage, manifest, options, digest)
    log_damage(location, dataset, quarantine)
    return dataset, quarantine


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
        "parity": manifest.parity,
    }


def open_version(location: str, access: RemoteAccess, options: ReadOptions, version: Mapping[str, Any]) -> OpenDataset:
    """Opens the dataset as it was in another process. Raises DatasetError if it was replaced since."""
    storage, digest = open_storage(location, access, version.get("manifest")), version["digest"]
    if "manifest" in version:
        return OpenDataset(storage, Manifest.decode(version["manifest"]), options, digest)
    before = version["shards"], version["metadata"], version["statistics"], version["parity"]
    return OpenDataset(storage, read_version(storage, location, digest, *before), options, digest)
