"""Opens the storage of a dataset: a folder on this machine, or one of an object store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from recordio.arguments import folder_path, integer
from recordio.errors import SchemaError
from recordio.remote.options import StorageOptions
from recordio.remote.urls import checked_url, is_url, local_path, shown
from recordio.storage.base import Storage
from recordio.storage.local import LocalStorage

CacheFolder = str | os.PathLike[str] | Literal["auto"] | None
StorageArgument = Mapping[str, Any] | StorageOptions | None


@dataclass(frozen=True, slots=True)
class RemoteAccess:
    """How datasets at URLs are read; a dataset on this machine needs none of it.

    Attributes:
        storage: how the store is reached.
        cache: the folder of the cache; "auto" for $RECORDIO_CACHE or ~/.cache/recordio; None for none.
        cache_bytes: limit of the cache's size on disk; None for 80 % of what is free.
        offline: ask nothing of the network: what is not in the cache is an error.
    """

    storage: StorageOptions = field(default_factory=StorageOptions)
    cache: CacheFolder = "auto"
    cache_bytes: int | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        integer("cache_bytes", self.cache_bytes, 0, optional=True)
        if self.offline and self.cache is None:
            raise SchemaError("offline=True reads from the cache alone: it needs a folder as `cache`")

    @property
    def cache_folder(self) -> Path | None:
        """None for no cache."""
        if self.cache is None:
            return None
        if self.cache != "auto":
            return Path(self.cache)
        return Path(os.environ.get("RECORDIO_CACHE") or Path.home() / ".cache" / "recordio")


def given_access(name: str, path: Any, storage: StorageArgument) -> tuple[str, StorageOptions]:
    """The path of a folder as it was given, or a URL that people may see; and how that is reached.

    The query of a URL may hold a secret: it becomes one of the options. Raises DatasetError, SchemaError.
    """
    options = StorageOptions.of(storage)
    if not (isinstance(path, str) and is_url(path)):
        return folder_path(name, local_path(path) if isinstance(path, str) else path), options
    url = checked_url(path)
    query = urlsplit(url).query
    return (shown(url), replace(options, query=query)) if query else (url, options)


def dataset_access(name: str, path: Any, storage: StorageArgument) -> tuple[str, StorageOptions]:
    """The same with the absolute path of a folder."""
    location, options = given_access(name, path, storage)
    return location if is_url(location) else os.path.abspath(location), options


def open_storage(location: str, access: RemoteAccess, manifest: bytes | None = None) -> Storage:
    """The storage at a location; `manifest` if it is known. Raises StorageError where no cache can be made."""
    if not is_url(location):
        return LocalStorage(location)
    from recordio.remote.remote_storage import RemoteStorage
    from recordio.remote.shard_cache import ShardCache

    folder = access.cache_folder
    cache = None if folder is None else ShardCache(folder, access.cache_bytes)
    storage = RemoteStorage(location, access.storage, cache, access.offline)
    if manifest is not None:
        storage.hold(manifest)
    return storage
