"""`recordio.copy`: a dataset as it is, from any place to any other, with every byte proved on the way."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from recordio.arguments import flag, integer
from recordio.edit.copy_ends import CopyEnd, FileEntry, open_end, source_manifest
from recordio.errors import DatasetError, RecordIOError
from recordio.format.manifest import Manifest
from recordio.format.shard_table import ShardEntry
from recordio.process_guard import ThreadPool
from recordio.remote.opening import StorageArgument
from recordio.storage.atomic import TEMPORARY, NewFile
from recordio.storage.dataset_files import open_shard_file
from recordio.storage.local import LocalStorage
from recordio.storage.parity_files import prove_parity
from recordio.writer.restamp import prove

Progress = Callable[[int, int], None]
_WORKERS = 4


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What a copy did.

    Attributes:
        source, destination: the two places.
        samples: how many the dataset holds.
        shards: its shard files.
        nbytes: the length of all its shards and parity.
        copied: how many of the shards were copied.
        reused: how many an earlier, interrupted run had copied.
        done_before: whether the dataset was there already, and nothing was done.
    """

    source: str
    destination: str
    samples: int
    shards: int
    nbytes: int
    copied: int = 0
    reused: int = 0
    done_before: bool = False


def copy(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    storage: StorageArgument = None,
    source_storage: StorageArgument = None,
    overwrite: bool = False,
    workers: int = _WORKERS,
    progress: Progress | None = None,
) -> CopyReport:
    """Copies a dataset to another place: the same shards and parity, then the same manifest and signature.

        recordio.copy("photos.rio", "s3://bucket/photos")

    Every checksum of a shard is compared before it appears at the destination. A copy that was stopped goes on with the
    next shard when it is run again, and a finished one is left as it is.

    Args:
        source: the folder of the dataset: on this machine, or "s3://bucket/path", "gs://", "az://", "https://".
        destination: the folder to make: on this machine or in an object store.
        storage: how the object stores are reached, see `recordio.remote.options.StorageOptions`.
        source_storage: how that of the source is reached, if it is another one.
        overwrite: replaces the manifest of another version of the dataset: its shards have to be the same, or have
            other numbers.
        workers: shards at a time. Those from an object store lie in the folder for temporary files meanwhile.
        progress: called as progress(bytes done, bytes to do).

    Raises:
        DatasetError: the source is no dataset, or another one is at the destination, or another writer is at work.
        CorruptError: a shard of the source is damaged; it is not copied.
        StorageError: the system or the store refused; what is finished is kept, and the next run goes on.
    """
    integer("workers", workers, 1)
    flag("overwrite", overwrite)
    begin = open_end("source", source, storage if source_storage is None else source_storage)
    end = open_end("destination", destination, storage)
    if begin.location == end.location:
        raise DatasetError("the destination is the source itself").at(file=end.location)
    data, signature = source_manifest(begin), begin.signature()
    manifest = Manifest.decode(data)
    with end.held():
        there = end.manifest()
        if there not in (None, data) and not overwrite:
            text = "there is another dataset here; overwrite=True (--overwrite) replaces its manifest"
            raise DatasetError(text).at(file=end.location)
        missing = end.missing([*manifest.shards, *(file for _, file in manifest.parity_files)])
        _Shards(begin, end, manifest, progress).copy(missing, workers)
        if there != data:
            end.publish(data)
        if signature is not None and signature != end.signature():
            end.put_signature(signature)
    nbytes, count = sum(manifest.files.values()), len(manifest.shards)
    done = there == data and not missing
    copied = sum(isinstance(entry, ShardEntry) for entry in missing)
    reused = 0 if there == data else count - copied
    return CopyReport(begin.location, end.location, manifest.samples, count, nbytes, copied, reused, done)


class _Stopped(Exception):
    """Raised in the other threads once a shard has failed."""


class _Shards:
    """Copies shards, several at a time."""

    def __init__(self, begin: CopyEnd, end: CopyEnd, manifest: Manifest, progress: Progress | None) -> None:
        self._begin = begin
        self._end = end
        self._manifest = manifest
        self._parity = {file.name: header for header, file in manifest.parity_files}
        self._progress = progress
        self._lock = threading.Lock()
        self._stopped = False
        self._done = self._total = 0

    def copy(self, entries: Sequence[FileEntry], workers: int) -> None:
        """Raises the error of the first that fails."""
        self._total = sum(entry.nbytes for entry in entries)
        with ThreadPool(workers, "recordio-copy") as pool:
            futures = [pool.submit(self._copy, entry) for entry in entries]
            try:
                for future in as_completed(futures):
                    future.result()
            finally:
                self._stopped = True
                pool.shutdown(cancel_futures=True)

    def _copy(self, entry: FileEntry) -> None:
        path = self._begin.path(entry)
        if path is not None and not self._end.keeps:
            self._prove(entry, path)
            self._end.put(entry, path)
            self._report(entry.nbytes)
            return
        path = self._end.folder / f".{entry.name}{TEMPORARY}"
        path.unlink(missing_ok=True)
        file = NewFile(path)
        try:
            self._begin.write(entry, file, self._report)
            self._prove(entry, path)
            file.finish()
            self._end.put(entry, path)
        finally:
            file.abandon()

    def _prove(self, entry: FileEntry, path: Path) -> None:
        with contextlib.closing(open_shard_file(LocalStorage(path.parent), path.name)) as file:
            try:
                if isinstance(entry, ShardEntry):
                    prove(file, entry, self._manifest.dataset_id, self._manifest.schema)
                else:
                    prove_parity(file, self._parity[entry.name], entry)
            except RecordIOError as error:
                error.place = replace(error.place, file=f"{self._begin.location}/{entry.name}")
                raise

    def _report(self, nbytes: int) -> None:
        if self._stopped:
            raise _Stopped
        with self._lock:
            self._done += nbytes
            if self._progress is not None:
                self._progress(self._done, self._total)
