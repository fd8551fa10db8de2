"""Which dataset a folder holds, and which shards that has: by its manifest, or else by its shards."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from recordio.errors import CorruptError, DatasetError, RecordIOError, SchemaError, StorageError, UnsupportedError
from recordio.format.manifest import FILE_NAME, Manifest
from recordio.format.parity import ParityHeader
from recordio.format.shard import ShardHeader
from recordio.format.shard_table import ShardEntry, shard_name
from recordio.salvage.copies import ShardCopy, look, parsed
from recordio.salvage.parity import found_parity
from recordio.storage.base import ShardPlace, Storage
from recordio.storage.dataset_files import PLAN, STAGING, find_manifest, read_manifest
from recordio.storage.local import LocalStorage
from recordio.writer.convert.record import KEY
from recordio.writer.publish import PENDING, REPLACED

MENDED = ".repair"  # in the folder: shards that are given back bit for bit, until each has got its name
_SHARD = re.compile(r"shard-([0-9]{5,18})\.rio")
_MOST_TEXTS = 16  # kinds of headers that are tried for a damaged one

Wanted = tuple[int, ShardEntry | None]
Other = tuple[Storage, str]  # another copy of the dataset, and its path


@dataclass(frozen=True)
class Identity:
    """Which dataset it is.

    Attributes:
        manifest: its manifest; if it is lost, what can be said of it, without its shards.
        fault: what is wrong with the manifest; None if it is good.
        wanted: the number of each of its shards, in order, with its entry; None if that is lost.
        copies: the files in the folder that are named as shards.
        staged: shards that a repair of this folder had mended before it died.
        parity: the headers of the files of parity, of those that the manifest names, or else of those that are there.
        texts: the JSON of the headers of its shards, in all forms.
        has_all: whether the manifest's statistics are those of the wanted shards.
        notes: what was guessed, or left out.
    """

    manifest: Manifest
    fault: str | None
    wanted: Sequence[Wanted]
    copies: Sequence[ShardCopy]
    staged: Sequence[ShardCopy]
    parity: Sequence[ParityHeader]
    texts: Sequence[bytes]
    has_all: bool
    notes: tuple[str, ...]

    @property
    def numbers(self) -> set[int]:
        """Of all files in the folder that are named as shards, and of all shards."""
        return {number_of(copy.name) for copy in self.copies} | {number for number, _ in self.wanted}


def number_of(name: str) -> int:
    """The number in the name of a shard's file, -1 for any other name."""
    found = _SHARD.fullmatch(name)
    return int(found[1]) if found and shard_name(int(found[1])) == name else -1


def identify(storage: Storage, folder: str, other: Other | None) -> Identity:
    """Raises DatasetError if there is nothing of a dataset, StorageError."""
    manifest, fault = _manifest(storage, folder)
    unpublished = frozenset() if manifest else unpublished_files(storage, folder)
    names = [] if storage.is_remote else [name for name in _names(storage, folder) if name not in unpublished]
    copies = _remote_copies(storage, folder, manifest) if storage.is_remote else []
    copies += [look(storage, name) for name in names if number_of(name) >= 0]
    staged = [look(storage, name) for name in _staged_names(storage)]
    has_all = True
    notes: tuple[str, ...] = ()
    if manifest is None:
        if fault == _MISSING:
            _require_something(storage, folder, bool(copies))
        manifest, has_all, notes = _found_manifest(copies, folder, other)
    parity = [header for header, _ in manifest.parity_files]
    if not manifest.shards and fault is not None:
        found, parity, left = found_parity(storage, names, manifest.dataset_id)
        manifest, notes = replace(manifest, parity=found), (*notes, *left)
    wanted: list[Wanted] = [(entry.number, entry) for entry in manifest.shards]
    if fault is not None:
        wanted += _further(copies, manifest, parity)
        has_all = has_all and len(wanted) == len(manifest.shards)
        notes = (*notes, *_gaps(wanted))
    return Identity(
        manifest=manifest,
        fault=fault,
        wanted=wanted,
        copies=copies,
        staged=staged,
        parity=parity,
        texts=_texts(copies, manifest),
        has_all=has_all,
        notes=(*notes, *_strangers(copies, manifest, {number for number, _ in wanted})),
    )


def _remote_copies(storage: Storage, folder: str, manifest: Manifest | None) -> list[ShardCopy]:
    """The shards of the manifest in a bucket, which is not listed. Raises DatasetError."""
    if manifest is None:
        raise DatasetError("a bucket without a good manifest: repair a copy of it on this machine").at(file=folder)
    fields, [text, *_] = len(manifest.schema), [*_texts([], manifest), b""]
    places = [ShardPlace.of(entry.footer(manifest.dataset_id, fields), text) for entry in manifest.shards]
    return [look(storage, entry.name, None, place) for entry, place in zip(manifest.shards, places, strict=True)]


def _names(storage: Storage, folder: str) -> list[str]:
    try:
        return storage.names()
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            read_manifest(storage, folder)  # raises, with a hint of what is there instead
        raise


_MISSING = f"there is no {FILE_NAME}"


def _manifest(storage: Storage, folder: str, name: str = FILE_NAME) -> tuple[Manifest | None, str | None]:
    """The manifest, or what is wrong with it. Raises StorageError."""
    try:
        found = find_manifest(storage, folder, name)
    except (CorruptError, UnsupportedError, DatasetError) as error:
        return None, error.fault
    return (found[0], None) if found else (None, _MISSING)


def unpublished_files(storage: Storage, folder: str) -> frozenset[str]:
    """The files that a writer had put in place before it died, and before it named them in a manifest."""
    pending, _ = _manifest(storage, folder, PENDING)
    replaced, _ = _manifest(storage, folder, REPLACED)
    if pending is None or replaced is None:
        return frozenset()
    return frozenset(pending.files) - frozenset(replaced.files)


