"""What a shard of an edited dataset is made of: a shard that is copied, or samples that are written anew."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recordio.format.manifest import ShardEntry
from recordio.format.parity import Parity
from recordio.format.schema import Columns, Schema
from recordio.format.shard import ShardHeader
from recordio.reader.stored import CHUNK_SAMPLES, chunk_indices, stored_columns
from recordio.reader.view import DatasetView
from recordio.remote.download import download
from recordio.remote.write_target import RemoteTarget
from recordio.statistics.measures import Measures
from recordio.storage.atomic import NewFile
from recordio.writer.convert.plan import Recipe
from recordio.writer.convert.staging import Staging, UnitNote
from recordio.writer.convert.units import Report, Unit
from recordio.writer.restamp import restamp
from recordio.writer.shard_sink import write_shard
from recordio.writer.shard_writer import WriteOptions

_CHUNK_NBYTES = 16 << 20
_WHOLE_SAMPLES = 1 << 24
_NO_RECIPE = Recipe("", "")


@dataclass(frozen=True, slots=True)
class Copied:
    """A finished shard in a folder, whose pages are taken as they are."""

    place: Path | RemoteTarget
    entry: ShardEntry

    @property
    def samples(self) -> int:
        return self.entry.samples

    @property
    def nbytes(self) -> int:
        return self.entry.nbytes

    @contextmanager
    def file(self, folder: Path) -> Iterator[Path]:
        """The shard as a file of this machine, fetched into `folder` if need be. Raises CorruptError, StorageError."""
        if isinstance(self.place, Path):
            yield self.place / self.entry.name
            return
        with tempfile.TemporaryDirectory(dir=folder) as own:
            file = NewFile(Path(own) / self.entry.name)
            try:
                download(self.place, self.entry.name, self.entry.nbytes, file.descriptor, lambda nbytes: None)
                yield file.path
            finally:
                file.abandon()


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The samples from `start` to `stop` of the view number `view`, about `nbytes` of its files."""

    view: int
    start: int
    stop: int
    nbytes: int

    @property
    def samples(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class EditPlan:
    """A dataset to be made of others: a pure function of these and of the options, whatever the number of workers.

    Attributes:
        schema: its fields.
        metadata: what its shards hold of its metadata.
        record: what its manifest holds beside.
        dataset_id: 16 bytes.
        digest: 16 bytes; shards that were finished under an equal one are used again.
        units: what each shard is made of.
        views: the views that units are numbers of.
        write: how samples are laid out that are written anew.
        workers: processes; None chooses.
        kept: shards that are there already, and stay.
        whole: read what a shard is made of at once, for samples from all over the source: else each chunk of them would
            decode nearly all blocks.
        notes: what a user should know, in words.
        statistics: of the dataset, if they are known before it is made.
        parity: of the dataset, as far as it is there already.
    """

    schema: Schema
    metadata: Mapping[str, Any]
    record: Mapping[str, Any]
    dataset_id: bytes
    digest: bytes
    units: Sequence[Copied | Rewritten]
    views: Sequence[DatasetView]
    write: WriteOptions
    workers: int | None = None
    kept: Sequence[ShardEntry] = ()
    whole: bool = False
    notes: tuple[str, ...] = ()
    statistics: Mapping[str, Any] | None = None
    parity: Parity | None = None

    def samples(self, unit: int) -> int:
        return self.units[unit].samples

    def make(self, unit: int, staging: Staging, report: Report, threads: int) -> Unit:
        """Makes a unit; see `Work`. Raises CorruptError, UnsupportedError, StorageError, SchemaError."""
        part = self.units[unit]
        header = ShardHeader(self.dataset_id, staging.number(unit), self.schema, self.metadata)
        if isinstance(part, Copied):
            with part.file(staging.folder) as path:
                entry = restamp(path, part.entry, staging.folder, header, self.write)
            statistics = None
            report(part.samples)
        else:
            measures = Measures(self.schema)
            entry = write_shard(staging.folder, header, (), self.write, self._chunks(part, report), measures)
            statistics = measures.statistics().to_json()
        note = UnitNote(entry, (), {}, _NO_RECIPE, statistics=statistics)
        note.write(staging.note(unit))
        return Unit.of(unit, note)

    def _chunks(self, part: Rewritten, report: Report) -> Iterator[Columns]:
        view = self.views[part.view]
        limits = (2 * self.write.shard_bytes, _WHOLE_SAMPLES) if self.whole else (_CHUNK_NBYTES, CHUNK_SAMPLES)
        for indices in chunk_indices(view, *limits, part.start, part.stop):
            yield stored_columns(view, indices)
            report(int(indices[-1]) + 1 - part.start)
