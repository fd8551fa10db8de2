"""`recordio.diff`: how two copies of a dataset differ, by their digests, without reading a page."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recordio.errors import RecordIOError
from recordio.format.index import Index
from recordio.format.manifest import Manifest
from recordio.format.shard_table import ShardEntry, shard_name
from recordio.reader.shard_indexes import ShardIndexes, blocks_of
from recordio.reader.verify import verify
from recordio.remote.opening import RemoteAccess, StorageArgument, dataset_access, open_storage
from recordio.remote.options import StorageOptions
from recordio.storage.dataset_files import read_manifest
from recordio.storage.shard_files import ShardFiles

_PAGE = ["stored_nbytes", "nbytes", "checksum", "codec"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Something in which two copies differ.

    Attributes:
        what: in words.
        file: the shard, if it is one.
        block: the block within the shard, if it is one; counted in `first` unless only `second` has it.
        field: the field, if it is one.
    """

    what: str
    file: str | None = None
    block: int | None = None
    field: str | None = None

    def __str__(self) -> str:
        block = None if self.block is None else f"block {self.block}"
        field = None if self.field is None else f"field {self.field!r}"
        where = ", ".join(part for part in (self.file, block, field) if part is not None)
        return f"{where}: {self.what}" if where else self.what


@dataclass(frozen=True, slots=True)
class DiffReport:
    """What `diff` has found.

    Attributes:
        first, second: the folders or URLs.
        shards: how many shards are the same, by their digests.
        samples: how many they hold.
        differences: everything else.
    """

    first: str
    second: str
    shards: int
    samples: int
    differences: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        """The report as plain dicts and lists."""
        return {"ok": self.ok, **asdict(self)}


def diff(
    first: str | os.PathLike[str], second: str | os.PathLike[str], *, storage: StorageArgument = None
) -> DiffReport:
    """Compares two copies of a dataset, and names what differs: shards, and their blocks and fields.

    Compares the manifests, checks the header, the index and the footer of each shard, and compares the checksums of
    pages where the digests of two shards differ. Pages are not read: `verify` proves that each copy is what its digests
    say.

    Args:
        first, second: the folders or the URLs of the copies.
        storage: how an object store is reached, see `StorageOptions`.

    Raises:
        DatasetError: there is no dataset at one of the paths.
        CorruptError: a manifest is damaged. A damaged shard is a difference.
        UnsupportedError: a manifest needs features that this version does not have.
        StorageError: a manifest cannot be read.
    """
    a, b = _Side(*dataset_access("first", first, storage)), _Side(*dataset_access("second", second, storage))
    differences = list(_of_manifests(a.manifest, b.manifest))
    same: list[ShardEntry] = []
    for number in sorted(a.entries.keys() | b.entries.keys()):
        found = list(_of_shards(number, a, b))
        differences += found
        same += [] if found else [a.entries[number]]
    order = [[n for n in side.entries if n in a.entries.keys() & b.entries.keys()] for side in (a, b)]
    if order[0] != order[1]:
        differences.append(Difference("the shards are in another order"))
    return DiffReport(a.location, b.location, len(same), sum(entry.samples for entry in same), tuple(differences))


class _Side:
    """One of the two copies. `faults`: what is wrong with its shards, by their names."""

    def __init__(self, location: str, options: StorageOptions) -> None:
        self.location = location
        storage = open_storage(location, RemoteAccess(options, cache=None))
        self.manifest, _ = read_manifest(storage, location)
        self.entries = {entry.number: entry for entry in self.manifest.shards}
        problems = verify(location, "quick", storage=options).problems
        self.faults = {problem.place.file: problem.fault for problem in problems}
        blocks = blocks_of(self.manifest)
        self._indexes = ShardIndexes(ShardFiles(storage, self.manifest), self.manifest, blocks.first, blocks.shard)
        self._positions = {number: position for position, number in enumerate(self.entries)}

    def index(self, number: int) -> Index:
        """Raises CorruptError, UnsupportedError, StorageError."""
        return self._indexes.of(self._positions[number])


def _of_manifests(a: Manifest, b: Manifest) -> Iterator[Difference]:
    if a.dataset_id != b.dataset_id:
        yield Difference(f"the dataset ids are {a.dataset_id.hex()} and {b.dataset_id.hex()}")
    for name in dict.fromkeys([*a.schema, *b.schema]):
        if a.schema.get(name) != b.schema.get(name):
            kinds = [str(manifest.schema.get(name, "missing")) for manifest in (a, b)]
            yield Difference(f"{kinds[0]} in the first, {kinds[1]} in the second", field=name)
    if list(a.schema) != list(b.schema) and dict(a.schema) == dict(b.schema):
        yield Difference("the fields are in another order")
    for key in dict.fromkeys([*a.metadata, *b.metadata]):
        if key not in a.metadata or key not in b.metadata or a.metadata[key] != b.metadata[key]:
            yield Difference(f"the metadata {key!r} differs")
    if a.parity != b.parity:
        yield Difference("the files of parity differ")
    if a.statistics != b.statistics:
        yield Difference("the statistics differ")


def _of_shards(number: int, a: _Side, b: _Side) -> Iterator[Difference]:
    """How a shard differs, of which one of the two may have none."""
    name = shard_name(number)
    for side, other, which in ((a, b, "first"), (b, a, "second")):
        if number not in other.entries:
            yield Difference(f"only the {which} has it, with {side.entries[number].samples:,} samples", name)
            return
        if name in side.faults:
            yield Difference(f"in the {which}: {side.faults[name]}", name)
    if a.entries[number] == b.entries[number] or name in a.faults or name in b.faults:
        return
    try:
        yield from _of_blocks(name, a.index(number), b.index(number), a.manifest, b.manifest)
    except RecordIOError as error:
        yield Difference(f"cannot be compared: {error.fault}", name)


def _of_blocks(name: str, a: Index, b: Index, first: Manifest, second: Manifest) -> Iterator[Difference]:
    if list(first.schema) != list(second.schema):
        yield Difference("the shards have other fields", name)
        return
    if np.array_equal(a.samples, b.samples):
        differs = np.zeros(a.pages.shape, bool)
        for column in _PAGE:
            differs |= a.pages[column] != b.pages[column]
        fields = list(first.schema)
        for block, field in np.argwhere(differs).tolist():
            yield Difference("the pages differ", name, block, fields[field])
        if not differs.any():
            yield Difference("the pages are the same, the identity or the metadata in the header is not", name)
        return
    yield from _only_in("first", name, a, b)
    yield from _only_in("second", name, b, a)


def _only_in(which: str, name: str, one: Index, other: Index) -> Iterator[Difference]:
    """The blocks that one shard has and the other has not, whatever their numbers."""
    left = Counter(map(_key, other.samples.tolist(), other.pages))
    for block, key in enumerate(map(_key, one.samples.tolist(), one.pages)):
        if left[key] > 0:
            left[key] -= 1
        else:
            yield Difference(f"only the {which} has these {one.samples[block]:,} samples", name, block)


def _key(samples: int, pages: Any) -> tuple[int, bytes]:
    return samples, pages.tobytes()
