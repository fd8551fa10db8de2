"""All contenders: this library, the limit, and the peers, each used as its documentation recommends.

python benchmarks/contenders.py [--json]        which of them are installed here
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

import numpy as np
from contender import Batches, CannotHoldError, Contender, Indices, Map
from measuring import Row, show
from record_files import ArrayRecord, ArrayRecord64, Bagz, BagzFsync, BagzZstd, Grain
from sample_streams import LitData, LitDataZstd, Mds, WebDataset
from tables import HuggingFace, Lance
from workloads import Sample, as_columns, raw_nbytes


class Recordio(Contender):
    """This library; plain pages."""

    role = "ours"
    packages, modules = ("recordio-shards",), ("recordio",)
    durable = True
    worker_kinds = ("thread", "process")
    compression: ClassVar[str | None] = None

    def write(self, samples: Sequence[Sample]) -> None:
        import recordio

        with recordio.DatasetWriter(self.folder, compression=self.compression) as writer:
            for sample in samples:
                writer.write(sample)

    def open(self) -> None:
        import recordio

        self.loader = recordio.DataLoader
        self.dataset = recordio.ShardDataset(self.folder)
        self.samples = len(self.dataset)

    def sequential(self, size: int) -> Batches:
        return self.loader(self.dataset, batch_size=size)

    def shuffled(self, size: int) -> Batches:
        return self.loader(self.dataset, batch_size=size, shuffle=True)

    def batches(self, indices: Iterable[Indices]) -> Batches:
        return (self.dataset.take(chosen) for chosen in indices)

    def one(self, index: int) -> Sample:
        sample: Sample = self.dataset[index]
        return sample

    def with_workers(self, size: int, workers: int, kind: str, function: Map) -> Batches:
        options = {"worker_type": kind, "persistent_workers": True} if workers else {}
        return self.loader(self.dataset.map(function), size, shuffle=True, num_workers=workers, **options)


class RecordioZstd(Recordio):
    """This library; pages coded with zstd."""

    compression = "zstd"
    compressed = True


class RecordioAuto(Recordio):
    """This library with its defaults: pages coded where that pays."""

    compression = "auto"


class RecordioRagged(Recordio):
    """This library; plain pages, text and bytes as values and offsets, copied into the batch."""

    def open(self) -> None:
        super().open()
        self.dataset = self.dataset.ragged()

    def sequential(self, size: int) -> Batches:
        return map(self.used, super().sequential(size))

    def shuffled(self, size: int) -> Batches:
        return map(self.used, super().shuffled(size))

    def batches(self, indices: Iterable[Indices]) -> Batches:
        return map(self.used, super().batches(indices))

    def used(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch, once its values have been copied."""
        for name, column in batch.items():
            if self.is_read(name) and hasattr(column, "offsets"):
                assert len(column.values) == column.offsets[-1]
        return batch

    def is_read(self, name: str) -> bool:
        return True


class RecordioViews(RecordioRagged):
    """The same, where bytes stay memoryviews of the files."""

    def is_read(self, name: str) -> bool:
        return self.kinds[name].name != "bytes"


class RecordioRaggedZstd(RecordioRagged):
    """The same, copied; pages coded with zstd."""

    compression = "zstd"
    compressed = True


@contextlib.contextmanager
def without_fsync() -> Iterator[None]:
    """Disables fsync, to measure the cost of durability."""
    kept = os.fsync
    os.fsync = lambda fd: None
    try:
        yield
    finally:
        os.fsync = kept


class RecordioNoFsync(Recordio):
    """Plain pages without fsync, to compare with contenders that never call it."""

    durable = False
    measures = ("write",)

    def write(self, samples: Sequence[Sample]) -> None:
        with without_fsync():
            super().write(samples)


class RecordioBatch(Recordio):
    """Plain pages, written from columns."""

    measures = ("write",)

    def prepared(self, samples: Sequence[Sample]) -> Any:
        return as_columns(samples)

    def write(self, samples: Any) -> None:
        import recordio

        with recordio.DatasetWriter(self.folder, compression=None) as writer:
            writer.write_batch(samples)


class RecordioBatchNoFsync(RecordioBatch):
    """The same without fsync."""

    durable = False

    def write(self, samples: Any) -> None:
        with without_fsync():
            super().write(samples)


class OneWrite(Contender):
    """The limit of writing: as many bytes as the data has, by one call, made durable."""

    role = "limit"
    packages = ("numpy",)
    measures = ("write",)

    def prepared(self, samples: Sequence[Sample]) -> Any:
        return bytes(raw_nbytes(samples))

    def write(self, samples: Any) -> None:
        self.folder.mkdir(parents=True)
        with open(self.folder / "data", "wb", buffering=0) as file:
            file.write(samples)
            os.fsync(file.fileno())


class Memmap(Contender):
    """The limit for fixed-size fields: a memory-mapped .npy file per field. No checksums, no variable sizes."""

    role = "limit"
    packages = ("numpy",)

    def write(self, samples: Sequence[Sample]) -> None:
        self.folder.mkdir(parents=True)
        for name, kind in self.kinds.items():
            values = [sample[name] for sample in samples]
            if kind.name in ("str", "bytes") and len(set(map(len, values))) > 1:
                raise CannotHoldError("values of different sizes")
            np.save(self.folder / f"{name}.npy", np.stack(values) if kind.name == "array" else np.array(values))

    def open(self) -> None:
        self.columns = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in self.kinds}
        self.samples = len(next(iter(self.columns.values())))

    def sequential(self, size: int) -> Batches:
        starts = range(0, self.samples, size)
        return ({name: np.array(c[start : start + size]) for name, c in self.columns.items()} for start in starts)

    def batches(self, indices: Iterable[Indices]) -> Batches:
        return ({name: column[chosen] for name, column in self.columns.items()} for chosen in indices)

    def one(self, index: int) -> Sample:
        return {name: column[index] for name, column in self.columns.items()}


ALL: dict[str, type[Contender]] = {
    "recordio_plain": Recordio,
    "recordio_auto": RecordioAuto,
    "recordio_zstd": RecordioZstd,
    "recordio_plain (ragged)": RecordioRagged,
    "recordio_plain (views)": RecordioViews,
    "recordio_zstd (ragged)": RecordioRaggedZstd,
    "recordio_plain (no fsync)": RecordioNoFsync,
    "recordio_plain, write_batch": RecordioBatch,
    "recordio_plain, write_batch (no fsync)": RecordioBatchNoFsync,
    "one write + fsync (limit)": OneWrite,
    "np.memmap (limit)": Memmap,
    "bagz": Bagz,
    "bagz + fsync": BagzFsync,
    "bagz_zstd": BagzZstd,
    "litdata": LitData,
    "litdata_zstd": LitDataZstd,
    "array_record": ArrayRecord,
    "array_record_64": ArrayRecord64,
    "grain": Grain,
    "hf datasets": HuggingFace,
    "lance": Lance,
    "webdataset": WebDataset,
    "mds": Mds,
}


def installed_versions(contender: type[Contender]) -> str:
    return ", ".join(map(versioned, contender.packages)) if contender.installed() else "not installed"


def versioned(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:  # importable, but not installed by pip
        return package


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    rows: list[Row] = [
        {"contender": name, "version": installed_versions(contender), "measures": ", ".join(contender.measures)}
        for name, contender in ALL.items()
    ]
    show(rows, parser.parse_args().json)


if __name__ == "__main__":
    main()
