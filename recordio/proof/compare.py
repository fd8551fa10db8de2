"""`recordio.compare`: whether every sample of a dataset is what its source holds."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recordio.arguments import describe, folder_path, integer
from recordio.edit.sources import SOURCES, conversion_of, open_source
from recordio.errors import DatasetError, SchemaError
from recordio.format.manifest import FILE_NAME
from recordio.format.schema import Schema
from recordio.proof.digests import DatasetWork, Digest, SourceWork, UnitDigests
from recordio.proof.report import Comparison, Difference
from recordio.reader.dataset import ShardDataset
from recordio.reader.stored import stored_columns
from recordio.writer.convert.convert import ConvertPlan, convert
from recordio.writer.convert.engines import run_units
from recordio.writer.convert.job import ConvertJob
from recordio.writer.convert.plan import Plan
from recordio.writer.convert.progress import ProgressSink, TotalProgress
from recordio.writer.convert.record import KEY, MOST_TEXT, RECORDED_OPTIONS, recorded
from recordio.writer.convert.staging import Staging
from recordio.writer.convert.units import Skip
from recordio.writer.packing import Packer
from recordio.writer.sources.archives.archive_paths import forget_archives

_NOWHERE = Staging(Path(os.devnull))  # nothing is staged


def compare(
    path: str | os.PathLike[str],
    source: Any,
    *,
    differences: int = 10,
    workers: int | None = None,
    progress: ProgressSink | None = None,
    **options: Any,
) -> Comparison | dict[str, Comparison]:
    """Compares every sample of a converted dataset with what `recordio.convert` would make of its source now.

        recordio.compare("photos.rio", "photos/").ok

    The source is opened with the options that the dataset keeps of its conversion: kind, shuffle, limit, resize and so
    on. Pictures that were resized or recoded are made again. Each value has to have the same bytes, in the same order.
    Inputs that were skipped then and still cannot be read are no difference.

    Args:
        path: the dataset's folder, or one of splits, each of which is compared with its split of the source.
        source: what it was made of: a path or a Python object, as for `recordio.convert`.
        differences: how many differences are described; all are counted.
        workers: processes; 0 and 1 are this one, None is one for each processor if there is enough to do.
        progress: called as progress(samples done, samples to do), those of both sides.
        options: options of `recordio.convert` in place of those that were kept. `fn`, `schema`, `root` and `tokenizer`
            are never kept, and have to be given again.

    Returns:
        A Comparison, or a dict of them by split.

    Raises:
        DatasetError: there is no dataset, or it was made of other datasets.
        SourceError: the source cannot be opened.
        SchemaError: an option does not fit, or has to be given again.
        CorruptError: the dataset is damaged; `recordio.verify` says where.
    """
    integer("differences", differences, 0)
    folder = folder_path("path", path)
    splits = _splits(folder)
    found = {}
    for split in splits or [""]:
        dataset = open_source(os.path.join(folder, split))
        given = ({"split": split} if split else {}) | options | {"workers": workers}
        try:
            found[split] = _compared(dataset, _plan(dataset, source, given), differences, progress)
        finally:
            forget_archives()
    return found if splits else found[""]


def _splits(folder: str) -> list[str]:
    """The names of the splits in a folder; none if it is a dataset itself."""
    if os.path.lexists(os.path.join(folder, FILE_NAME)) or not os.path.isdir(folder):
        return []
    return sorted(name for name in os.listdir(folder) if os.path.isfile(os.path.join(folder, name, FILE_NAME)))


def _plan(dataset: ShardDataset, source: Any, given: Mapping[str, Any]) -> Plan:
    """The plan of the conversion that has made the dataset, of the source as it is now."""
    record = conversion_of(dataset.metadata)
    if SOURCES in record:
        raise DatasetError(f"{dataset!r} was made of other datasets: compare each of those with its source")
    options, lacking = _options(record)
    again = [name for name in lacking if given.get(name) is None]
    if again:
        raise SchemaError(
            f"the dataset was made with {' and '.join(again)}, which it does not keep: give "
            + ", ".join(f"{name}=" for name in again)
        )
    nowhere = dataset.store.storage.folder / "compared"  # type: ignore[attr-defined]
    plan: Any = convert(source, nowhere, **{**options, **given}, on_error="skip", dry_run=True)
    if not isinstance(plan, ConvertPlan):
        raise SchemaError(f"the source has splits, and this is one dataset: give split=, one of {', '.join(plan)}")
    if not isinstance(plan.job, ConvertJob):
        raise SchemaError("an iterable is read once: give a list, or a dataset with len() and [i], to compare with")
    return plan.job.plan


def _options(record: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The options that a record keeps, and the names of those that it does not. A stranger's may hold anything."""
    asked = record.get("options")
    asked = asked if isinstance(asked, dict) else {}
    options = {name: asked[name] for name in RECORDED_OPTIONS if name in asked}
    options |= {name: record[name] for name in ("check", "resize", "quality") if name in record}
    lacking = asked.get("not_recorded")
    return options, [str(name) for name in lacking] if isinstance(lacking, list) else []


