"""A dataset that a conversion or an edit makes: what an earlier run has finished of it, and where it is published.

In a folder finished shards wait in DST/.convert, see staging.py. In an object store they are sent as soon as they are
finished, and DST/.convert/<digest of the plan>/<unit>.json has the note of each: so another machine can go on, too, and
two plans do not meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from recordio.errors import DatasetError
from recordio.format.manifest import Manifest
from recordio.remote.opening import StorageArgument, given_access
from recordio.remote.urls import is_url
from recordio.remote.write_target import RemoteTarget
from recordio.storage.atomic import FolderLock, remove, write_file
from recordio.storage.dataset_files import SOURCE, STAGING
from recordio.writer.convert.staging import Staging, UnitNote, finished_note, open_staging, remove_staging, restage
from recordio.writer.convert.units import Unit
from recordio.writer.destination import Destination, LocalDestination, RemoteDestination, put_manifest
from recordio.writer.publish import clear_remains, damaged_file
from recordio.writer.remote_shards import all_hold, put_shard


class Publication(Destination, Protocol):
    """Where a job makes its dataset. Units are numbered by the job's plan."""

    @property
    def sender(self) -> UnitSender | None:
        """Sends units from other machines, once `open` was called; None where they share a folder."""

    def held(self, digest: bytes | None = None) -> AbstractContextManager[None]:
        """For the time of the work, at the end of which what is needed for going on is removed. Raises DatasetError.

        `digest`: that of the plan, if it is known.
        """

    def has(self, name: str) -> bool:
        """Whether there is a file of this name. Raises StorageError."""

    def damage(self, manifest: Manifest) -> str | None:
        """What is wrong with the first shard that is missing or of the wrong length, None if none is."""

    def open(self, digest: bytes | None, overwrite: bool) -> Staging:
        """Where the units of the plan of this digest are made; None for a plan that no other run goes on with."""

    def note(self, unit: int) -> UnitNote | None:
        """Of a unit that an earlier run has finished."""

    def finish(self, unit: Unit) -> None:
        """A unit was made; may wait until an earlier one is out of the way. Raises StorageError."""

    def finished(self, units: Sequence[Unit]) -> list[Unit]:
        """The units that were made, with the entries of their shards where they are now. Raises StorageError."""

    def made_from(self, digest: bytes) -> bool:
        """Whether the dataset there was made by the plan of this digest."""

    def remember(self, digest: bytes | None) -> None:
        """Keeps for `made_from` that the dataset that is published next is made by this plan."""

    def commit(self, manifest: Manifest, units: Sequence[Unit]) -> None:
        """Publishes the manifest with the shards of these units. Raises DatasetError, StorageError."""


class LocalPublication(LocalDestination):
    """In a folder of this machine."""

    sender = None

    @contextmanager
    def held(self, digest: bytes | None = None) -> Iterator[None]:
        with FolderLock(self.folder):
            restage(self.folder)
            clear_remains(self.folder)
            yield
            remove_staging(self.folder)

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def damage(self, manifest: Manifest) -> str | None:
        return damaged_file(self.folder, manifest)

    def open(self, digest: bytes | None, overwrite: bool) -> Staging:
        self._staging = open_staging(self.folder, digest, overwrite)
        return self._staging

    def note(self, unit: int) -> UnitNote | None:
        return finished_note(self._staging, unit)

    def finish(self, unit: Unit) -> None:
        pass

    def finished(self, units: Sequence[Unit]) -> list[Unit]:
        return list(units)

    def made_from(self, digest: bytes) -> bool:
        try:
            return bytes.fromhex((self.folder / SOURCE).read_text("ascii")) == digest
        except (OSError, ValueError):
            return False

    def remember(self, digest: bytes | None) -> None:
        # Before the manifest: one without it, or beside another one, is taken for that of a source that was changed.
        if digest is None:
            remove([self.folder / SOURCE])
        else:
            write_file(self.folder / SOURCE, digest.hex().encode() + b"\n")

    def commit(self, manifest: Manifest, units: Sequence[Unit]) -> None:
        self.publish(manifest, {self._staging.shard(unit.number): unit.entry for unit in units})


