"""`recordio.sign`: vouches with a key for every byte of a dataset."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Set
from datetime import UTC, datetime

from recordio.edit.copy_ends import open_end, source_manifest
from recordio.errors import DatasetError
from recordio.format.manifest import Manifest
from recordio.format.signature import Signature, Statement, signed_bytes
from recordio.process_guard import ThreadPool
from recordio.reader.dataset import ShardDataset
from recordio.reader.signed import sha256_of
from recordio.reader.signing_keys import Key, PrivateKey
from recordio.reader.verify import Progress, verify
from recordio.reader.verify_report import ShardProof
from recordio.remote.opening import StorageArgument

_THREADS = max(2, min(8, os.cpu_count() or 1))


def sign(
    path: str | os.PathLike[str],
    key: Key,
    *,
    password: bytes | None = None,
    progress: Progress | None = None,
    storage: StorageArgument = None,
) -> Statement:
    """Signs a dataset: `verify(path, key=...)` then proves that every byte is what it is now.

        recordio.sign("photos.rio", "private.pem")

    The dataset is verified first. Then the SHA-256 of the manifest and of each shard are signed with Ed25519, and
    written beside the manifest. A dataset that is changed afterwards has to be signed again.

    Args:
        path: the dataset's folder, or its URL.
        key: a private key of Ed25519: the path of its file, in PEM or as ssh-keygen writes it, or the file's bytes.
        password: of a key that is encrypted.
        progress: called with (bytes done, total bytes); every byte is read twice.
        storage: how an object store is reached, see `StorageOptions`.

    Returns:
        What was signed.

    Raises:
        DatasetError: there is no dataset, or it was replaced meanwhile.
        CorruptError: it is damaged.
        SchemaError: the key is none.
        StorageError: the signature cannot be written.
        MissingPackageError: the package cryptography is missing.
    """
    private = PrivateKey(key, password)
    end = open_end("path", path, storage)
    end.require_writable()  # else one hears of it after every byte was read
    half = None if progress is None else lambda done, total: progress(done, 2 * total)
    report = verify(path, progress=half, storage=storage)
    if report.problems:
        raise report.problems[0]
    dataset = ShardDataset(path, storage=storage, cache=None)
    statement = _statement(dataset, source_manifest(end), progress)
    _require_the_same(dataset, set(report.proven))
    text = statement.text()
    end.put_signature(Signature(text, private.sign(signed_bytes(text))).encode())
    return statement


def _statement(dataset: ShardDataset, content: bytes, progress: Progress | None) -> Statement:
    """What the files of the dataset are. `content`: of its manifest."""
    store, entries = dataset.store, dataset.store.manifest.shards
    if Manifest.digest(content) != store.manifest_digest:
        raise DatasetError("the dataset was replaced while it was signed: sign it again")
    done, total, shards = store.nbytes, 2 * store.nbytes, {}
    with ThreadPool(_THREADS, "recordio-sign") as pool:
        try:
            digests = pool.map(lambda position: sha256_of(store.shard(position)), range(len(entries)))
            for entry, found in zip(entries, digests, strict=True):
                shards[entry.name] = found
                done += entry.nbytes
                if progress is not None:
                    progress(done, total)
        finally:
            pool.shutdown(cancel_futures=True)
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Statement(store.manifest.dataset_id.hex(), at, hashlib.sha256(content).hexdigest(), shards)


def _require_the_same(dataset: ShardDataset, proven: Set[ShardProof]) -> None:
    """Raises DatasetError unless the files whose bytes were taken are those that were verified, and unchanged."""
    store = dataset.store
    for position, entry in enumerate(store.manifest.shards):
        identity = None if store.storage.is_remote else store.unkept_file(position).identity
        if ShardProof.of(entry.name, entry.nbytes, entry.digest, identity) not in proven:
            raise DatasetError("the dataset was changed while it was signed: sign it again").at(file=entry.name)
