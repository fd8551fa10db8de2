"""Peers that store samples for PyTorch: LitData, WebDataset, MosaicML Streaming. Read without worker processes."""

from __future__ import annotations

import glob
import io
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from contender import Batches, Contender, Indices, Map, collate, mapped_collate
from workloads import Sample


def import_with_torchvision(name: str) -> Any:
    """A module that imports torchvision. Where that does not fit the build of torch, a module `tvshim` may mend it."""
    if find_spec("tvshim"):
        import_module("tvshim")
    return import_module(name)


class LitData(Contender):
    packages = modules = ("litdata",)
    worker_kinds = ("process",)
    compression: ClassVar[str | None] = None

    def write(self, samples: Sequence[Sample]) -> None:
        import_with_torchvision("litdata")
        from litdata.streaming.writer import BinaryWriter

        writer = BinaryWriter(str(self.folder), chunk_bytes="64MB", compression=self.compression, **self._level())
        for i, sample in enumerate(samples):
            writer[i] = sample
        writer.done()
        writer.merge()

    def _level(self) -> dict[str, str]:
        """Its default codes some samples at a time; without arrays in them 0.2.76 then writes what it cannot read."""
        arrays = any(kind.name == "array" for kind in self.kinds.values())
        return {} if arrays or not self.compression else {"compression_level": "chunk"}

    def _dataset(self, shuffle: bool) -> Any:
        return import_with_torchvision("litdata").StreamingDataset(str(self.folder), shuffle=shuffle)

    def open(self) -> None:
        self.dataset = self._dataset(False)
        self.samples = len(self.dataset)

    def _epoch(self, size: int, shuffle: bool) -> Batches:
        from litdata import StreamingDataLoader

        return StreamingDataLoader(self._dataset(shuffle), batch_size=size, num_workers=0, collate_fn=collate)

    def sequential(self, size: int) -> Batches:
        return self._epoch(size, False)

    def shuffled(self, size: int) -> Batches:
        return self._epoch(size, True)

    def batches(self, indices: Iterable[Indices]) -> Batches:
        return (collate([self.dataset[i] for i in chosen.tolist()]) for chosen in indices)

    def one(self, index: int) -> Sample:
        sample: Sample = self.dataset[index]
        return sample

    def with_workers(self, size: int, workers: int, kind: str, function: Map) -> Batches:
        from litdata import StreamingDataLoader

        more = {"persistent_workers": True} if workers else {}
        collate_fn = partial(mapped_collate, function)
        dataset = self._dataset(True)
        return StreamingDataLoader(dataset, batch_size=size, num_workers=workers, collate_fn=collate_fn, **more)


class LitDataZstd(LitData):
    """Chunks coded as a whole it unpacks into a file beside them when it first reads them; later passes read that."""

    compression = "zstd"
    compressed = True


def torch_loader(dataset: Any, size: int | None, **options: Any) -> Any:
    from torch.utils.data import DataLoader

    return DataLoader(dataset, batch_size=size, num_workers=0, **options)


class WebDataset(Contender):
    packages = modules = ("webdataset",)
    measures = ("write", "sequential", "shuffled")
    slow = True

    def _suffixes(self) -> dict[str, str]:
        endings = {"int": "cls", "str": "txt", "bytes": "jpg", "array": "npy"}
        return {name: f"{name}.{endings[kind.name]}" for name, kind in self.kinds.items()}

    def write(self, samples: Sequence[Sample]) -> None:
        webdataset = import_with_torchvision("webdataset")
        self.folder.mkdir(parents=True)
        suffixes = self._suffixes()
        with webdataset.ShardWriter(f"{self.folder}/s-%06d.tar", maxsize=64 << 20, verbose=0) as writer:
            for i, sample in enumerate(samples):
                writer.write({"__key__": f"{i:09d}", **{suffixes[name]: value for name, value in sample.items()}})

    def open(self) -> None:
        self.paths = sorted(glob.glob(f"{self.folder}/*.tar"))
        decoders: dict[str, Callable[[bytes], Any]] = {
            "int": int,
            "str": bytes.decode,
            "bytes": bytes,
            "array": lambda data: np.load(io.BytesIO(data)),
        }
        suffixes = self._suffixes()
        self.fields = {name: (suffixes[name], decoders[kind.name]) for name, kind in self.kinds.items()}

    def _epoch(self, size: int, shuffle: bool) -> Batches:
        webdataset = import_with_torchvision("webdataset")
        shards = 100 if shuffle else False
        dataset = webdataset.WebDataset(self.paths, shardshuffle=shards, nodesplitter=None, empty_check=False)
        dataset = dataset.shuffle(5000) if shuffle else dataset
        dataset = dataset.map(lambda s: {name: decode(s[suffix]) for name, (suffix, decode) in self.fields.items()})
        return torch_loader(dataset.batched(size, collation_fn=collate), None)

    def sequential(self, size: int) -> Batches:
        return self._epoch(size, False)

    def shuffled(self, size: int) -> Batches:
        return self._epoch(size, True)


class Mds(Contender):
    """MosaicML Streaming, not compressed."""

    packages, modules = ("mosaicml-streaming",), ("streaming",)
    slow = True

    def write(self, samples: Sequence[Sample]) -> None:
        streaming = import_with_torchvision("streaming")
        columns = {
            name: f"ndarray:{np.dtype(kind.dtype).name}:{','.join(map(str, kind.shape))}" if kind.shape else kind.name
            for name, kind in self.kinds.items()
        }
        with streaming.MDSWriter(out=str(self.folder), columns=columns, hashes=["xxh64"]) as writer:
            for sample in samples:
                writer.write(sample)

    def _dataset(self, shuffle: bool, size: int) -> Any:
        streaming = import_with_torchvision("streaming")
        from streaming.base.util import clean_stale_shared_memory

        clean_stale_shared_memory()
        return streaming.StreamingDataset(local=str(self.folder), shuffle=shuffle, batch_size=size)

    def open(self) -> None:
        self.dataset = self._dataset(False, 256)
        self.samples = len(self.dataset)

    def sequential(self, size: int) -> Batches:
        return torch_loader(self.dataset, size, collate_fn=collate)

    def shuffled(self, size: int) -> Batches:
        return torch_loader(self._dataset(True, size), size, collate_fn=collate)

    def batches(self, indices: Iterable[Indices]) -> Batches:
        return (collate([self.dataset[i] for i in chosen.tolist()]) for chosen in indices)

    def one(self, index: int) -> Sample:
        sample: Sample = self.dataset[index]
        return sample
