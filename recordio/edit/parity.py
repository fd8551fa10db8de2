"""`recordio.parity`: gives a dataset parity, or other parity than it has, or takes it away."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from recordio.arguments import folder_path, integer
from recordio.errors import DatasetError
from recordio.format.manifest import Manifest
from recordio.format.parity import Parity
from recordio.format.signature import FILE_NAME as SIGNATURE
from recordio.reader.verify import Progress, verify
from recordio.reader.verify_report import ShardProof
from recordio.storage.dataset_files import open_shard_file
from recordio.storage.local import LocalStorage
from recordio.writer.destination import LocalDestination, open_destination
from recordio.writer.shard_writer import MOST_PARITY_SHARDS


@dataclass(frozen=True, slots=True)
class ParityReport:
    """What parity a dataset has.

    Attributes:
        path: the dataset's folder.
        shards: how many have a file of parity in common; 0 if there is none.
        files: how many files of parity there are.
        nbytes: their length in all.
        done_before: whether it was so before, and nothing was done.
        notes: what is to be done beside, in words.
    """

    path: str
    shards: int
    files: int
    nbytes: int
    done_before: bool
    notes: tuple[str, ...] = ()


def parity(path: str | os.PathLike[str], shards: int, *, progress: Progress | None = None) -> ParityReport:
    """Makes a file of parity for every so many shards of a dataset, from which `repair` gives back any one of them.

        recordio.parity("photos.rio", 16)

    The dataset is verified first, as its parity would keep damage; then all of it is read once more. Readers that are
    at work do not notice.

    Args:
        path: the dataset's folder.
        shards: 1 to 256, or 0 to remove the parity.
        progress: called with (bytes verified, total bytes).

    Raises:
        DatasetError: there is no dataset, it was changed meanwhile, or another writer is at work.
        CorruptError: it is damaged: `repair` it first.
        StorageError: the system refused; the dataset is as before.
        SchemaError: `shards` is out of range.
    """
    wanted = Parity(found) if (found := integer("shards", shards, 0, MOST_PARITY_SHARDS)) else None
    destination = open_destination("path", path, None)
    if not isinstance(destination, LocalDestination):
        raise DatasetError("parity is made in a folder: copy the dataset to this machine").at(file=destination.location)
    report = verify(folder_path("path", path), progress=progress)
    if report.problems:
        raise report.problems[0]
    try:
        destination.begin()
        manifest = destination.read()
        if manifest is None:
            raise DatasetError("the dataset was removed meanwhile").at(file=destination.location)
        _require_proven(destination, manifest, set(report.proven))
        have = manifest.parity and manifest.parity.group
        done = have == (wanted and wanted.group)
        if not done:
            manifest = destination.publish(replace(manifest, parity=wanted), {})
    finally:
        destination.end()
    signed = not done and (destination.folder / SIGNATURE).exists()
    notes = ("the signature is of the manifest before: sign the dataset again",) if signed else ()
    files = [file.nbytes for file in manifest.parity.files] if manifest.parity else []
    return ParityReport(destination.location, found, len(files), sum(files), done, notes)


def _require_proven(destination: LocalDestination, manifest: Manifest, proven: set[ShardProof]) -> None:
    """Raises DatasetError unless the files of the shards are those that were verified, and unchanged."""
    for entry in manifest.shards:
        file = open_shard_file(LocalStorage(destination.folder), entry.name)
        file.close()
        if ShardProof.of(entry.name, entry.nbytes, entry.digest, file.identity) not in proven:
            raise DatasetError("the dataset was changed meanwhile: run it again").at(file=entry.name)