@dataclass(frozen=True, slots=True)
class UnitSender:
    """Sends finished units, from any process.

    Attributes:
        target: where the dataset is to be.
        notes: the folder in it for notes; None to keep none.
    """

    target: RemoteTarget
    notes: str | None

    def send(self, unit: Unit, staging: Staging) -> Unit:
        """The unit with its shard's entry as it is there. Its files here are removed. Raises StorageError."""
        path, note = staging.shard(unit.number), UnitNote.read(staging.note(unit.number))
        entry = put_shard(self.target, path, unit.entry) if unit.entry.samples else unit.entry
        if self.notes is not None and note is not None:
            self.target.put(f"{self.notes}/{unit.number}.json", replace(note, entry=entry).encode())
        remove([path, staging.note(unit.number)])
        return replace(unit, entry=entry)


class RemotePublication(RemoteDestination):
    """In an object store."""

    def __init__(self, target: RemoteTarget) -> None:
        super().__init__(target)
        self.sender = UnitSender(target, None)
        self._notes: dict[int, UnitNote] = {}

    @contextmanager
    def held(self, digest: bytes | None = None) -> Iterator[None]:
        self.begin()
        self._send_for(digest)
        try:
            yield
            if self.sender.notes is not None:
                self.target.delete(one.name for one in self.target.list(self.sender.notes))
        finally:
            self.end()

    def has(self, name: str) -> bool:
        return self.target.version(name) is not None

    def damage(self, manifest: Manifest) -> str | None:
        there = {one.name: one.nbytes for one in self.target.list()}
        for shard in manifest.shards:
            if there.get(shard.name) != shard.nbytes:
                return f"the dataset here is damaged: {shard.name} is missing or of the wrong length"
        return None

    def open(self, digest: bytes | None, overwrite: bool) -> Staging:
        self._send_for(digest)
        self._notes = self._earlier()
        self._staging = Staging(self.folder, 1 + max(self.numbers(), default=-1))
        return self._staging

    def _send_for(self, digest: bytes | None) -> None:
        self.sender = UnitSender(self.target, None if digest is None else f"{STAGING}/{digest.hex()}")

    def _earlier(self) -> dict[int, UnitNote]:
        """The notes of units whose shards are there."""
        if self.sender.notes is None:
            return {}
        names = [one.name for one in self.target.list(self.sender.notes)]
        found: dict[int, UnitNote] = {}
        for name, data in zip(names, self.target.read_all(names), strict=True):
            note = None if data is None else UnitNote.decode(data)
            number = name.rpartition("/")[2].removesuffix(".json")
            if note is not None and number.isdecimal():
                found[int(number)] = note
        there = all_hold(self.target, [note.entry for note in found.values()])
        return {unit: note for (unit, note), good in zip(found.items(), there, strict=True) if good}

    def note(self, unit: int) -> UnitNote | None:
        return self._notes.get(unit)

    def finish(self, unit: Unit) -> None:
        self.start(unit.number, lambda: self.sender.send(unit, self._staging))

    def finished(self, units: Sequence[Unit]) -> list[Unit]:
        sent: dict[Any, Unit] = self.results()
        return [sent.get(unit.number, unit) for unit in units]

    def made_from(self, digest: bytes) -> bool:
        return self.has(f"{SOURCE}.{digest.hex()}")

    def remember(self, digest: bytes | None) -> None:
        if digest is not None:  # under a name of its own: another writer may be at work
            self.target.put(f"{SOURCE}.{digest.hex()}", b"")

    def commit(self, manifest: Manifest, units: Sequence[Unit]) -> None:
        put_manifest(self.target, manifest.encode(), self.before)


def open_publication(name: str, path: Any, storage: StorageArgument) -> Publication:
    """The publication at a path or URL, the argument `name`. Raises SchemaError, DatasetError."""
    location, options = given_access(name, path, storage)
    if is_url(location):
        return RemotePublication(RemoteTarget(location, options))
    folder = Path(location)
    if folder.exists() and not folder.is_dir():
        raise DatasetError("the destination is not a folder").at(file=str(folder))
    return LocalPublication(folder)
