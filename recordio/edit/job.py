"""Makes the dataset of a plan: its shards wait in DST/.convert until all are there, and the manifest comes last."""

from __future__ import annotations

from dataclasses import dataclass, replace

from recordio.edit.units import Copied, EditPlan
from recordio.errors import DatasetError, RecordIOError
from recordio.format.manifest import Manifest
from recordio.statistics.records import merged_json
from recordio.writer.convert.engines import run_units
from recordio.writer.convert.progress import ProgressSink, TotalProgress
from recordio.writer.convert.publication import Publication
from recordio.writer.convert.units import Unit
from recordio.writer.destination import refuse_parity
from recordio.writer.parity import objection as parity_objection

_SMALL_NBYTES = 64 << 20  # so much is made sooner than processes start
_WAY_ON = "what is finished is kept: run the same command again, and it goes on"


@dataclass(frozen=True, slots=True)
class EditReport:
    """What a merge, an append, a reshard or a split did.

    Attributes:
        destination: the path of the dataset.
        samples: how many it holds.
        shards: its shard files.
        nbytes: their length in all.
        copied: how many of its shards were taken over as they were.
        rewritten: how many of its shards were written anew.
        reused: how many of both an earlier, interrupted run had finished.
        done_before: whether all was there already, and nothing was done.
        notes: what was left out, or done beside, in words.
    """

    destination: str
    samples: int
    shards: int
    nbytes: int
    copied: int = 0
    rewritten: int = 0
    reused: int = 0
    done_before: bool = False
    notes: tuple[str, ...] = ()


def make_new(target: Publication, plan: EditPlan, overwrite: bool, progress: ProgressSink | None) -> EditReport:
    """Makes the dataset at `target`, if it is not there yet. Raises DatasetError if another one is."""
    with target.held(plan.digest):
        manifest = target.read(damaged=overwrite)
        objection = None if manifest is None else _objection(target, manifest, plan)
        if manifest is not None and objection is None:
            return report_of(target, manifest, plan.notes)
        if objection is not None and not overwrite:
            raise DatasetError(f"{objection}; overwrite=True (--overwrite) replaces it").at(file=target.location)
        return make(target, plan, overwrite, progress)


def _objection(target: Publication, manifest: Manifest, plan: EditPlan) -> str | None:
    """Why the dataset at the destination is not the one of the plan, None if it is."""
    if manifest.dataset_id != plan.dataset_id:
        return "there is another dataset here"
    if manifest.samples != sum(unit.samples for unit in plan.units):
        return "samples were added to the dataset here after it was made"
    return target.damage(manifest) or parity_objection(manifest, plan.parity)


def report_of(target: Publication, manifest: Manifest, notes: tuple[str, ...] = ()) -> EditReport:
    """Of a dataset that was there already."""
    nbytes = sum(shard.nbytes for shard in manifest.shards)
    return EditReport(target.location, manifest.samples, len(manifest.shards), nbytes, done_before=True, notes=notes)


def make(target: Publication, plan: EditPlan, overwrite: bool, progress: ProgressSink | None) -> EditReport:
    """Makes the units that an earlier run has not finished, and publishes. `target` is held."""
    refuse_parity(target, plan.parity)
    staging = target.open(plan.digest, overwrite)
    notes = {k: note for k in range(len(plan.units)) if (note := target.note(k))}
    kept = [Unit.of(k, note) for k, note in notes.items()]
    rest = [k for k in range(len(plan.units)) if k not in notes]
    total = TotalProgress(progress, sum(map(plan.samples, rest)))
    small = sum(plan.units[k].nbytes for k in rest) <= _SMALL_NBYTES
    work = replace(plan, workers=1) if plan.workers is None and small else plan
    try:
        made = target.finished(run_units(work, rest, staging, total if total.asked else None, target.finish))
    except RecordIOError as error:
        error.add_note(_WAY_ON)
        raise
    units = sorted(kept + made, key=lambda unit: unit.number)
    entries = [*plan.kept, *(unit.entry for unit in units)]
    made_anew = None if plan.kept else merged_json([unit.statistics for unit in units])
    metadata = {**plan.metadata, **plan.record}
    statistics = plan.statistics or made_anew
    manifest = Manifest(plan.dataset_id, plan.schema, metadata, entries, statistics, plan.parity)
    target.commit(manifest, units)
    copied = sum(isinstance(unit, Copied) for unit in plan.units)
    report = report_of(target, manifest, plan.notes)
    return replace(report, copied=copied, rewritten=len(plan.units) - copied, reused=len(kept), done_before=False)