def _compared(dataset: ShardDataset, plan: Plan, most: int, progress: ProgressSink | None) -> Comparison:
    folder = os.fspath(dataset.store.storage.folder)  # type: ignore[attr-defined]
    unlike = list(_unlike(dataset, plan))
    if unlike:
        return Comparison(folder, plan.source.kind, differences=tuple(unlike))
    work, own = SourceWork(plan), DatasetWork.of(dataset, plan.options.workers)
    total = TotalProgress(progress, len(plan.order) + len(dataset))
    there = run_units(work, range(plan.units), _NOWHERE, total if total.asked else None)
    total.finish(len(plan.order))
    here = run_units(own, range(len(own.cuts) - 1), _NOWHERE, total if total.asked else None)
    total.finish(len(dataset))
    return _Sides(dataset, work, there, [one for unit in here for one in unit.digests]).comparison(folder, most)


def _unlike(dataset: ShardDataset, plan: Plan) -> Iterator[Difference]:
    """What differs before any sample is looked at."""
    if dataset.schema != plan.source.schema:
        yield Difference("fields", fields={"": (_kinds(dataset.schema), _kinds(plan.source.schema))})
    for name, value in plan.source.metadata.items():
        if name != KEY and dataset.metadata.get(name) != value:
            yield Difference("metadata", fields={name: (describe(dataset.metadata.get(name)), describe(value))})


class _Sides:
    """The digests of both sides."""

    def __init__(self, dataset: ShardDataset, work: SourceWork, there: list[UnitDigests], here: list[Digest]) -> None:
        self._dataset = dataset
        self._work = work
        self._units = there
        self._here = here
        self._there = [one for unit in there for one in unit.digests]

    def comparison(self, folder: str, most: int) -> Comparison:
        missing, additional = self._apart()
        unlike = [k for k, (a, b) in enumerate(zip(self._here, self._there, strict=False)) if a != b]
        unread = self._unread()
        paired = len(self._here) == len(self._there) and unlike == missing == additional
        found: list[Difference] = []
        if paired:
            found += self._changed(unlike[:most])
        else:
            found += self._named("missing", missing[:most])
            found += [Difference("additional", sample=k) for k in additional[: most - len(found)]]
        found += [Difference("unreadable", source=name, reason=reason) for name, reason in unread[: most - len(found)]]
        return Comparison(
            path=folder,
            kind=self._work.plan.source.kind,
            samples=len(self._here),
            changed=len(unlike) if paired else 0,
            missing=0 if paired else len(missing),
            additional=0 if paired else len(additional),
            unreadable=len(unread),
            reordered=bool(unlike) and not missing and not additional,
            differences=tuple(found),
        )

    def _apart(self) -> tuple[list[int], list[int]]:
        """The samples that are in the source alone, and those that are in the dataset alone."""
        if self._here == self._there:
            return [], []
        return _without(self._there, Counter(self._here)), _without(self._here, Counter(self._there))

    def _unread(self) -> list[Skip]:
        """The inputs that cannot be read, and that the dataset does not say were skipped: it lists the first alone."""
        said = recorded(self._dataset.metadata)
        listed = {name for name, _ in said.skips}
        found = [skip for unit in self._units for skip in unit.skipped]
        unlisted = [skip for skip in found if skip[0][:MOST_TEXT] not in listed]
        return unlisted[max(said.skipped - len(said.skips), 0) :]

    def _changed(self, numbers: Sequence[int]) -> list[Difference]:
        found = []
        pack = Packer(self._dataset.schema).pack
        for number, key, there in self._source_samples(numbers):
            here = {name: values[0] for name, values in stored_columns(self._dataset, np.array([number])).items()}
            pairs = zip(self._dataset.schema, pack(here), pack(there), strict=True)
            fields = {name: (_shown(here[name]), _shown(there.get(name))) for name, a, b in pairs if a != b}
            found.append(Difference("changed", number, key, fields))
        return found

    def _named(self, kind: str, numbers: Sequence[int]) -> list[Difference]:
        return [Difference(kind, source=key) for _, key, _ in self._source_samples(numbers)]

    def _source_samples(self, numbers: Sequence[int]) -> Iterator[tuple[int, str, Any]]:
        """Number, name and values of these samples of the source, ascending, which is read again for them."""
        wanted, first = set(numbers), 0
        for unit, made in enumerate(self._units):
            end = first + len(made.digests)
            if any(first <= number < end for number in wanted):
                samples = self._work.prepared(unit, lambda done: None)
                for number, sample in enumerate(samples, first):
                    if number in wanted:
                        yield number, samples.key, sample
            first = end


def _kinds(schema: Schema) -> str:
    return ", ".join(f"{name}: {kind}{' (optional)' if kind.optional else ''}" for name, kind in schema.items())


def _without(digests: Sequence[Digest], others: Counter[Digest]) -> list[int]:
    """The numbers of the digests that are not among the others, each of which stands for one."""
    left = []
    for number, one in enumerate(digests):
        others[one] -= 1
        if others[one] < 0:
            left.append(number)
    return left


def _shown(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value):,} bytes"
    return describe(value.item() if isinstance(value, np.generic) else value)
