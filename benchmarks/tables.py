"""Peers that store columns: Hugging Face datasets (Arrow) and Lance."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from contender import EPOCH_SEED, Batches, Contender, Indices
from workloads import Sample


class HuggingFace(Contender):
    packages = modules = ("datasets",)

    def _features(self) -> Any:
        from datasets import Array2D, Features, List, Value

        def feature(name: str) -> Any:
            kind = self.kinds[name]
            if kind.name != "array":
                return Value({"int": "int64", "str": "string", "bytes": "binary"}[kind.name])
            dtype = np.dtype(kind.dtype).name
            flat = len(kind.shape) == 1
            return List(Value(dtype), length=kind.shape[0]) if flat else Array2D(shape=kind.shape, dtype=dtype)

        return Features({name: feature(name) for name in self.kinds})

    def write(self, samples: Sequence[Sample]) -> None:
        import datasets

        datasets.disable_progress_bars()
        cache = self.folder / "cache"
        # With a fingerprint of our own it need not hash the generator, and with it all the samples.
        dataset = datasets.Dataset.from_generator(
            lambda: iter(samples), features=self._features(), cache_dir=str(cache), fingerprint="benchmark"
        )
        dataset.save_to_disk(str(self.folder / "dataset"))
        shutil.rmtree(cache)

    def open(self) -> None:
        from datasets import load_from_disk

        self.dataset = load_from_disk(str(self.folder / "dataset")).with_format("numpy")
        self.samples = len(self.dataset)

    def sequential(self, size: int) -> Batches:
        return self.dataset.iter(size)

    def shuffled(self, size: int) -> Batches:
        return self.dataset.shuffle(seed=EPOCH_SEED).iter(size)

    def batches(self, indices: Iterable[Indices]) -> Batches:
        return (self.dataset[chosen.tolist()] for chosen in indices)

    def one(self, index: int) -> Sample:
        sample: Sample = self.dataset[index]
        return sample


class Lance(Contender):
    packages, modules = ("pylance",), ("lance",)

    def write(self, samples: Sequence[Sample]) -> None:
        import lance
        import pyarrow as pa

        columns = {}
        for name, kind in self.kinds.items():
            values = [sample[name] for sample in samples]
            if kind.name == "array":
                flat = pa.array(np.stack(values).reshape(-1))
                columns[name] = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(kind.shape)))
            else:
                columns[name] = pa.array(values)
        lance.write_dataset(pa.table(columns), str(self.folder), mode="overwrite")

    def open(self) -> None:
        import lance

        self.dataset = lance.dataset(str(self.folder))
        self.samples = self.dataset.count_rows()

    def _batch(self, table: Any) -> dict[str, Any]:
        batch: dict[str, Any] = {}
        for name, kind in self.kinds.items():
            column = table[name]
            column = column.combine_chunks() if hasattr(column, "combine_chunks") else column
            if kind.name == "array":
                flat = column.flatten().to_numpy(zero_copy_only=False)
                batch[name] = flat.reshape((len(column), *kind.shape))
            else:
                batch[name] = column.to_numpy(zero_copy_only=False) if kind.name == "int" else column.to_pylist()
        return batch

    def sequential(self, size: int) -> Batches:
        return (self._batch(batch) for batch in self.dataset.to_batches(batch_size=size))

    def batches(self, indices: Iterable[Indices]) -> Batches:
        return (self._batch(self.dataset.take(chosen.tolist())) for chosen in indices)

    def one(self, index: int) -> Sample:
        return {name: column[0] for name, column in self._batch(self.dataset.take([index])).items()}
