"""Peers that store rows of bytes and leave their meaning to the caller: Bagz, ArrayRecord, Grain.

The rows are samples as msgpack, in four files. Collating them is Python's work, a sample at a time.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgpack
import numpy as np
from contender import EPOCH_SEED, Batches, Contender, Indices, collate, cut
from workloads import Kinds, Sample

SHARDS = 4


def portions(samples: Sequence[Sample]) -> Iterator[tuple[int, Sequence[Sample]]]:
    """The samples in four parts, for contenders that leave the cutting into files to the caller."""
    size = -(-len(samples) // SHARDS)
    for number in range(SHARDS):
        yield number, samples[number * size : (number + 1) * size]


class RowCoder:
    """Samples as msgpack, for contenders that store rows of bytes."""

    def __init__(self, kinds: Kinds) -> None:
        self.arrays = {name: kind for name, kind in kinds.items() if kind.name == "array"}

    def encode(self, sample: Sample) -> bytes:
        packed: bytes = msgpack.packb(
            {name: value.tobytes() if name in self.arrays else value for name, value in sample.items()}
        )
        return packed

    def decode(self, row: bytes) -> Sample:
        sample: Sample = msgpack.unpackb(row)
        for name, kind in self.arrays.items():
            sample[name] = np.frombuffer(sample[name], kind.dtype).reshape(kind.shape)
        return sample


class Bagz(Contender):
    packages = modules = ("bagz",)
    worker_kinds = ("process",)
    suffix: ClassVar[str] = ".bag"

    def __init__(self, folder: Path, kinds: Kinds) -> None:
        super().__init__(folder, kinds)
        self.encode = RowCoder(kinds).encode

    def write(self, samples: Sequence[Sample]) -> None:
        import bagz

        self.folder.mkdir(parents=True)
        encode = self.encode
        for number, part in portions(samples):
            with bagz.Writer(f"{self.folder}/s-{number:05d}-of-{SHARDS:05d}{self.suffix}") as writer:
                for sample in part:
                    writer.write(encode(sample))

    def open(self) -> None:
        import bagz

        self.rows = bagz.Reader(f"{self.folder}/s@{SHARDS}{self.suffix}")
        self.samples, self.decode = len(self.rows), RowCoder(self.kinds).decode

    def sequential(self, size: int) -> Batches:
        runs = ((start, min(size, self.samples - start)) for start in range(0, self.samples, size))
        return (collate([self.decode(row) for row in self.rows.read_range(*run)]) for run in runs)

    def batches(self, indices: Iterable[Indices]) -> Batches:
        # One by one: read_indices starts threads at every call, which is ten times slower on two CPUs.
        return (collate([self.decode(self.rows[i]) for i in chosen.tolist()]) for chosen in indices)

    def one(self, index: int) -> Sample:
        return self.decode(self.rows[index])


class BagzZstd(Bagz):
    suffix = ".bagz"
    compressed = True


class BagzFsync(Bagz):
    """Its files made durable after they are written, as recordio's are."""

    durable = True
    measures = ("write",)

    def write(self, samples: Sequence[Sample]) -> None:
        super().write(samples)
        sync_folder(self.folder)


def sync_folder(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


class ArrayRecord(Contender):
    packages, modules = ("array-record",), ("array_record",)
    compressed = True
    group: ClassVar[int] = 1

    def write(self, samples: Sequence[Sample]) -> None:
        from array_record.python.array_record_module import ArrayRecordWriter

        encode = RowCoder(self.kinds).encode
        self.folder.mkdir(parents=True)
        for number, part in portions(samples):
            writer = ArrayRecordWriter(f"{self.folder}/s-{number:03d}.arrayrecord", f"group_size:{self.group}")
            for sample in part:
                writer.write(encode(sample))
            writer.close()

    def source(self) -> Any:
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        return ArrayRecordDataSource(sorted(glob.glob(f"{self.folder}/*.arrayrecord")))

    def open(self) -> None:
        self.rows, self.decode = self.source(), RowCoder(self.kinds).decode
        self.samples = len(self.rows)

    def sequential(self, size: int) -> Batches:
        return self.batches(cut(np.arange(self.samples), size))

    def batches(self, indices: Iterable[Indices]) -> Batches:
        return (collate([self.decode(r) for r in self.rows.__getitems__(i.tolist())]) for i in indices)

    def one(self, index: int) -> Sample:
        return self.decode(self.rows[index])


class ArrayRecord64(ArrayRecord):
    group = 64


class Grain(ArrayRecord):
    """ArrayRecord through Grain's own pipeline, with two threads."""

    packages, modules = ("grain", "array-record"), ("grain", "array_record")
    measures = ("sequential", "shuffled")
    slow = True

    def _epoch(self, size: int, shuffle: bool) -> Batches:
        import grain

        dataset = grain.MapDataset.source(self.source())
        dataset = dataset.shuffle(seed=EPOCH_SEED) if shuffle else dataset
        dataset = dataset.map(self.decode).batch(size, batch_fn=collate)
        return dataset.to_iter_dataset(grain.ReadOptions(num_threads=2))

    def sequential(self, size: int) -> Batches:
        return self._epoch(size, False)

    def shuffled(self, size: int) -> Batches:
        return self._epoch(size, True)
