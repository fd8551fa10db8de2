"""The loaders that peer_trials.py tries, each as its own documents recommend: written, iterated, stopped and resumed.

A loader gives lists of (number, payload), and after any of them its state, JSON or pickled; None if it has none.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

SEED, CHUNK = 1, 64  # samples a shard
TRIALS = ("order, workers", "order, ranks", "resume", "flipped bits")
Pair = tuple[int, bytes]


def payload(number: int) -> bytes:
    return np.random.default_rng(number).bytes(256)


@dataclass
class Loader:
    """A shuffled epoch of one rank.

    Attributes:
        folder: what was written.
        batch: samples a batch, on this rank.
        rank, world, workers: which of how many processes, and how many workers.
        state: to resume from, if any: of every rank, as they were taken.
    """

    folder: Path
    batch: int = 24
    rank: int = 0
    world: int = 1
    workers: int = 0
    state: list[Any] | None = None
    packages: ClassVar[tuple[str, ...]] = ()
    environment: ClassVar[str] = "main"
    trials: ClassVar[tuple[str, ...]] = TRIALS
    needs_torch_ranks: ClassVar[bool] = False

    @staticmethod
    def write(folder: Path, n: int) -> None:
        raise NotImplementedError

    def batches(self) -> Iterator[list[Pair]]:
        raise NotImplementedError

    def position(self) -> Any:
        """The state after the batch that was given last."""
        return None


class Stateful(Loader):
    """One whose loader has a state dict."""

    _loader: Any
    each_rank_its_own: ClassVar[bool] = False  # the states of ranks differ

    def resumed(self, loader: Any) -> Any:
        """The loader, where the state says that it stopped."""
        self._loader = loader
        if self.state:
            loader.load_state_dict(self.state[self.rank % len(self.state) if self.each_rank_its_own else 0])
        return loader

    def position(self) -> Any:
        return self._loader.state_dict()


def pairs(numbers: Iterable[Any], payloads: Iterable[Any]) -> list[Pair]:
    return [(int(number), bytes(data)) for number, data in zip(numbers, payloads, strict=True)]


def of_dicts(samples: Iterable[Any]) -> list[Pair]:
    found = list(samples)
    return pairs([one["number"] for one in found], [one["payload"] for one in found])


def as_columns(samples: list[Any]) -> dict[str, list[Any]]:
    """Streaming counts the samples of a batch by its columns."""
    return {name: [one[name] for one in samples] for name in samples[0]}


def as_it_is(batch: Any, **_: Any) -> Any:
    return batch


def as_list(samples: list[Any]) -> list[Any]:
    return samples


class Recordio(Stateful):
    packages, environment = ("recordio-shards",), ""

    @staticmethod
    def write(folder: Path, n: int) -> None:
        import recordio

        schema = recordio.Schema({"number": recordio.Scalar("int64"), "payload": recordio.Bytes()})
        with recordio.DatasetWriter(folder, schema, shard_samples=CHUNK) as writer:
            for number in range(n):
                writer.write({"number": number, "payload": payload(number)})

    def batches(self) -> Iterator[list[Pair]]:
        import recordio

        loader = recordio.DataLoader(
            recordio.ShardDataset(self.folder),
            self.batch,
            shuffle=True,
            seed=SEED,
            num_workers=self.workers,
            rank=self.rank,
            world_size=self.world,
        )
        for batch in self.resumed(loader):
            yield pairs(batch["number"], batch["payload"])


def litdata_sample(number: int) -> dict[str, Any]:
    return {"number": number, "payload": payload(number)}


class LitData(Stateful):
    packages, needs_torch_ranks = ("litdata",), True
    each_rank_its_own = True

    @staticmethod
    def write(folder: Path, n: int) -> None:
        from litdata import optimize

        inputs = list(range(n))
        optimize(litdata_sample, inputs, str(folder), chunk_size=CHUNK, num_workers=1, keep_data_ordered=True)

    def batches(self) -> Iterator[list[Pair]]:
        from litdata import StreamingDataLoader, StreamingDataset

        data = StreamingDataset(str(self.folder), shuffle=True, seed=SEED, drop_last=False)
        yield from self.resumed(
            StreamingDataLoader(data, batch_size=self.batch, num_workers=self.workers, collate_fn=of_dicts)
        )


def streaming_package() -> Any:
    from sample_streams import import_with_torchvision

    return import_with_torchvision("streaming")


class Mds(Stateful):
    packages, needs_torch_ranks = ("mosaicml-streaming",), True
    written: ClassVar[dict[str, Any]] = {}

    @classmethod
    def write(cls, folder: Path, n: int) -> None:
        columns = {"number": "int", "payload": "bytes"}
        with streaming_package().MDSWriter(
            out=str(folder), columns=columns, size_limit=CHUNK * 280, **cls.written
        ) as writer:
            for number in range(n):
                writer.write({"number": number, "payload": payload(number)})

    def place(self) -> dict[str, str]:
        return {"local": str(self.folder)}

    def batches(self) -> Iterator[list[Pair]]:
        streaming = streaming_package()
        data = streaming.StreamingDataset(
            **self.place(),
            shuffle=True,
            shuffle_seed=SEED,
            batch_size=self.batch,
            num_canonical_nodes=1,
        )
        loader = streaming.StreamingDataLoader(
            data, batch_size=self.batch, num_workers=self.workers, collate_fn=as_columns, drop_last=False
        )
        for batch in self.resumed(loader):
            yield pairs(batch["number"], batch["payload"])


class MdsHashed(Mds):
    """With the hashes that it checks when a shard comes into its cache: the files are the remote ones."""

    trials = TRIALS[3:]
    written: ClassVar[dict[str, Any]] = {"hashes": ["xxh64"]}

    def place(self) -> dict[str, str]:
        local = tempfile.mkdtemp(dir=self.folder.parent)
        return {"remote": str(self.folder), "local": local, "validate_hash": "xxh64"}


class WebDataset(Loader):
    packages, needs_torch_ranks = ("webdataset",), True

    @staticmethod
    def write(folder: Path, n: int) -> None:
        from webdataset import ShardWriter

        folder.mkdir(parents=True)
        with ShardWriter(str(folder / "%05d.tar"), maxcount=CHUNK, verbose=0) as writer:
            for number in range(n):
                writer.write({"__key__": f"{number:06}", "bin": payload(number)})

    def batches(self) -> Iterator[list[Pair]]:
        import webdataset as wds

        urls = sorted(map(str, self.folder.glob("*.tar")))
        data = wds.WebDataset(urls, shardshuffle=100, nodesplitter=wds.split_by_node, detshuffle=True, seed=SEED)
        data = data.shuffle(1000, rng=__import__("random").Random(SEED))
        loader = wds.WebLoader(data, batch_size=self.batch, num_workers=self.workers, collate_fn=as_list)
        for samples in loader:
            yield pairs([one["__key__"] for one in samples], [one["bin"] for one in samples])


class Grain(Loader):
    packages = ("grain", "array-record")

    @staticmethod
    def write(folder: Path, n: int) -> None:
        from array_record.python import array_record_module as module

        folder.mkdir(parents=True)
        for shard in range(0, n, CHUNK):
            writer = module.ArrayRecordWriter(str(folder / f"{shard:06}.array_record"), "group_size:1")
            for number in range(shard, min(n, shard + CHUNK)):
                writer.write(number.to_bytes(8, "little") + payload(number))
            writer.close()

    def batches(self) -> Iterator[list[Pair]]:
        import grain
        from absl import flags

        if not flags.FLAGS.is_parsed():
            flags.FLAGS([""])
        from grain.sources import ArrayRecordDataSource

        source = ArrayRecordDataSource(sorted(map(str, self.folder.glob("*"))))
        data = grain.MapDataset.source(source).shuffle(seed=SEED)[self.rank :: self.world]
        found = data.batch(self.batch, batch_fn=as_list).to_iter_dataset()
        if self.workers:
            found = found.mp_prefetch(grain.MultiprocessingOptions(num_workers=self.workers))
        self._iterator = iter(found)
        if self.state:
            self._iterator.set_state(self.state[0])
        for batch in self._iterator:
            yield pairs([int.from_bytes(one[:8], "little") for one in batch], [one[8:] for one in batch])

    def position(self) -> Any:
        return self._iterator.get_state()


class HuggingFace(Stateful):
    packages, environment = ("datasets", "torchdata"), "hf"  # Streaming needs an older huggingface-hub
    each_rank_its_own = True
    buffer = 1000
    written: ClassVar[dict[str, Any]] = {}

    @classmethod
    def write(cls, folder: Path, n: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder.mkdir(parents=True)
        for first in range(0, n, CHUNK):
            numbers = list(range(first, min(n, first + CHUNK)))
            table = pa.table({"number": numbers, "payload": pa.array(map(payload, numbers), pa.binary())})
            pq.write_table(table, folder / f"{first:06}.parquet", **cls.written)

    def read(self) -> dict[str, Any]:
        return {}

    def batches(self) -> Iterator[list[Pair]]:
        from datasets import load_dataset
        from datasets.distributed import split_dataset_by_node
        from torchdata.stateful_dataloader import StatefulDataLoader

        files = sorted(map(str, self.folder.glob("*.parquet")))
        data = load_dataset("parquet", data_files=files, split="train", streaming=True, **self.read())
        data = split_dataset_by_node(data.shuffle(seed=SEED, buffer_size=self.buffer), self.rank, self.world)
        yield from self.resumed(StatefulDataLoader(data, self.batch, num_workers=self.workers, collate_fn=of_dicts))


class HuggingFaceBuffer(HuggingFace):
    """With more samples than its buffer of shuffling holds, as any but a small dataset has."""

    buffer, trials = 100, TRIALS[2:3]


class HuggingFaceChecked(HuggingFace):
    """With the checksums of Parquet's pages, which both sides must ask for."""

    trials = TRIALS[3:]
    written: ClassVar[dict[str, Any]] = {"write_page_checksum": True}

    def read(self) -> dict[str, Any]:
        from pyarrow.dataset import ParquetFragmentScanOptions

        return {"fragment_scan_options": ParquetFragmentScanOptions(page_checksum_verification=True)}


