"""One unit of a conversion: a range of the source's samples becomes one finished shard in the staging folder.

A note beside each shard holds its manifest entry, the skipped samples and what it was made of. A unit whose shard and
note agree is done, and later runs reuse it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recordio.errors import DecodeError, RecordIOError, SchemaError, SourceError
from recordio.format.image_field import Image
from recordio.format.manifest import ShardEntry
from recordio.format.schema import Columns, Sample
from recordio.images.header import read_header
from recordio.images.prepare import prepare
from recordio.writer.convert.plan import Plan
from recordio.writer.convert.staging import Staging, UnitNote, finished_note
from recordio.writer.packing import Packer
from recordio.writer.shard_sink import write_shard
from recordio.writer.sources import Item

SKIPPABLE = (SourceError, DecodeError, SchemaError)
Skip = tuple[str, str]  # name, reason
Report = Callable[[int], None]  # called with the samples done so far


@dataclass(frozen=True, slots=True)
class Unit:
    """A finished unit: the manifest entry of its shard, the skipped samples, and remarks on pictures, counted."""

    number: int
    entry: ShardEntry
    skipped: tuple[Skip, ...]
    remarks: Mapping[str, int] = field(default_factory=dict)


_AHEAD = 4  # samples being prepared for each thread
_Made = tuple[Sample, list[str]] | RecordIOError


class _Prepared:
    """Iterates over the samples of a unit, ready to be written. Raises or lists the bad ones, as `on_error` says."""

    def __init__(self, plan: Plan, unit: int, report: Report, strict: bool, threads: int = 1) -> None:
        self._plan = plan
        self._unit = unit
        self._report = report
        self._threads = threads
        self._options = plan.options
        self._treatment = plan.options.treatment
        schema = plan.source.schema
        kinds = plan.source.pictures
        images = {name for name, kind in schema.items() if isinstance(kind, Image) and kind.encoded}
        self.pictures = [(name, schema[name], kinds.get(name, "photo")) for name in schema if name in images | {*kinds}]
        self._with_masks = any(treated == "mask" for *_, treated in self.pictures)
        self._pack: Callable[[Sample], Any] | None = Packer(schema).pack if strict else None
        self.key = ""
        self.skipped: list[Skip] = []
        self.remarks: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Sample]:
        indices = self._plan.indices(self._unit).tolist()
        read = zip(indices, self._plan.source.read(indices), strict=True)
        for done, (key, made) in enumerate(self._in_order(read), 1):
            self.key = key
            if isinstance(made, RecordIOError):
                made.at(file=key)
                if self._options.on_error == "raise":
                    raise made
                self.skipped.append((made.place.file or key, made.fault))
            else:
                sample, remarks = made
                self.remarks.update(remarks)
                yield sample
            self._report(done)

    def _in_order(self, read: Iterator[tuple[int, Item]]) -> Iterator[tuple[str, _Made]]:
        """The samples, prepared by threads if there are pictures to decode: the decoders release the lock."""
        if self._threads < 2 or not self.pictures:
            yield from ((key, self._attempt(index, item)) for index, (key, item) in read)
            return
        waiting: deque[tuple[str, Future[_Made]]] = deque()
        pool = ThreadPoolExecutor(self._threads, "recordio-convert")
        try:
            for index, (key, item) in read:
                waiting.append((key, pool.submit(self._attempt, index, item)))
                if len(waiting) > _AHEAD * self._threads:
                    key, future = waiting.popleft()
                    yield key, future.result()
            yield from ((key, future.result()) for key, future in waiting)
        finally:
            pool.shutdown(cancel_futures=True)

    def _attempt(self, index: int, item: Sample | RecordIOError) -> _Made:
        try:
            return self._prepare(index, item)
        except SKIPPABLE as error:
            return error

    def _prepare(self, index: int, item: Sample | RecordIOError) -> tuple[Sample, list[str]]:
        if isinstance(item, RecordIOError):
            raise item
        sample, remarks = self._with_pictures(index, item) if self.pictures else (item, [])
        if self._pack is not None:
            self._pack(sample)
        return sample, remarks

    def _with_pictures(self, index: int, sample: Sample) -> tuple[Sample, list[str]]:
        out = dict(sample)
        remarks: list[str] = []
        for name, kind, treated in self.pictures:
            data = out.get(name)
            if data is None:
                continue
            file = self._plan.source.file(index, name)
            try:
                out[name], found = prepare(data, file, kind, treated, self._treatment)
            except DecodeError as error:
                error.at(file=file, field=name)
                raise
            remarks += found
        if self._with_masks and len({_size(out[name]) for name, *_ in self.pictures if out.get(name) is not None}) > 1:
            remarks.append("with a mask of another size: their pixels do not correspond")
        return out, remarks


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
    prepared = _Prepared(plan, unit, report, strict=False, threads=threads)
    if not prepared.pictures and (batches := plan.source.batches(plan.indices(unit))) is not None:
        with suppress(*SKIPPABLE):  # reading the samples one by one finds out which is at fault
            return _write_batches(plan, unit, staging, _counted(batches, report))
    try:
        return _write(plan, unit, staging, prepared)
    except SchemaError:
        if plan.options.on_error == "raise":
            raise
    # Sources promise samples that fit the schema. One did not: start again, packing each sample before it is written.
    return _write(plan, unit, staging, _Prepared(plan, unit, report, strict=True))


def _write(plan: Plan, unit: int, staging: Staging, samples: _Prepared) -> Unit:
    # Before the samples are read: should the input change meanwhile, it is not the one that the shard claims.
    recipe = plan.recipe(unit)
    try:
        entry = write_shard(staging.folder, plan.header(staging.number(unit)), samples, plan.options.write)
    except SchemaError as error:
        error.at(file=samples.key)
        raise
    return _noted(unit, staging, UnitNote(entry, tuple(samples.skipped), samples.remarks, recipe))


def _write_batches(plan: Plan, unit: int, staging: Staging, batches: Iterator[Columns]) -> Unit:
    recipe = plan.recipe(unit)
    entry = write_shard(staging.folder, plan.header(staging.number(unit)), (), plan.options.write, batches)
    return _noted(unit, staging, UnitNote(entry, (), {}, recipe))


def _noted(unit: int, staging: Staging, note: UnitNote) -> Unit:
    note.write(staging.note(unit))
    return Unit(unit, note.entry, note.skipped, note.remarks)


def _counted(batches: Iterator[Columns], report: Report) -> Iterator[Columns]:
    """The batches, with a report after each of the samples done."""
    done = 0
    for columns in batches:
        yield columns
        done += len(next(iter(columns.values())))
        report(done)


def finished_unit(plan: Plan, unit: int, staging: Staging) -> Unit | None:
    """The unit as an earlier run finished it, None if it has to be made."""
    note = finished_note(staging, unit)
    if note is None or (note.skipped and plan.options.on_error == "raise"):
        return None
    return Unit(unit, note.entry, note.skipped, note.remarks)


@dataclass(frozen=True)
class PlannedWork:
    """The units of a plan, for an engine."""

    plan: Plan

    @property
    def workers(self) -> int | None:
        return self.plan.options.workers

    def samples(self, unit: int) -> int:
        return len(self.plan.indices(unit))

    def make(self, unit: int, staging: Staging, report: Report, threads: int) -> Unit:
        return make_unit(self.plan, unit, staging, report, threads)
