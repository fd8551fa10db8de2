"""Whether the bytes of a dataset are those that somebody has signed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise

from recordio.errors import CorruptError
from recordio.format.manifest import FILE_NAME as MANIFEST, Manifest
from recordio.format.signature import FILE_NAME, Signature, Statement, signed_bytes
from recordio.reader.open_shard import OpenShard
from recordio.reader.read_buffers import scratch
from recordio.reader.signing_keys import Key, PublicKey
from recordio.reader.verify_report import Signed
from recordio.storage.base import Storage
from recordio.storage.dataset_files import find_file

_READ_NBYTES = 8 << 20


def read_signature(
    storage: Storage, folder: str, manifest: Manifest, digest: bytes, key: Key
) -> tuple[Statement, Signed]:
    """What was signed of a dataset, whose manifest has this digest, with the private key that belongs to this one.

    Raises CorruptError if there is no signature, if it is not of this key, or if the manifest is another one by now.
    """
    public = PublicKey(key)
    found = find_file(storage, folder, FILE_NAME, "signature", Signature.decode)
    if found is None:
        raise CorruptError("the dataset is not signed").at(file=FILE_NAME)
    if not public.proves(found.signature, signed_bytes(found.statement)):
        text = f"the signature is not one of the key {public.fingerprint}, or its statement was altered"
        raise CorruptError(text).at(file=FILE_NAME)
    statement = Statement.decode(found.statement)
    data = find_file(storage, folder, MANIFEST, "manifest", bytes)
    if data is None or hashlib.sha256(data).hexdigest() != statement.manifest or Manifest.digest(data) != digest:
        raise CorruptError(f"the manifest is not the one that was signed at {statement.signed_at}").at(file=MANIFEST)
    if sorted(statement.shards) != sorted(entry.name for entry in manifest.shards):
        raise CorruptError("the shards of the manifest are not those that were signed").at(file=MANIFEST)
    return statement, Signed(public.fingerprint, statement.signed_at)


def sha256_of(shard: OpenShard) -> str:
    """The SHA-256 of a shard's file, in hex digits. Raises StorageError, CorruptError."""
    found = hashlib.sha256()
    for begin, end in _pieces(shard):
        shard.file.will_need([(begin, end - begin)])
        target = scratch(end - begin)
        shard.file.read_into(target, begin, end - begin)
        found.update(target[: end - begin])
    return found.hexdigest()


def _pieces(shard: OpenShard) -> Iterator[tuple[int, int]]:
    """Runs of whole blocks: in an object store a page is fetched as a whole."""
    ends = [0, *shard.index.block_offsets.tolist(), shard.file.nbytes]
    begin = 0
    for low, high in pairwise(ends):
        if low > begin and high - begin > _READ_NBYTES:
            yield begin, low
            begin = low
    yield begin, ends[-1]
