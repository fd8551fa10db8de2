"""A digest of every sample, of the bytes that its values have in a page: on both sides, in any process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import xxhash

from recordio.format.schema import Schema
from recordio.reader.dataset import ShardDataset
from recordio.reader.stored import chunk_indices, stored_columns
from recordio.writer.convert.staging import Staging
from recordio.writer.convert.units import PlanUnits, Prepared, Report, Skip
from recordio.writer.packing import Column, Packer, fixed_nbytes

_CHUNK_NBYTES = 16 << 20
_UNIT_NBYTES = 128 << 20
Digest = bytes  # XXH3-128, 16 bytes


def sample_digest(values: Sequence[bytes | memoryview | None]) -> Digest:
    """Of the packed values of a sample, in order. Equal digests mean equal values."""
    parts: list[bytes | memoryview] = []
    for value in values:
        parts += [b"\0" * 8] if value is None else [(len(value) + 1).to_bytes(8, "little"), value]
    return xxhash.xxh3_128_digest(b"".join(parts))


@dataclass(frozen=True, slots=True)
class UnitDigests:
    """The digests of the samples of a unit, in order; of a source, (name, reason) of what cannot be read, too."""

    digests: list[Digest]
    skipped: tuple[Skip, ...] = ()


class SourceWork(PlanUnits):
    """The samples that a conversion would make, unit by unit, for an engine."""

    def prepared(self, unit: int, report: Report, threads: int = 1) -> Prepared:
        """The samples of a unit as they are stored."""
        options = replace(self.plan.options, on_error="skip")
        indices = self.plan.indices(unit).tolist()
        return Prepared(self.plan.source, options, indices, report, strict=True, threads=threads)

    def make(self, unit: int, staging: Staging, report: Report, threads: int) -> UnitDigests:
        samples, pack = self.prepared(unit, report, threads), Packer(self.plan.source.schema).pack
        return UnitDigests([sample_digest(pack(sample)) for sample in samples], tuple(samples.skipped))


@dataclass(frozen=True)
class DatasetWork:
    """The samples of a dataset, unit by unit, for an engine. Unit k is from `cuts[k]` to `cuts[k + 1]` - 1."""

    dataset: ShardDataset
    cuts: Sequence[int]
    workers: int | None = None

    @classmethod
    def of(cls, dataset: ShardDataset, workers: int | None) -> DatasetWork:
        samples = len(dataset)
        units = max(1, min(samples, -(-dataset.store.content_nbytes // _UNIT_NBYTES)))
        return cls(dataset, [samples * k // units for k in range(units + 1)], workers)

    def samples(self, unit: int) -> int:
        return self.cuts[unit + 1] - self.cuts[unit]

    def make(self, unit: int, staging: Staging, report: Report, threads: int) -> UnitDigests:
        found: list[Digest] = []
        for indices in chunk_indices(self.dataset, _CHUNK_NBYTES, start=self.cuts[unit], stop=self.cuts[unit + 1]):
            found += map(sample_digest, packed_rows(self.dataset.schema, stored_columns(self.dataset, indices)))
            report(len(found))
        return UnitDigests(found)


def packed_rows(schema: Schema, columns: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """The packed values of each sample of some columns, in the order of the schema."""
    samples, packed = Packer(schema).pack_columns(columns)
    fields = zip(packed, schema.values(), strict=True)
    return zip(*(_values(column, fixed_nbytes(kind), samples) for column, kind in fields), strict=True)


def _values(column: Column, nbytes: int | None, samples: int) -> Sequence[Any]:
    if not isinstance(column, memoryview):
        return column
    if not nbytes:
        return [b""] * samples
    return [column[begin:end] for begin, end in pairwise(range(0, (samples + 1) * nbytes, nbytes))]
