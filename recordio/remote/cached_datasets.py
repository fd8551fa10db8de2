"""Which datasets a cache has shards of, and which of them are in use.

    manifests/<digest of the manifest>.json
    datasets/<digest of the URL>-<digest of the manifest>    its text is the URL as people may see it; its time the last
                                                             use; whoever has the dataset open holds a shared lock on it

Shards are removed only if no dataset in use has them. Locks end with their process: nothing is left to be cleaned up.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from recordio.errors import RecordIOError
from recordio.format.checksum import digest
from recordio.format.layout import MAX_MANIFEST_NBYTES
from recordio.format.manifest import Manifest
from recordio.remote.cache_files import OPEN_FLAGS, make_folder, read_file, remove_shard, shard_sizes
from recordio.storage.atomic import write_file

_DATASET_FILE = re.compile(r"([0-9a-f]{32})-([0-9a-f]{32})")
_MAX_URL_NBYTES = 1 << 16


class HeldDataset:
    """A dataset in use, until the last reference to this is gone, in this process and those forked from it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True)
class CachedDataset:
    """A version of a dataset that was used.

    Attributes:
        path: its file in datasets/.
        url: where it lies, as people may see it.
        manifest: the digest of its manifest, in hex.
        last_use: seconds since 1970.
        in_use: whether a process has it open.
        shards: the digests of its shards, and their lengths; None if its manifest is lost.
    """

    path: Path
    url: str
    manifest: str
    last_use: float
    in_use: bool
    shards: dict[str, int] | None


class CachedDatasets:
    """The datasets of a cache.

    Args:
        folder: of the cache.
    """

    def __init__(self, folder: Path) -> None:
        self._shards = folder / "shards"
        self._manifests = folder / "manifests"
        self._datasets = folder / "datasets"

    def hold(self, url: str, manifest: bytes, when_alone: Callable[[], object]) -> HeldDataset | None:
        """Keeps a dataset's manifest and shards from being removed. None in a folder of others.

        Args:
            url: where it lies, as people may see it.
            manifest: its bytes.
            when_alone: called before if no dataset of the cache is in use.
        """
        name = f"{_key(url)}-{Manifest.digest(manifest).hex()}"
        try:
            make_folder(self._manifests)
            make_folder(self._datasets)
            with self._alone():
                if not any(map(_is_held, self._files())):
                    when_alone()
                self._keep_manifest(manifest)
                return HeldDataset(_held(self._datasets / name, url))
        except (OSError, RecordIOError):
            return None

    def latest(self, url: str) -> bytes | None:
        """The manifest of a dataset, of the version that was used last; None if there is none."""
        files = [path for path in self._files() if path.name.startswith(_key(url))]
        for path in sorted(files, key=_last_use, reverse=True):
            if (found := self._manifest(path.name[33:])) is not None:
                return found
        return None

    def all(self) -> list[CachedDataset]:
        """All datasets, that used last first."""
        return sorted(map(self._described, self._files()), key=lambda one: -one.last_use)

    def drop(self, nbytes: int) -> int:
        """Removes shards that no dataset in use has, of datasets that were used longest ago, until so many bytes are
        free. How many are: fewer if there are no more."""
        try:
            with self._alone():
                every = self.all()
                return self._drop(every[::-1], nbytes, every)
        except OSError:
            return 0

    def clear(self, url: str | None = None) -> int:
        """Removes a dataset that is not in use, all such ones if None. The bytes that are free then. Raises OSError."""
        with self._alone():
            every = self.all()
            return self._drop([one for one in every if url in (None, one.url)], None, every, orphans=url is None)

    def _drop(
        self, some: list[CachedDataset], nbytes: int | None, every: list[CachedDataset], orphans: bool = True
    ) -> int:
        """Removes as much as is wanted of some datasets; all that is not in use of them if `nbytes` is None."""
        if any(one.in_use and one.shards is None for one in every):
            return 0  # it is not known which shards are in use
        sizes, freed = shard_sizes(self._shards), 0
        chosen = [one for one in some if not one.in_use]
        kept = {shard for one in every if one.in_use for shard in one.shards or ()}
        if nbytes is None:  # a shard of another dataset stays there
            kept |= {shard for one in every if one not in chosen for shard in one.shards or ()}
        lost = sizes.keys() - {shard for one in every for shard in one.shards or ()} if orphans else set()
        for shards, dataset in [(lost, None), *((set(one.shards or ()), one) for one in chosen)]:
            for shard in sorted(shards & sizes.keys() - kept):
                if nbytes is not None and freed >= nbytes:
                    return freed
                remove_shard(self._shards, shard)
                freed += sizes.pop(shard)
            if dataset is not None:
                self._forget(dataset)
        return freed

    def _forget(self, dataset: CachedDataset) -> None:
        dataset.path.unlink(missing_ok=True)
        if not any(path.name.endswith(dataset.manifest) for path in self._files()):
            (self._manifests / f"{dataset.manifest}.json").unlink(missing_ok=True)

    def _keep_manifest(self, manifest: bytes) -> None:
        name = Manifest.digest(manifest).hex()
        if self._manifest(name) is None:
            write_file(self._manifests / f"{name}.json", manifest)

    def _manifest(self, name: str) -> bytes | None:
        """The manifest of this digest if its file is whole."""
        data = read_file(self._manifests / f"{name}.json", MAX_MANIFEST_NBYTES)
        return data if Manifest.digest(data).hex() == name else None

    def _described(self, path: Path) -> CachedDataset:
        name = path.name[33:]
        shards, data = None, self._manifest(name)
        if data is not None:
            with contextlib.suppress(RecordIOError):
                table = Manifest.decode(data).table
                digests = [one.tobytes().hex() for one in table.digests]
                shards = dict(zip(digests, table.nbytes.tolist(), strict=True))
        return CachedDataset(path, _url(path), name, _last_use(path), _is_held(path), shards)

    def _files(self) -> list[Path]:
        with contextlib.suppress(OSError):
            return [self._datasets / name for name in os.listdir(self._datasets) if _DATASET_FILE.fullmatch(name)]
        return []

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other process begins to use a dataset, or removes shards. Raises OSError."""
        descriptor = os.open(self._datasets, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _key(url: str) -> str:
    return digest([url.encode()]).hex()


def _held(path: Path, url: str) -> int:
    """The descriptor of a dataset's file, with a shared lock. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | OPEN_FLAGS, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits for a glance of `_is_held` alone
        if os.fstat(descriptor).st_size == 0:
            os.pwrite(descriptor, url.encode(), 0)
        os.utime(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _is_held(path: Path) -> bool:
    """Whether a process has the dataset open; True where the file system does not say."""
    try:
        descriptor = os.open(path, os.O_RDONLY | OPEN_FLAGS)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _last_use(path: Path) -> float:
    try:
        return path.stat(follow_symlinks=False).st_mtime
    except OSError:
        return 0.0


def _url(path: Path) -> str:
    return read_file(path, _MAX_URL_NBYTES).decode(errors="replace")