def _staged_names(storage: Storage) -> list[str]:
    if not isinstance(storage, LocalStorage) or not (storage.folder / MENDED).is_dir():
        return []
    names = LocalStorage(storage.folder / MENDED).names()
    return [f"{MENDED}/{name}" for name in names if number_of(name) >= 0]


def _require_something(storage: Storage, folder: str, has_shards: bool) -> None:
    """Raises DatasetError if there is no shard and no manifest, or what makes the dataset has not finished."""
    unfinished = False
    with contextlib.suppress(FileNotFoundError, RecordIOError):
        storage.open(f"{STAGING}/{PLAN}").close()
        unfinished = True
    if unfinished or not has_shards:
        read_manifest(storage, folder)  # raises, with a hint of what is here instead
        raise DatasetError("there is nothing of a dataset here").at(file=folder)


def _found_manifest(
    copies: Sequence[ShardCopy], folder: str, other: Other | None
) -> tuple[Manifest, bool, tuple[str, ...]]:
    """A manifest in place of the lost one, whether its statistics are right, and notes. Raises DatasetError."""
    ids = {dataset_id for copy in copies for dataset_id, _ in copy.claims}
    found = None if other is None else _manifest(*other)[0]
    if other is not None and found is not None and (not ids or found.dataset_id in ids):
        own = _own_entries(copies, found)
        shards = [own.get(entry.number, entry) for entry in found.shards]
        same = shards == list(found.shards)
        return replace(found, shards=shards), same, (f"the manifest is the one in {other[1]}",)
    votes: Counter[tuple[bytes, bytes]] = Counter()
    for copy in copies:
        if copy.header is not None:
            dataset_id, _, text = ShardHeader.decode_fixed(copy.header)
            votes[dataset_id, text] += 1 + (copy.footer.samples if copy.footer else 0)
    if not votes:
        why = "the manifest is lost, and so is the header of every shard: only another copy (--from) says what is here"
        raise DatasetError(why).at(file=folder)
    by_dataset: Counter[bytes] = Counter()
    for (dataset_id, _), count in votes.items():
        by_dataset[dataset_id] += count
    dataset_id = by_dataset.most_common(1)[0][0]
    texts = [text for one, text in votes if one == dataset_id]  # in the order of the numbers
    schema, metadata = parsed(texts[-1])
    notes = ["the manifest is made anew: its statistics, and what it said of a conversion, are lost"]
    if len(texts) > 1:
        notes.append("the headers differ in their metadata: that of the last shard counts")
    return Manifest(dataset_id, schema, metadata, ()), True, tuple(notes)


def _own_entries(copies: Sequence[ShardCopy], manifest: Manifest) -> dict[int, ShardEntry]:
    """The entries of the shards that prove themselves, by number."""
    own: dict[int, ShardEntry] = {}
    for copy in copies:
        number = number_of(copy.name)
        if copy.claims == {(manifest.dataset_id, number)}:
            with contextlib.suppress(RecordIOError):
                entry = copy.entry(manifest.schema)
                own |= {number: entry} if entry else {}
    return own


def _further(copies: Sequence[ShardCopy], manifest: Manifest, parity: Sequence[ParityHeader]) -> list[Wanted]:
    """The shards, ascending, that files are of or are named as or are parity of, and that the manifest does not name.

    Of those that do not prove themselves, the parity says what the manifest did.
    """
    known = {shard.number: shard for header in parity for shard in header.shards}
    found = set(known)
    for copy in copies:
        own = {number for dataset_id, number in copy.claims if dataset_id == manifest.dataset_id}
        if own or not copy.claims:  # else it is a shard of another dataset
            found |= own | {number_of(copy.name)}
    proven = _own_entries(copies, manifest)
    further = sorted(found - {entry.number for entry in manifest.shards})
    return [(number, None if number in proven else known.get(number)) for number in further]


def _gaps(wanted: Sequence[Wanted]) -> Iterator[str]:
    """Which numbers are left out. A dataset that was overwritten does not begin with 0."""
    numbers = sorted(number for number, _ in wanted)
    gaps = [(a + 1, b - 1) for a, b in pairwise(numbers) if b > a + 1]
    for first, last in gaps[:_MOST_TEXTS]:
        names = shard_name(first) + (f" to {shard_name(last)}" if last > first else "")
        yield f"there is no {names}: what was in it, if it ever was, is lost"


def _strangers(copies: Sequence[ShardCopy], manifest: Manifest, wanted: set[int]) -> Iterator[str]:
    """The files that hold no shard of the dataset."""
    for copy in copies:
        numbers = {number for dataset_id, number in copy.claims if dataset_id == manifest.dataset_id}
        if not copy.claims or numbers & wanted:
            continue
        why = "it is of another dataset" if not numbers else f"{FILE_NAME} does not name it"
        yield f"{copy.name} is left as it is: {why}"


def _texts(copies: Sequence[ShardCopy], manifest: Manifest) -> list[bytes]:
    """What the header of a shard may say, the most frequent first."""
    votes = Counter(
        copy.text for copy in copies if copy.text and any(one == manifest.dataset_id for one, _ in copy.claims)
    )
    found = [text for text, _ in votes.most_common(_MOST_TEXTS) if parsed(text)[0] == manifest.schema]
    record = {KEY: manifest.metadata[KEY]} if KEY in manifest.metadata else {}
    for left in (record, {}):
        metadata = {name: value for name, value in manifest.metadata.items() if name not in left}
        with contextlib.suppress(SchemaError):  # of metadata that no recordio has written
            found.append(ShardHeader(manifest.dataset_id, 0, manifest.schema, metadata).text())
    return list(dict.fromkeys(found))
