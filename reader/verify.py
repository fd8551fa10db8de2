"""`verify`: checks every byte of a dataset, or as much of it as is asked for.

Streams the shards in bounded memory and continues after a fault, so that one report names all faults.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from recordio.arguments import choice, flag, integer
from recordio.errors import (
    CorruptError,
    DatasetError,
    DecodeError,
    RecordIOError,
    SchemaError,
    StorageError,
    UnsupportedError,
)
from recordio.format.manifest import Manifest
from recordio.format.page import Indices
from recordio.format.parity import ParityEntry, ParityHeader
from recordio.format.quarantine import FILE_NAME, Quarantine, damaged_blocks
from recordio.reader.io_choice import choose_io
from recordio.reader.open_shard import OpenShard
from recordio.reader.page_checks import Check, Checked, PageChecks, check_page
from recordio.reader.shard_indexes import ShardIndexes, blocks_of
from recordio.reader.signed import read_signature, sha256_of
from recordio.reader.signing_keys import Key
from recordio.reader.verify_report import Level, PageSample, ShardProof, VerifyReport as VerifyReport, proofs_of
from recordio.remote.opening import RemoteAccess, StorageArgument, dataset_access, open_storage
from recordio.remote.urls import is_url
from recordio.storage.atomic import write_file
from recordio.storage.base import Storage
from recordio.storage.dataset_files import check_shards, read_manifest
from recordio.storage.parity_files import parity_problems
from recordio.storage.shard_files import ShardFiles

_AHEAD = 16  # shards of which the indexes are read at a time
_AHEAD_REMOTE = 256  # in an object store, of which they are asked for

Progress = Callable[[int, int], None]
Report = VerifyReport | Mapping[str, Any]


def verify(
    path: str | os.PathLike[str],
    level: Level = "full",
    *,
    sample: int | None = None,
    since: Report | None = None,
    quarantine: bool = False,
    key: Key | None = None,
    progress: Progress | None = None,
    storage: StorageArgument = None,
) -> VerifyReport:
    """Checks a dataset and reports every fault.

    Args:
        path: the dataset's folder, or its URL: it is read where it is, past the cache.
        level: "full" reads every byte, compares every checksum, decodes every page, and proves that its values can be
            read, but for the pixels of pictures; "quick" reads the manifest, and the length, header, footer and index
            of each shard, or header and end of each file of parity.
        sample: read only so many pages, drawn at random, and the length and footer of each shard. The report says how
            large the damaged share of all pages may be. Another call draws other pages.
        since: an earlier report of a full verification, or its JSON. Of a shard that it has proven, and whose file was
            neither replaced nor written to since, only header, footer and index are read. That does not find bytes that
            the disk has changed by itself. Only for folders on this machine.
        quarantine: writes the damaged blocks beside the manifest, for `ShardDataset(path, on_damage="skip")`.
        key: a public key of Ed25519, as the path of its PEM or ssh file or as the file's bytes: the dataset has to be
            signed with the private one, see `sign`. At level "full" the SHA-256 of each shard then takes the place of
            its checksums, which do not stop a forger; where it differs they tell which blocks. At level "quick" only
            the manifest is compared with the signature.
        progress: called with (bytes done, total bytes), or pages with `sample`.
        storage: how an object store is reached, see `StorageOptions`.

    Raises:
        DatasetError: there is no dataset at the path. A damaged one is a report.
        StorageError: the manifest cannot be read, or the list not written. An unreadable shard is a problem.
        SchemaError: an argument is wrong.
        MissingPackageError: a key needs the package cryptography.
    """
    choice("level", level, ("quick", "full"))
    integer("sample", sample, 1, optional=True)
    if level == "quick" and (sample is not None or since is not None):
        raise SchemaError('level "quick" reads no pages: sample and since are of no use with it')
    if sample is not None and since is not None:
        raise SchemaError("a sample is drawn from all shards: sample and since exclude each other")
    if flag("quarantine", quarantine) and (level == "quick" or sample is not None):
        raise SchemaError("a quarantine lists what reading every page finds: leave out level and sample")
    if key is not None and (sample is not None or since is not None):
        raise SchemaError("a signature is of every byte: leave out sample and since")
    known = {} if since is None else proofs_of(since)
    folder, options = dataset_access("path", path, storage)
    if quarantine and is_url(folder):
        raise DatasetError("a quarantine is written on this machine alone: verify a copy here, and upload the list")
    opened = open_storage(folder, RemoteAccess(options, cache=None))
    if opened.is_remote and since is not None:
        raise SchemaError("since is for a folder: a store says nothing of a shard that it is not asked for")
    try:
        manifest, digest = read_manifest(opened, folder)
    except (CorruptError, UnsupportedError) as error:
        return VerifyReport(folder, level, problems=(error,))
    verification = _Verification(opened, manifest, known)
    start = VerifyReport(folder, level, shards=len(manifest.shards))
    if key is not None:
        try:
            statement, signed = read_signature(opened, folder, manifest, digest, key)
        except (CorruptError, UnsupportedError) as error:
            start = replace(start, problems=(error,))
        else:
            verification.signed, start = statement.shards, replace(start, signed=signed)
    if sample is not None:
        return verification.sampled(start, sample, progress)
    report = verification.report(start, progress)
    if quarantine:
        damaged = damaged_blocks(manifest, report.problems)
        write_file(Path(folder) / FILE_NAME, Quarantine.of(manifest, damaged).encode())
        report = replace(report, quarantined=sum(one.blocks for one in damaged))
    return report


@dataclass
class _Tally:
    """What has been checked so far. `bad`: the positions of shards with faults."""

    done: int = 0
    problems: list[RecordIOError] = field(default_factory=list)
    bad: set[int] = field(default_factory=set)
    blocks: int = 0
    samples: int = 0
    nbytes: int = 0

    def add(self, one: Checked) -> None:
        self.done += one.nbytes
        self.problems += one.problems
        self.blocks += one.blocks
        self.samples += one.samples
        self.nbytes += one.nbytes if one.readable else 0
        if one.problems:
            self.bad.add(one.shard)


def find_damage(storage: Storage, manifest: Manifest, first: int) -> list[RecordIOError]:
    """The problems of the shards from position `first` on, every page of which is read."""
    verification = _Verification(storage, manifest, {})
    results = verification.results(True, set(), first)
    return [problem for one in results for problem in one.problems]


class _Verification:
    """The checks of all shards, in the order of their bytes. `known`: what an earlier report has proven.

    Attributes:
        signed: the SHA-256 of each shard by its name, to be compared instead of checksums; None for those.
    """

    signed: Mapping[str, str] | None = None

    def __init__(self, storage: Storage, manifest: Manifest, known: Mapping[str, ShardProof]) -> None:
        self._storage = storage
        self._manifest = manifest
        self._known = known
        self._files = ShardFiles(storage, manifest)
        self._blocks = blocks_of(manifest)
        self._indexes = ShardIndexes(self._files, manifest, self._blocks.first, self._blocks.shard)
        io = choose_io("auto", storage, sum(manifest.table.nbytes.tolist()))
        self._checks = PageChecks(manifest, direct=io.kind == "direct", remote=storage.is_remote, values=True)
        self._proofs: dict[int, ShardProof] = {}  # of the shards that were opened

    def report(self, start: VerifyReport, progress: Progress | None) -> VerifyReport:
        """Of every shard that is not known already, or at level "quick" of what is known without its pages."""
        tally, full = _Tally(), start.level == "full"
        unchanged = self._find_unchanged()
        entries = enumerate(self._manifest.table.nbytes.tolist())
        parity = list(self._parity_checks(full))
        total = sum(nbytes for position, nbytes in entries if position not in unchanged)
        total += sum(file.nbytes for _, file in self._manifest.parity_files)
        for one in chain(self.results(full, unchanged), self._checks.results(parity)):
            tally.add(one)
            if progress is not None:
                progress(tally.done, total)
        proven = tuple(proof for number, proof in self._proofs.items() if full and number not in tally.bad)
        return replace(
            start,
            blocks=tally.blocks,
            samples=tally.samples,
            nbytes=tally.nbytes,
            problems=(*start.problems, *tally.problems),
            unchanged=len(unchanged),
            proven=proven,
            parity=len(parity),
        )

    def _parity_checks(self, full: bool) -> Iterator[Check]:
        for header, file in self._manifest.parity_files:
            yield partial(_check_parity, self._storage, header, file, full)

    def _find_unchanged(self) -> set[int]:
        """The shards whose files are those that the earlier report has proven."""
        found: set[int] = set()
        if not self._known:
            return found
        for position, entry in enumerate(self._manifest.shards):
            if (proof := self._known.get(entry.name)) is not None and proof.identity is not None:
                with contextlib.suppress(RecordIOError):
                    file = self._files.open(position)
                    if proof == ShardProof.of(entry.name, entry.nbytes, entry.digest, file.identity):
                        found.add(position)
        return found

    def results(self, full: bool, unchanged: set[int], first: int = 0) -> Iterator[Checked]:
        """What is found of the shards from position `first` on."""
        return self._checks.results(self._tasks(full, unchanged, first))

    def _tasks(self, full: bool, unchanged: set[int], first: int) -> Iterator[Check]:
        remote = self._checks.access.remote
        ahead, read_ahead = (_AHEAD_REMOTE, self._files.ask_for_indexes) if remote else (_AHEAD, self._indexes.load)
        for position, entry in islice(enumerate(self._manifest.shards), first, None):
            if (position - first) % ahead == 0:
                read_ahead(range(position, min(position + ahead, len(self._manifest.shards))))
            try:
                shard = self._opened(position)
            except (CorruptError, UnsupportedError, StorageError) as error:
                yield partial(Checked, position, entry.nbytes, problems=[error], readable=False)
                continue
            identity = None if self._storage.is_remote else shard.file.identity  # there, it is what the manifest says
            proof = ShardProof.of(entry.name, entry.nbytes, entry.digest, identity)
            self._proofs[position] = proof
            if position in unchanged and self._known[entry.name] == proof:
                yield partial(Checked, position, 0, entry.blocks, entry.samples)
            elif full and self.signed is not None:
                yield partial(self._check_signed, position, shard, self.signed[entry.name])
            elif full:
                yield from self._checks.of_shard(position, shard)
            else:
                yield partial(Checked, position, entry.nbytes, entry.blocks, entry.samples)

    def _check_signed(self, position: int, shard: OpenShard, sha256: str) -> Checked:
        """The check of a shard by its SHA-256, and by its checksums where that differs."""
        entry = self._manifest.shards[position]
        text = "its bytes are not those that were signed, though its checksums fit: altered on purpose, or while read"
        problem: RecordIOError = CorruptError(text).at(file=entry.name)
        try:
            if sha256_of(shard) == sha256:
                return Checked(position, entry.nbytes, entry.blocks, entry.samples)
        except (CorruptError, StorageError) as error:
            problem = error
        found = [one for check in self._checks.of_shard(position, shard) for one in check().problems]
        return Checked(position, entry.nbytes, entry.blocks, entry.samples, found or [problem])

    def sampled(self, start: VerifyReport, pages: int, progress: Progress | None) -> VerifyReport:
        """Of pages drawn at random, and of the footers of all shards."""
        problems = check_shards(self._storage, self._manifest)
        problems += [problem for check in self._parity_checks(full=False) for problem in check().problems]
        every = len(self._blocks.nbytes) * len(self._manifest.schema)
        drawn = np.sort(np.random.default_rng().choice(every, min(pages, every), replace=False))
        tally = _Tally(problems=list(problems))
        lost = {problem.place.file for problem in problems}
        damaged = 0
        for one in self._checks.results(self._page_tasks(drawn, lost)):
            tally.add(one)
            damaged += bool(one.problems) or not one.readable
            if progress is not None:
                progress(tally.done, len(drawn))
        return replace(
            start,
            blocks=tally.blocks,
            samples=tally.samples,
            problems=tuple(tally.problems),
            sample=PageSample.found(len(drawn), every, damaged),
        )

    def _page_tasks(self, pages: Indices, lost: set[str | None]) -> Iterator[Check]:
        """A check of each page; those of a shard that cannot be opened are damaged, which is reported once."""
        fields = len(self._manifest.schema)
        shards = np.searchsorted(self._blocks.shard, pages // fields, side="right") - 1
        for position in np.unique(shards).tolist():
            own = pages[shards == position]
            try:
                shard = self._opened(position)
            except (CorruptError, UnsupportedError, StorageError) as error:
                is_new = self._manifest.shards[position].name not in lost
                for k in range(len(own)):
                    yield partial(Checked, position, 1, problems=[error] if is_new and not k else [], readable=False)
                continue
            for page in own.tolist():
                block, column = divmod(page, fields)
                yield partial(_check_page, position, shard, block - int(self._blocks.shard[position]), column)

    def _opened(self, position: int) -> OpenShard:
        """A shard whose index is good. Raises CorruptError, UnsupportedError, StorageError."""
        file = self._files.open(position)
        index = self._indexes.of(position)
        return self._checks.opened(file, self._manifest.table.numbers.item(position), index)


def _check_parity(storage: Storage, header: ParityHeader, file: ParityEntry, full: bool) -> Checked:
    """The check of a file of parity, which is no shard and has no blocks."""
    return Checked(-1, file.nbytes, problems=parity_problems(storage, header, file, full))


def _check_page(position: int, shard: OpenShard, block: int, column: int) -> Checked:
    """The check of one page, of which `nbytes` counts pages."""
    try:
        check_page(shard, block, column, values=True)
    except (CorruptError, DecodeError, StorageError) as error:
        return Checked(position, 1, problems=[error])
    return Checked(position, 1)