class Lance(Loader):
    packages, environment = ("pylance",), "ldb"

    @staticmethod
    def write(folder: Path, n: int) -> None:
        import lance
        import pyarrow as pa

        numbers = list(range(n))
        table = pa.table({"number": numbers, "payload": pa.array(map(payload, numbers), pa.binary())})
        lance.write_dataset(table, str(folder), max_rows_per_file=CHUNK)

    def batches(self) -> Iterator[list[Pair]]:
        from lance.sampler import ShardedFragmentSampler
        from lance.torch.data import LanceDataset
        from torch.utils.data import DataLoader

        sampler = ShardedFragmentSampler(self.rank, self.world, randomize=True, seed=SEED)
        data = LanceDataset(str(self.folder), self.batch, sampler=sampler, to_tensor_fn=as_it_is)
        context = "forkserver" if self.workers else None
        loader = DataLoader(
            data, batch_size=None, num_workers=self.workers, collate_fn=as_list, multiprocessing_context=context
        )
        for batch in loader:
            yield pairs(batch["number"].to_pylist(), batch["payload"].to_pylist())


class LanceStreaming(Loader):
    packages, environment = ("lancedb", "pylance"), "ldb"

    @staticmethod
    def write(folder: Path, n: int) -> None:
        import lancedb
        import pyarrow as pa

        numbers = list(range(n))
        rows = pa.table({"number": numbers, "payload": pa.array(map(payload, numbers), pa.binary())})
        lancedb.connect(str(folder)).create_table("rows", rows)

    def batches(self) -> Iterator[list[Pair]]:
        import lancedb
        from lancedb.streaming import StreamingDataLoader, StreamingDataset

        table = lancedb.connect(str(self.folder)).open_table("rows")
        self._data = StreamingDataset(table, num_splits=24, shuffle_seed=SEED, rank=self.rank, world_size=self.world)
        if self.state:
            self._data.load_state_dict(StreamingDataset.merge_state_dicts(self.state))
        yield from StreamingDataLoader(
            self._data,
            batch_size=self.batch,
            num_workers=self.workers,
            collate_fn=of_dicts,
            multiprocessing_context="forkserver" if self.workers else None,  # workers that are forked hang
        )

    def position(self) -> Any:
        return self._data.state_dict()


