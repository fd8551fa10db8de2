"""One source on its way to one dataset: planned, made in units, committed once."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recordio.errors import DatasetError, SchemaError, SourceError
from recordio.format.manifest import Manifest
from recordio.statistics.records import merged_json
from recordio.writer.convert.engines import for_workers, run_plan
from recordio.writer.convert.mapped import Mapped
from recordio.writer.convert.plan import ConvertOptions, make_plan, order_of
from recordio.writer.convert.progress import TotalProgress
from recordio.writer.convert.publication import LocalPublication, Publication
from recordio.writer.convert.record import conversion_record, recorded
from recordio.writer.convert.reuse import reuse_finished
from recordio.writer.convert.units import SKIPPABLE, Skip, Unit, finished_unit
from recordio.writer.destination import refuse_parity
from recordio.writer.parity import objection
from recordio.writer.sources import Source, SourceOptions, SourceSpec, open_source
from recordio.writer.sources.leftovers import counted
from recordio.writer.sources.python.python_inputs import KIND
from recordio.writer.sources.tokens.tokenized import tokenized

_ROWS = ("npy", "npz", "hdf5", "zarr", "lmdb", "mnist", "cifar10", "cifar100")
_WAY_ON = (
    "what is finished is kept: mend the input and run the same command again, "
    'or leave such inputs out by on_error="skip" (--on-error skip)'
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job did; see ConvertReport for the fields of the same name."""

    manifest: Manifest
    skipped: tuple[Skip, ...] = ()
    dropped: int = 0
    reused: int = 0
    made: int = 0
    done_before: bool = False
    notes: tuple[str, ...] = ()


