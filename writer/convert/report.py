"""What a conversion is going to do, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recordio.format.schema import Schema
from recordio.writer.convert.job import ConvertJob, Outcome
from recordio.writer.convert.units import Skip

if TYPE_CHECKING:
    from recordio.writer.convert.stream import StreamJob


@dataclass(frozen=True, slots=True)
class ConvertPlan:
    """What a source was taken for, before any of it is converted.

    Attributes:
        source: the path of what is to be converted, or a Python object in words: "list of 1000 inputs".
        destination: the path of the dataset.
        kind: what the source was taken for, one of `recordio.writer.sources.KINDS`, or "python".
        samples: how many it has; with `fn`, the inputs; None for an iterable.
        classes: the names of its classes, where it has any.
        notes: what of the source is no part of any sample, and what was guessed, in words.
        schema: the fields of the dataset.
        shards: how many it will have; fewer if all samples of one cannot be read. None for an iterable.
        job: what carries it out.
    """

    source: str
    destination: str
    kind: str
    samples: int | None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    schema: Schema | None = None
    shards: int | None = None
    job: ConvertJob | StreamJob | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, job: ConvertJob | StreamJob) -> ConvertPlan:
        source = job.source
        return cls(
            source=job.source_path,
            destination=job.publication.location,
            kind=source.kind,
            samples=job.inputs,
            classes=tuple(source.metadata.get("classes", ())),
            notes=job.notes,
            schema=source.schema,
            shards=job.plan.units if isinstance(job, ConvertJob) else None,
            job=job,
        )

    @property
    def nbytes(self) -> int | None:
        """About how many bytes the dataset will take, before compression and resizing; None for an iterable."""
        if not isinstance(self.job, ConvertJob):
            return None
        plan = self.job.plan
        return int(plan.source.nbytes()[plan.order].sum())


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What a conversion did.

    Attributes:
        source: the path of what was converted, or a Python object in words.
        destination: the path of the dataset.
        kind: what the source was taken for, one of `recordio.writer.sources.KINDS`, or "python".
        samples: how many the dataset holds.
        shards: its shard files.
        nbytes: their length in all.
        skipped: (name, reason) of each sample that could not be read; empty unless on_error="skip". The dataset keeps
            the first 1,000 in its metadata, under "conversion", as it does `notes` and what else a reader must know.
        dropped: how many inputs `fn` made no sample of.
        reused: how many shards an earlier, interrupted run had finished.
        made: how many samples this run has made; those of reused shards do not count.
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
    dropped: int = 0
    reused: int = 0
    made: int = 0
    done_before: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, job: ConvertJob | StreamJob, outcome: Outcome) -> ConvertReport:
        return cls(
            source=job.source_path,
            destination=job.publication.location,
            kind=job.source.kind,
            samples=outcome.manifest.samples,
            shards=len(outcome.manifest.shards),
            nbytes=sum(shard.nbytes for shard in outcome.manifest.shards),
            skipped=outcome.skipped,
            dropped=outcome.dropped,
            reused=outcome.reused,
            made=outcome.made,
            done_before=outcome.done_before,
            notes=outcome.notes,
        )
