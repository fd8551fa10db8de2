"""Makes the parity of a dataset from its finished shards: the same bytes whoever wrote these, and in whatever order."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from recordio.errors import RecordIOError
from recordio.format.checksum import checksum
from recordio.format.layout import PARITY_PIECE_NBYTES
from recordio.format.manifest import Manifest, ShardEntry
from recordio.format.parity import Parity, ParityEntry, ParityHeader, groups_of, parity_name, parity_number
from recordio.process_guard import ThreadPool
from recordio.storage.atomic import TEMPORARY, NewFile, remove
from recordio.storage.dataset_files import open_shard_file
from recordio.storage.local import LocalStorage
from recordio.storage.parity_files import Span, Xor, open_parity, prove_parity

_THREADS = 2  # one reads while the file of the other is made durable


def objection(manifest: Manifest, wanted: Parity | None) -> str | None:
    """Why the parity of a dataset is not the one that is wanted, None if it is, or none is wanted."""
    have = manifest.parity
    if wanted is None or (have is not None and have.group == wanted.group):
        return None
    what = "no parity" if have is None else f"parity for every {have.group} shards"
    return f"the dataset here has {what}; `recordio parity` makes another"


def with_parity(
    folder: Path, manifest: Manifest, staged: Mapping[Path, str], bad: Collection[str] = ()
) -> tuple[Manifest, dict[Path, str]]:
    """The manifest with the parity of its shards, and the names of new files of parity by their temporary paths.

    A file that the manifest names already is kept if its group stays. One whose group grows gives place to another.

    Args:
        folder: the dataset's.
        manifest: names the shards, says how many a group has, and which files of parity there are.
        staged: the names of shards that have other paths yet.
        bad: the names of files of parity that are made again, as they were.

    Raises StorageError, and CorruptError if a shard is shorter than it should be; then no new file is left.
    """
    if manifest.parity is None:
        return manifest, {}
    paths = {name: path for path, name in staged.items()}
    before = {file.shards: file for file in manifest.parity.files}
    there = [number for path in folder.glob("parity-*") if (number := parity_number(path.name)) is not None]
    free = 1 + max([*there, *(file.number for file in manifest.parity.files)], default=-1)
    files: list[ParityEntry | ParityHeader] = []
    for shards in groups_of(manifest.shards, manifest.parity.group):
        old = before.get(tuple(shard.number for shard in shards))
        if old is not None and old.name not in bad:
            files.append(old)
            continue
        files.append(ParityHeader(manifest.dataset_id, free if old is None else old.number, shards))
        free += old is None
    made = {_temporary(folder, one): parity_name(one.number) for one in files if isinstance(one, ParityHeader)}

    def make(file: ParityEntry | ParityHeader) -> ParityEntry:
        if isinstance(file, ParityEntry):
            return file
        with _spans(folder, manifest, file.shards, paths, bad) as spans:
            return write_parity(_temporary(folder, file), file, spans)

    with ThreadPool(_THREADS, "recordio-parity") as pool:
        try:
            entries = tuple(pool.map(make, files))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            with contextlib.suppress(RecordIOError):
                remove(made)
            raise
    return replace(manifest, parity=Parity(manifest.parity.group, entries)), made


def _temporary(folder: Path, header: ParityHeader) -> Path:
    return folder / f".{parity_name(header.number)}{TEMPORARY}"


def write_parity(path: Path, header: ParityHeader, spans: Sequence[Span]) -> ParityEntry:
    """Writes a durable file of parity, of the shards in these spans. Raises as `with_parity` does."""
    start, xor, checksums = header.encode(), Xor(spans), []
    room = np.empty(PARITY_PIECE_NBYTES, np.uint8)
    file = NewFile(path)
    try:
        file.write([start])
        for begin, end in header.pieces():
            piece = room[: end - begin]
            xor.read_into(piece, begin)
            checksums.append(checksum(piece.data))
            file.write([piece.data])
        found = header.end(start, checksums)
        file.write([found.encode()])
        file.finish()
    except BaseException:
        file.abandon()
        raise
    return header.entry(found)


@contextlib.contextmanager
def _spans(
    folder: Path, manifest: Manifest, shards: Sequence[ShardEntry], paths: Mapping[str, Path], bad: Collection[str]
) -> Iterator[list[Span]]:
    """What the parity of a group is the XOR of: its shards, or the parity of the first of them and the others.

    A shard that was damaged since is given back by the old parity, but by none that is made of it.
    """
    with contextlib.ExitStack() as stack:
        spans = []
        for file in manifest.parity.files if manifest.parity else ():
            first = shards[: len(file.shards)]
            if tuple(shard.number for shard in first) == file.shards and file.name not in bad:
                with contextlib.suppress(RecordIOError):
                    spans = [stack.enter_context(_grown(folder, manifest, first, file))]
                    shards = shards[len(first) :]
                    break
        for shard in shards:
            path = paths.get(shard.name, folder / shard.name)
            opened = open_shard_file(LocalStorage(path.parent), path.name)
            spans.append(Span(stack.enter_context(contextlib.closing(opened)), 0, shard.nbytes))
        yield spans


@contextlib.contextmanager
def _grown(folder: Path, manifest: Manifest, shards: Sequence[ShardEntry], entry: ParityEntry) -> Iterator[Span]:
    """The parity of these shards in its file. Raises CorruptError if that is damaged."""
    header = ParityHeader(manifest.dataset_id, entry.number, tuple(shards))
    with contextlib.closing(open_parity(LocalStorage(folder), entry, header)) as file:
        yield Span(file, prove_parity(file, header, entry).start, header.nbytes)