class ConvertJob:
    """Opens the source and plans the work when it is made. Nothing is written before `run`."""

    def __init__(self, spec: SourceSpec, publication: Publication, options: ConvertOptions) -> None:
        refuse_parity(publication, options.write.new_parity)
        self.source_path = spec.path
        self.publication = publication
        if spec.given is None and isinstance(publication, LocalPublication):
            self._refuse_nesting(publication.folder)
        source = spec.given or open_source(spec.path, spec.kind or None, spec.options)
        _require_pictures(source, spec.options)
        if options.maker is not None:
            order = order_of(len(source), options)
            source = Mapped(source, options.maker, options.schema, order, skip=options.on_error == "skip")
        source = tokenized(source, options.text, skip=options.on_error == "skip", limit=options.limit)
        before = set(source.schema)
        source = _with_names(source, options.keep_names)
        self._names = [] if options.keep_names else sorted(set(source.schema) - before)
        self.plan, asides = for_workers(make_plan(source, options))
        self._recorded_notes = (*spec.notes, *source.notes)
        self.notes = (*self._recorded_notes, *asides)

    @property
    def source(self) -> Source:
        return self.plan.source

    @property
    def inputs(self) -> int:
        """How many samples of the source are to be converted."""
        return len(self.plan.order)

    def _refuse_nesting(self, folder: Path) -> None:
        source, target = os.path.realpath(self.source_path), os.path.realpath(folder)
        if os.path.isdir(source) and os.path.commonpath([source, target]) == source:
            raise DatasetError("the destination lies in the source").at(file=str(folder))

    def run(self, progress: TotalProgress) -> Outcome:
        """Makes the dataset, as far as it is not there yet."""
        with self.publication.held(self.plan.digest):
            return self._done_before(progress) or self._make(progress)

    def _done_before(self, progress: TotalProgress) -> Outcome | None:
        """The outcome when the dataset is there already, None when it is to be made. Raises DatasetError."""
        manifest = self.publication.read(damaged=self.plan.options.overwrite)
        if manifest is None:
            return None
        objection = self._objection(manifest)
        if objection is None:
            progress.reused(len(self.plan.order))
            progress.finish(0)
            said = recorded(manifest.metadata)
            more = said.skipped - len(said.skips)
            unlisted = (f"{more} samples were skipped when it was made",) if more > 0 else ()
            notes = (*self.notes, *unlisted)
            return Outcome(manifest, skipped=said.skips, dropped=said.dropped, done_before=True, notes=notes)
        if not self.plan.options.overwrite:
            raise DatasetError(f"{objection}; overwrite=True (--overwrite) makes it anew").at(
                file=self.publication.location
            )
        return None

    def _objection(self, manifest: Manifest) -> str | None:
        """Why the dataset at the destination is not the one that this job would make, None if it is."""
        if self.plan.digest is None:
            return "there is a dataset here, and whether it is of the same inputs cannot be told"
        if manifest.dataset_id != self.plan.dataset_id:
            return "the dataset here was made from another source, or its files or the options have changed since"
        made = recorded(manifest.metadata).samples
        if manifest.samples > (len(self.plan.order) if made is None else made):
            return "samples were added to the dataset here after it was made from this source"
        if not self.publication.made_from(self.plan.digest):
            return "the source was changed, moved or replaced after this dataset was made from it"
        return self.publication.damage(manifest) or objection(manifest, self.plan.options.write.new_parity)

    def _make(self, progress: TotalProgress) -> Outcome:
        staging = self.publication.open(self.plan.digest, self.plan.options.overwrite)
        dropped = reuse_finished(self.plan, staging)
        notes = ((k, self.publication.note(k)) for k in range(self.plan.units))
        kept = [unit for k, note in notes if (unit := finished_unit(self.plan, k, note))]
        before = sum(len(self.plan.indices(unit.number)) for unit in kept)
        rest = sorted(set(range(self.plan.units)) - {unit.number for unit in kept})
        progress.reused(before)
        try:
            made = run_plan(self.plan, rest, staging, progress if progress.asked else None, self.publication)
            made = self.publication.finished(made)
        except SKIPPABLE as error:
            for note in (*dropped, _WAY_ON):
                error.add_note(note)
            raise
        progress.finish(len(self.plan.order) - before)
        units = sorted(kept + made, key=lambda unit: unit.number)
        skipped = tuple(skip for unit in units for skip in unit.skipped)
        without = sum(unit.dropped for unit in units)
        return Outcome(
            self._commit(units, self._record(units, skipped, without)),
            skipped=skipped,
            dropped=without,
            reused=len(kept),
            made=sum(unit.entry.samples for unit in made),
            notes=(*self.notes, *dropped, *_remarks(units)),
        )

    def _record(self, units: list[Unit], skipped: tuple[Skip, ...], dropped: int) -> dict[str, Any]:
        samples = sum(unit.entry.samples for unit in units)
        other = samples != len(self.plan.order) - len(skipped)
        notes = self._recorded_notes
        return conversion_record(self.plan.options, skipped, notes, self._names, dropped, samples if other else None)

    def _commit(self, units: list[Unit], record: dict[str, Any]) -> Manifest:
        full = [unit for unit in units if unit.entry.samples]
        if not full:
            count = len(self.plan.order)
            name, reason = next((skip for unit in units for skip in unit.skipped), ("", ""))
            if not name:
                raise SourceError(f"fn made no sample of any of the {count} inputs")
            raise SourceError(f"none of the {count} samples can be read; the first: {reason}").at(file=name)
        source = self.plan.source
        metadata = {**source.metadata, **record}
        manifest = Manifest(
            dataset_id=self.plan.dataset_id,
            schema=source.schema,
            metadata=metadata,
            shards=[unit.entry for unit in full],
            statistics=merged_json([unit.statistics for unit in full]),
            parity=self.plan.options.write.new_parity,
        )
        self.publication.remember(self.plan.digest)
        self.publication.commit(manifest, full)
        return manifest


def _require_pictures(source: Source, options: SourceOptions) -> None:
    """Raises SchemaError for options about pictures that the source does not have."""
    unknown = [name for name in options.masks if name not in source.pictures]
    if unknown:
        there = f"there are {', '.join(source.pictures)}" if source.pictures else "there are none"
        raise SchemaError(f"masks names {unknown[0]!r}, which is no field of picture files: {there}")
    if options.mode is not None and not source.pictures:
        raise SchemaError(f"mode is for picture files, and a {source.kind!r} source has none")


def _remarks(units: list[Unit]) -> tuple[str, ...]:
    """What was remarked on pictures, with the number of them, the most frequent first."""
    counts: Counter[str] = Counter()
    for unit in units:
        counts.update(unit.remarks)
    return tuple(f"{counted(count, 'picture')} {text}" for text, count in counts.most_common())


def _with_names(source: Source, wanted: bool | None) -> Source:
    """The source with the names of its files, if they are wanted, or if nothing else says which file a sample is."""
    if wanted is False or (wanted is None and not source.nameless):
        return source
    if source.kind == KIND:
        raise SchemaError("keep_names (--keep-names) is for files; let fn give the name of an input as a field")
    if source.kind in _ROWS:
        raise SchemaError(f"keep_names (--keep-names) is for files, and a sample of {source.kind!r} is a row of one")
    return source.with_names()
