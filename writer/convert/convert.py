"""`recordio.convert`: what people have becomes a dataset.

Planned before it runs, worked off in units, committed once. Finished shards wait in DST/.convert, so a conversion that
was stopped goes on where it was; the manifest comes last, so nobody takes half of one for a dataset.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from recordio.errors import CorruptError, DatasetError, RecordIOError, SourceError
from recordio.format import strict_json
from recordio.format.manifest import FILE_NAME, Manifest
from recordio.writer.convert.engines import run_units
from recordio.writer.convert.plan import ConvertOptions, Plan, make_plan
from recordio.writer.convert.units import Skip, Unit, Workplace, finished_unit
from recordio.writer.publish import (
    PENDING,
    FolderLock,
    clear_remains,
    commit,
    read_manifest,
    storage_error,
    write_file,
)
from recordio.writer.shard_sink import shard_numbers
from recordio.writer.shard_writer import DEFAULT_BLOCK_BYTES, DEFAULT_SHARD_BYTES, WriteOptions
from recordio.writer.sources import SPLITS, SourceOptions, SourceSpec, open_source, splits
from recordio.writer.sources.times import as_of, way_changed_at

WAITING = ".convert"
_PLAN = "plan.json"
ProgressSink = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What a conversion did.

    Attributes:
        source: the path of what was converted.
        destination: the path of the dataset.
        kind: what the source was taken for, one of `recordio.writer.sources.KINDS`.
        samples: how many the dataset holds.
        shards: its shard files.
        nbytes: their length in all.
        skipped: (name, reason) of each sample that could not be read; empty unless on_error="skip".
        reused: how many shards an earlier, interrupted run had finished.
        done_before: whether the whole dataset was there already, and nothing was done.
        notes: what of the source is no part of any sample, in words.
    """

    source: str
    destination: str
    kind: str
    samples: int
    shards: int
    nbytes: int
    skipped: tuple[Skip, ...] = ()
    reused: int = 0
    done_before: bool = False
    notes: tuple[str, ...] = ()


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    kind: str | None = None,
    split: str | None = None,
    compression: str | None = "auto",
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    block_bytes: int = DEFAULT_BLOCK_BYTES,
    resize: int | tuple[int, int] | None = None,
    quality: int | None = None,
    shuffle: int | None = None,
    limit: int | None = None,
    on_error: str = "raise",
    workers: int | None = None,
    progress: ProgressSink | None = None,
    overwrite: bool = False,
    embed: str | Sequence[str] = (),
    check: bool = True,
) -> ConvertReport | dict[str, ConvertReport]:
    """Makes a dataset of a folder of images, a folder of files, a table, NumPy files, MNIST or CIFAR.

    The same input and options give the same bytes, whatever `workers` is. A conversion that was stopped goes on where
    it was when it is run again; one that is finished is left as it is. It counts as finished if names, sizes and
    options are the same and no file of the source was changed, nor a link or folder on the way to it replaced, since
    the source was listed: by ctime, not by modification time. The manifest's modification time says when that was. If
    the source lies on a file server, the server's clock is compared with the one here, and a change by another machine
    may be seen some seconds late. Another disk mounted in the source's place is not noticed.

    Args:
        source: the file or folder.
        destination: the folder of the dataset; it is made if need be.
        kind: what the source is, one of `recordio.writer.sources.KINDS`; None looks.
        split: makes this split alone, at `destination`. Without it a source with splits becomes one dataset each at
            destination/<split>.
        compression: None, "auto" (code what pays), "zstd" or "zstd:LEVEL".
        shard_bytes: about how many bytes of the source go into a shard.
        block_bytes: what a block aims at before coding: the unit of reading, checking and shuffling.
        resize: images are made smaller: an int is the shorter side in pixels, a pair the (height, width).
        quality: JPEG and WebP images are encoded anew with this quality, 1 to 100; a lossless WebP becomes lossy.
        shuffle: a seed from 0, by which the samples are mixed; None keeps the order of the names.
        limit: the first so many samples, after mixing, of each split.
        on_error: "raise" stops at a sample that cannot be read, "skip" leaves it out and lists it in the report.
        workers: processes; 0 and 1 are this one, None is one for each processor when there is more than one shard.
        progress: called as progress(samples done, samples in all).
        overwrite: replaces another dataset at the destination; it stays whole until the new one stands.
        embed: columns of a table that name files; the files' contents take the place of the names.
        check: decodes each image once, so that a broken one is found now; False trusts their first bytes.

    Returns:
        A report, or a dict of them by split when the source has splits and `split` is None.

    Raises:
        SourceError: the source, or a sample of it, cannot be read; the message names the file.
        DecodeError: an image is broken; the message names the file.
        DatasetError: the destination holds something else, or another writer is at work there.
        SchemaError: an argument does not fit.
        StorageError: the system refused; finished shards are kept, and the next run goes on.
    """
    write = WriteOptions(compression, shard_bytes, None, block_bytes)
    options = ConvertOptions(write, resize, quality, shuffle, limit, on_error, workers, overwrite, check)
    columns = (embed,) if isinstance(embed, str) else tuple(embed)
    specs = _specs(source, kind, split, columns)
    target = Path(destination)
    _refuse_target(target, list(specs))
    jobs = {name: _Job(spec, target / name if name else target, options) for name, spec in specs.items()}
    sink = _Total(progress, [len(job.plan.order) for job in jobs.values()]) if progress else None
    reports = {name: job.run(sink) for name, job in jobs.items()}
    return reports.get("", reports)