class Spdl(Loader):
    """Its sampler and its pipeline, over a list: it has no files of its own."""

    packages, environment, trials = ("spdl",), "spdl", TRIALS[:3]

    @staticmethod
    def write(folder: Path, n: int) -> None:
        folder.mkdir(parents=True)
        (folder / "count").write_text(json.dumps(n))

    def batches(self) -> Iterator[list[Pair]]:
        from spdl.pipeline import PipelineBuilder
        from spdl.source import DistributedRandomSampler

        n = json.loads((self.folder / "count").read_text())
        sampler = DistributedRandomSampler(n, rank=self.rank, world_size=self.world, seed=SEED)
        threads = max(1, self.workers)
        builder = PipelineBuilder().add_source(sampler).pipe(lambda k: (k, payload(k)), concurrency=threads)
        pipeline = builder.aggregate(self.batch).add_sink(2).build(num_threads=threads)
        with pipeline.auto_stop():
            yield from pipeline


LOADERS: dict[str, type[Loader]] = {
    "recordio": Recordio,
    "LitData": LitData,
    "MosaicML Streaming": Mds,
    "MosaicML Streaming, hashes": MdsHashed,
    "WebDataset": WebDataset,
    "ArrayRecord + Grain": Grain,
    "HF datasets": HuggingFace,
    "HF datasets, buffer of 100": HuggingFaceBuffer,
    "HF datasets, page checksums": HuggingFaceChecked,
    "Lance": Lance,
    "LanceDB StreamingDataset": LanceStreaming,
    "SPDL": Spdl,
}
