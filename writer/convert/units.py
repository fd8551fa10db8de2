"""One unit of a conversion: a range of the source's samples becomes one finished shard in the staging folder.

A note beside each shard holds its manifest entry, the skipped samples and what it was made of. A unit whose shard and
note agree is done, and later runs reuse it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np

from recordio.errors import DecodeError, RecordIOError, SchemaError, SourceError
from recordio.format.fields import Field
from recordio.format.image_field import Image
from recordio.format.manifest import ShardEntry
from recordio.format.schema import Columns, Sample
from recordio.images.header import Header, read_header
from recordio.images.prepare import PictureKind, Stored, prepare
from recordio.process_guard import ThreadPool
from recordio.statistics.measures import Measures
from recordio.statistics.numbers import PixelMoments
from recordio.writer.convert.first_samples import unlike_the_first
from recordio.writer.convert.picture_columns import Looked, PictureColumns
from recordio.writer.convert.plan import ConvertOptions, Plan
from recordio.writer.convert.staging import Staging, UnitNote
from recordio.writer.packing import Packer
from recordio.writer.shard_sink import write_shard
from recordio.writer.sources import Output, Source
from recordio.writer.sources.foreign_errors import guarded

SKIPPABLE = (SourceError, DecodeError, SchemaError)
Skip = tuple[str, str]  # name, reason
Report = Callable[[int], None]  # called with the samples done so far


@dataclass(frozen=True, slots=True)
class Unit:
    """A finished unit: the manifest entry of its shard, the skipped samples, remarks on pictures, counted, how many
    inputs gave no sample, and the statistics of its fields, if they are known.
    """

    number: int
    entry: ShardEntry
    skipped: tuple[Skip, ...]
    remarks: Mapping[str, int] = field(default_factory=dict)
    dropped: int = 0
    statistics: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, number: int, note: UnitNote) -> Self:
        return cls(number, note.entry, note.skipped, note.remarks, note.dropped, note.statistics)


_AHEAD = 4  # samples being prepared for each thread


class _Seen(NamedTuple):
    """What was seen of a picture of a sample, for the statistics."""

    field: str
    header: Header
    moments: PixelMoments | None


_Ready = tuple[Sample, list[str], list[_Seen]]  # with remarks
_Made = _Ready | RecordIOError | None


class Prepared:
    """Iterates over samples of a source, ready to be written. Raises or lists the bad ones, as `on_error` says."""

    def __init__(
        self,
        source: Source,
        options: ConvertOptions,
        indices: Sequence[int],
        report: Report,
        strict: bool,
        threads: int = 1,
        measures: Measures | None = None,
    ) -> None:
        """`measures` are told of the pictures of the samples that are to be written."""
        self._source = source
        self._indices = indices
        self._report = report
        self._threads = threads
        self._options = options
        self._treatment = options.treatment
        schema = source.schema
        kinds = source.pictures
        images = {name for name, kind in schema.items() if isinstance(kind, Image) and kind.encoded}
        self.pictures = [(name, schema[name], kinds.get(name, "photo")) for name in schema if name in images | {*kinds}]
        self._with_masks = any(treated == "mask" for *_, treated in self.pictures)
        self._pack: Callable[[Sample], Any] | None = Packer(schema).pack if strict else None
        self.key = ""
        self.skipped: list[Skip] = []
        self.remarks: Counter[str] = Counter()
        self.dropped = 0
        self.measures = measures

    def __iter__(self) -> Iterator[Sample]:
        for position, key, made in self._in_order(guarded(self._source.outputs(self._indices))):
            self.key = key
            if made is None:
                self.dropped += 1
            elif isinstance(made, RecordIOError):
                made.at(file=key)
                if self._options.on_error == "raise":
                    raise made
                self.skipped.append((made.place.file or key, made.fault))
            else:
                sample, remarks, seen = made
                self.remarks.update(remarks)
                self._measure(seen)
                yield sample
            self._report(position + 1)

    def batches(self) -> Iterator[Columns] | None:
        """The same samples as columns; None where the source has none, or pictures are to be decoded.

        Raises an error of SKIPPABLE while it is iterated for samples that cannot be made so: iterating over these
        samples says which cannot be made at all.
        """
        as_they_are = all(isinstance(kind, Image) and treated != "mask" for _, kind, treated in self.pictures)
        treatment = self._treatment
        if self.pictures and (treatment.recodes or treatment.upright or not as_they_are):
            return None
        if self.pictures and treatment.decodes and self._options.on_error == "skip":
            return None  # for each bad picture, all of a unit would be decoded twice
        found = self._source.batches(np.array(self._indices, np.int64))
        return None if found is None else self._with_pictures_in(found)

    def _with_pictures_in(self, batches: Iterator[Columns]) -> Iterator[Columns]:
        done = 0
        decodes = self._treatment.decodes
        columns = PictureColumns(self.pictures, self._source.named, decodes, self._stored, self._threads)
        for batch, looked in columns.of(batches):
            made = dict(batch)
            for (name, *_), runs in zip(self.pictures, looked, strict=True):
                made[name] = [value for run in runs for value in run.values]
                self._take(name, runs)
            yield made
            done += len(next(iter(made.values())))
            self._report(done)

    def _take(self, name: str, runs: list[Looked]) -> None:
        for run in runs:
            self.remarks.update(run.remarks)
            if self.measures is not None:
                self.measures.add_headers(name, run.headers)
                if run.moments is not None:
                    self.measures.add_pixels(name, run.moments)

    def _measure(self, seen: list[_Seen]) -> None:
        if self.measures is not None:
            for name, header, moments in seen:
                self.measures.add_header(name, header)
                if moments is not None:
                    self.measures.add_pixels(name, moments)

    def _in_order(self, outputs: Iterator[Output]) -> Iterator[tuple[int, str, _Made]]:
        """The samples, prepared by threads if there are pictures to decode: the decoders release the lock."""
        if self._threads < 2 or not self.pictures:
            yield from ((position, key, self._attempt(position, item)) for position, key, item in outputs)
            return
        waiting: deque[tuple[int, str, Future[_Made]]] = deque()
        pool = ThreadPool(self._threads, "recordio-convert")
        try:
            for position, key, item in outputs:
                waiting.append((position, key, pool.submit(self._attempt, position, item)))
                if len(waiting) > _AHEAD * self._threads:
                    position, key, future = waiting.popleft()
                    yield position, key, future.result()
            yield from ((position, key, future.result()) for position, key, future in waiting)
        finally:
            pool.shutdown(cancel_futures=True)

    def _attempt(self, position: int, item: Sample | RecordIOError | None) -> _Made:
        try:
            return None if item is None else self._prepare(position, item)
        except SKIPPABLE as error:
            return error

    def _prepare(self, position: int, item: Sample | RecordIOError) -> _Ready:
        if isinstance(item, RecordIOError):
            raise item
        made = self._with_pictures(position, item) if self.pictures else (item, [], [])
        if self._pack is not None:
            self._pack(made[0])
        return made

    def _with_pictures(self, position: int, sample: Sample) -> _Ready:
        out = dict(sample)
        remarks: list[str] = []
        seen: list[_Seen] = []
        for name, kind, treated in self.pictures:
            if (data := out.get(name)) is None:
                continue
            stored = self._stored(position, name, kind, treated, data)
            out[name] = stored.value
            remarks += stored.remarks
            if stored.header is not None:
                pixels = stored.pixels if self.measures is not None else None
                seen.append(_Seen(name, stored.header, None if pixels is None else PixelMoments.of(pixels)))
        if self._with_masks and len({_size(out[name]) for name, *_ in self.pictures if out.get(name) is not None}) > 1:
            remarks.append("with a mask of another size: their pixels do not correspond")
        return out, remarks, seen

    def _stored(self, position: int, name: str, kind: Field, treated: PictureKind, data: bytes) -> Stored:
        file = self._file(position, name)
        try:
            return prepare(data, file, kind, treated, self._treatment)
        except DecodeError as error:
            error.at(file=file, field=name)
            raise

    def _file(self, position: int, field: str) -> str:
        return self._source.file(self._indices[position] if self._indices else position, field)


def _size(picture: Any) -> tuple[int, int]:
    """(height, width) of an encoded picture or an array."""
    if isinstance(picture, np.ndarray):
        return picture.shape[0], picture.shape[1]
    header = read_header(picture)
    return header.height, header.width


def make_unit(plan: Plan, unit: int, staging: Staging, report: Report, threads: int = 1) -> Unit:
    """Writes the shard of a unit. `report` is called after each sample with the number done; it may raise to stop.

    Raises SourceError, DecodeError and SchemaError for a sample, StorageError. On an error no file is left.
    """
    indices = plan.indices(unit)

    def prepared(strict: bool) -> Prepared:
        measures, some = Measures(plan.source.schema), 1 if strict else threads
        return Prepared(plan.source, plan.options, indices.tolist(), report, strict, some, measures)

    samples = prepared(strict=False)
    if (batches := samples.batches()) is not None:
        with suppress(*SKIPPABLE):  # making the samples one by one finds out which is at fault
            return _write_batches(plan, unit, staging, samples, guarded(batches))
    try:
        return _write(plan, unit, staging, prepared(strict=False))
    except SchemaError:
        if plan.options.on_error == "raise":
            raise
    # Sources promise samples that fit the schema. One did not: start again, packing each sample before it is written.
    return _write(plan, unit, staging, prepared(strict=True))


def _write(plan: Plan, unit: int, staging: Staging, samples: Prepared) -> Unit:
    # Before the samples are read: should the input change meanwhile, it is not the one that the shard claims.
    recipe = plan.recipe(unit)
    header, measures = plan.header(staging.number(unit)), samples.measures
    try:
        entry = write_shard(staging.folder, header, samples, plan.options.write, measures=measures)
    except SchemaError as error:
        unlike_the_first(error, plan.source)
        error.at(file=samples.key)
        raise
    made = None if measures is None else measures.statistics().to_json()
    note = UnitNote(entry, tuple(samples.skipped), samples.remarks, recipe, samples.dropped, made)
    return _noted(unit, staging, note)


def _write_batches(plan: Plan, unit: int, staging: Staging, samples: Prepared, batches: Iterator[Columns]) -> Unit:
    recipe = plan.recipe(unit)
    header, measures = plan.header(staging.number(unit)), samples.measures
    entry = write_shard(staging.folder, header, (), plan.options.write, batches, measures)
    made = None if measures is None else measures.statistics().to_json()
    return _noted(unit, staging, UnitNote(entry, (), samples.remarks, recipe, statistics=made))


def _noted(unit: int, staging: Staging, note: UnitNote) -> Unit:
    note.write(staging.note(unit))
    return Unit.of(unit, note)


def finished_unit(plan: Plan, unit: int, note: UnitNote | None) -> Unit | None:
    """The unit as an earlier run finished it, by its note; None if it has to be made."""
    if note is None or (note.skipped and plan.options.on_error == "raise"):
        return None
    return Unit.of(unit, note)


@dataclass(frozen=True)
class PlanUnits:
    """The units of a plan."""

    plan: Plan

    @property
    def workers(self) -> int | None:
        return self.plan.options.workers

    def samples(self, unit: int) -> int:
        return len(self.plan.indices(unit))


class PlannedWork(PlanUnits):
    """A conversion, for an engine."""

    def make(self, unit: int, staging: Staging, report: Report, threads: int) -> Unit:
        return make_unit(self.plan, unit, staging, report, threads)