def _specs(
    source: str | os.PathLike[str], kind: str | None, split: str | None, embed: tuple[str, ...]
) -> dict[str, SourceSpec]:
    """The sources to convert by the name of the folder they go to, "" for the destination itself."""
    found = splits(source, kind, embed)
    if split is None:
        return found or {"": SourceSpec(os.fspath(source), kind or "", SourceOptions(embed=embed))}
    if split not in found:
        known = f"there are {', '.join(found)}" if found else "it has no splits"
        raise SourceError(f"there is no split {split!r}: {known}").at(file=os.fspath(source))
    return {"": found[split]}


def _refuse_target(target: Path, names: list[str]) -> None:
    """A folder is a dataset or holds datasets, never both."""
    if target.exists() and not target.is_dir():
        raise DatasetError("the destination is not a folder").at(file=str(target))
    if names != [""] and (target / FILE_NAME).exists():
        text = f"there is a dataset here, so its splits {', '.join(names)} cannot be; choose another folder"
        raise DatasetError(text).at(file=str(target))
    taken = [split for split in SPLITS if names == [""] and (target / split / FILE_NAME).exists()]
    if taken:
        text = f"there are datasets in this folder ({', '.join(taken)}), so it cannot be one; choose another"
        raise DatasetError(text).at(file=str(target))


class _Total:
    """One count of samples over all the splits."""

    def __init__(self, progress: ProgressSink, samples: list[int]) -> None:
        self._progress, self._total, self._before = progress, sum(samples), 0

    def at(self, done: int) -> None:
        self._progress(self._before + done, self._total)

    def finish(self, samples: int) -> None:
        self._before += samples
        self._progress(self._before, self._total)


class _Job:
    """One source on its way to one dataset. Making it opens the source and plans the work; nothing is written yet."""

    def __init__(self, spec: SourceSpec, target: Path, options: ConvertOptions) -> None:
        self._target = target
        self._refuse_nesting(spec.path)
        listed = time.time_ns()
        source = open_source(spec.path, spec.kind or None, spec.options)
        self._path, self._notes = spec.path, (*spec.notes, *source.notes)
        self.plan = make_plan(source, options)
        # What leads to the dataset as well as to the source may be renamed with both in it.
        self._changed = max(source.fingerprint().newest, way_changed_at(spec.path, os.fspath(target)))
        self._as_of = as_of(listed, self._changed)

    def _refuse_nesting(self, source: str) -> None:
        inside = os.path.realpath(self._target)
        if os.path.isdir(source) and os.path.commonpath([os.path.realpath(source), inside]) == os.path.realpath(source):
            raise DatasetError("the destination lies in the source").at(file=str(self._target))

    def run(self, progress: _Total | None) -> ConvertReport:
        """Makes the dataset, as far as it is not there yet."""
        with FolderLock(self._target):
            if self.plan.options.overwrite:
                _clear_corrupt_manifest(self._target)
            _take_back(self._target, self.plan)
            clear_remains(self._target)
            report = self._done_before() or self._make(progress)
            shutil.rmtree(self._target / WAITING, ignore_errors=True)
        if progress:
            progress.finish(len(self.plan.order))
        return report

    def _done_before(self) -> ConvertReport | None:
        """The report of a dataset that is there already, None when it is to be made. Raises DatasetError."""
        manifest = read_manifest(self._target)
        if manifest is None:
            return None
        objection = self._objection(manifest)
        if objection is None:
            return self._report(manifest, [], done_before=True)
        if not self.plan.options.overwrite:
            raise DatasetError(f"{objection}; overwrite=True (--overwrite) makes it anew").at(file=str(self._target))
        return None

    def _objection(self, manifest: Manifest) -> str | None:
        """Why the dataset at the destination is not what this conversion would make, None if it is."""
        if manifest.dataset_id != self.plan.dataset_id:
            return "there is another dataset here, from another source or with other options"
        if manifest.samples > len(self.plan.order):
            return "samples were added to the dataset here after it was made from this source"
        if self._changed > (self._target / FILE_NAME).stat().st_mtime_ns:
            return "the source was changed, moved or replaced after this dataset was made from it"
        for shard in manifest.shards:
            path = self._target / shard.name
            if not path.is_file() or path.stat().st_size != shard.nbytes:
                return f"the dataset here is damaged: {shard.name} is missing or of the wrong length"
        return None

    def _make(self, progress: _Total | None) -> ConvertReport:
        place, notes = self._workplace()
        kept = [unit for k in range(self.plan.units) if (unit := finished_unit(self.plan, k, place))]
        before = sum(len(self.plan.indices(unit.number)) for unit in kept)
        rest = sorted(set(range(self.plan.units)) - {unit.number for unit in kept})
        report = None if progress is None else lambda done: progress.at(before + done)
        made = run_units(self.plan, rest, place, report)
        units = sorted(kept + made, key=lambda unit: unit.number)
        manifest = self._commit(units, place)
        return self._report(manifest, units, reused=len(kept), notes=notes)

    def _workplace(self) -> tuple[Workplace, tuple[str, ...]]:
        """Where the shards wait: as an earlier run of the same plan left it, or new."""
        folder = self._target / WAITING
        numbers = shard_numbers(self._target)
        if not self.plan.options.overwrite and numbers:
            text = (
                f"there are shards here but no {FILE_NAME}; move them away, or use overwrite=True to leave them aside"
            )
            raise DatasetError(text).at(file=str(self._target))
        first = _waiting_since(folder, self.plan.digest)
        if first is not None and first > max(numbers, default=-1):
            return Workplace(folder, first), ()
        notes = ("an unfinished conversion of something else was dropped",) if folder.exists() else ()
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        except OSError as error:
            raise storage_error("make the folder", folder, error) from error
        first = 1 + max(numbers, default=-1)
        write_file(folder / _PLAN, b'{"digest": "%b", "first": %d}\n' % (self.plan.digest.hex().encode(), first))
        return Workplace(folder, first), notes

    def _commit(self, units: list[Unit], place: Workplace) -> Manifest:
        full = [unit for unit in units if unit.entry.samples]
        if not full:
            name, reason = units[0].skipped[0]
            count = len(self.plan.order)
            raise SourceError(f"none of the {count} samples can be read; the first: {reason}").at(file=name)
        plan = self.plan
        manifest = Manifest(plan.dataset_id, plan.source.schema, plan.source.metadata, [unit.entry for unit in full])
        commit(self._target, manifest, {place.shard(unit.number): unit.entry.name for unit in full}, self._as_of)
        return manifest

    def _report(
        self,
        manifest: Manifest,
        units: list[Unit],
        *,
        reused: int = 0,
        done_before: bool = False,
        notes: tuple[str, ...] = (),
    ) -> ConvertReport:
        missing = len(self.plan.order) - manifest.samples
        if done_before and missing:
            notes = (f"{missing} samples were skipped when it was made",)
        return ConvertReport(
            source=self._path,
            destination=str(self._target),
            kind=self.plan.source.kind,
            samples=manifest.samples,
            shards=len(manifest.shards),
            nbytes=sum(shard.nbytes for shard in manifest.shards),
            skipped=tuple(skip for unit in units for skip in unit.skipped),
            reused=reused,
            done_before=done_before,
            notes=(*self._notes, *notes),
        )


def _clear_corrupt_manifest(folder: Path) -> None:
    """A manifest that no reader takes would stand in the way of the new one; all that it said is in the shards."""
    try:
        read_manifest(folder)
    except CorruptError:
        (folder / FILE_NAME).unlink()


def _waiting_since(folder: Path, digest: bytes) -> int | None:
    """The number of the first shard that an earlier run of the plan was making, None if there was none."""
    try:
        plan = strict_json.loads((folder / _PLAN).read_bytes(), "plan")
    except (OSError, CorruptError):
        return None
    same = isinstance(plan, dict) and plan.get("digest") == digest.hex() and isinstance(plan.get("first"), int)
    return plan["first"] if same else None


def _take_back(target: Path, plan: Plan) -> None:
    """Shards that were on their way into the dataset when the committer died wait again, instead of being lost."""
    pending = None
    with suppress(RecordIOError):
        pending = read_manifest(target, PENDING)
    if pending is None or pending.dataset_id != plan.dataset_id or not (target / WAITING / _PLAN).exists():
        return
    published = None
    with suppress(RecordIOError):
        published = read_manifest(target)
    kept = {shard.name for shard in published.shards} if published else set()
    for shard in pending.shards:
        if shard.name not in kept and (target / shard.name).exists():
            try:
                os.replace(target / shard.name, target / WAITING / shard.name)
            except OSError as error:
                raise storage_error("rename", target / shard.name, error) from error
