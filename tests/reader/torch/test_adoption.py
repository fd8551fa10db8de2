"""Our datasets in the hands of libraries for PyTorch: torch's Datasets, whose loaders see every sample."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import data

import recordio
import recordio.torch
from recordio import Mixture, ShardDataset
from recordio.reader.torch.adoption import adopt
from recordio.reader.view import DatasetView


def written(folder: Path, numbers: range) -> ShardDataset:
    with recordio.DatasetWriter(folder, block_bytes=200) as writer:
        for n in numbers:
            writer.write({"number": n, "row": np.full(2, n, np.float32)})
    return ShardDataset(folder)


@pytest.fixture
def ds(tmp_path: Path) -> ShardDataset:
    return written(tmp_path / "a", range(40))


@pytest.fixture
def other(tmp_path: Path) -> ShardDataset:
    return written(tmp_path / "b", range(100, 110))


def numbers(batches: Any) -> list[int]:
    return [n for batch in batches for n in batch["number"].tolist()]


def test_every_dataset_is_torchs_too(ds: ShardDataset, other: ShardDataset) -> None:
    bases = DatasetView.__bases__
    adopt()
    assert DatasetView.__bases__ == bases  # once is enough
    for one in (ds, ds[3:], ds + other, Mixture([(ds, 1), (other, 1)])):
        assert isinstance(one, data.Dataset)
        assert not isinstance(one, data.IterableDataset)
        assert one[0]["number"] == one[:1]["number"][0]
        assert type(one + ds) is recordio.ConcatDataset


def test_only_importing_recordio_torch_asks_for_torch(ds: ShardDataset) -> None:
    """A dataset pickled where torch is opens where it is not."""
    code = (
        "import pickle, sys\nds = pickle.loads(sys.stdin.buffer.read())\nassert len(ds[0]) == 2\n"
        "assert 'torch' not in sys.modules\nimport recordio.torch, torch\n"
        "assert isinstance(ds, torch.utils.data.Dataset)"
    )
    subprocess.run([sys.executable, "-c", code], input=pickle.dumps(ds), check=True)


def test_tensors_index_as_arrays_do(ds: ShardDataset) -> None:
    assert ds[torch.tensor(3)]["number"] == 3
    assert ds[torch.tensor([3, 1])]["number"].tolist() == [3, 1]
    assert ds[torch.tensor([3])]["number"].tolist() == [3]
    assert ds[torch.arange(40) % 2 == 0]["number"].tolist() == list(range(0, 40, 2))
    assert len(ds[torch.zeros(0, dtype=torch.int64)]) == 0
    with pytest.raises(TypeError, match=r"not Tensor of float32\[1\]"):
        ds[torch.ones(1)]


def test_torchs_loader_reads_every_dataset_that_indices_can_say(ds: ShardDataset, other: ShardDataset) -> None:
    whole = Mixture([(ds, 1), (other, 1)], "all_exhausted")
    for one in (ds, ds[::2], ds + other, whole, Mixture([(ds, 1)])):
        assert sorted(numbers(data.DataLoader(one, 7, shuffle=True))) == sorted(one["number"].tolist())


def test_torchs_loader_is_refused_a_mixture_of_which_an_epoch_leaves_samples_out(
    ds: ShardDataset, other: ShardDataset
) -> None:
    mixture = Mixture([(ds, 1), (other, 1)]).map(dict)
    for loader in (data.DataLoader(mixture, 5, shuffle=True), data.DataLoader(data.Subset(mixture, range(9)), 3)):
        with pytest.raises(recordio.SchemaError, match=r"does not hold all samples of .*recordio.torch.DataLoader"):
            list(loader)
    with pytest.raises(recordio.SchemaError, match="ConcatDataset"):
        mixture._getitems([1])
    assert mixture[3]["number"] == next(iter(mixture[3:]))["number"]
    assert mixture.take(range(20))["number"].tolist() == [sample["number"] for sample in mixture]
    assert numbers(data.DataLoader(mixture[:], 5)) == numbers(recordio.DataLoader(mixture, 5))


WORKERS: dict[str, dict[str, Any]] = {
    "none": {},
    "threads": {"num_workers": 2},
    "processes": {"num_workers": 2, "multiprocessing_context": "fork", "worker_type": "process"},
}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("kind", ["concatenated", "mixed", "arranged"])
def test_samplers_choose_from_combined_datasets(
    ds: ShardDataset, other: ShardDataset, kind: str, maps: bool, workers: str
) -> None:
    whole: Any = Mixture([(ds, 1), (other, 1)]) if kind == "mixed" else ds + other
    whole = whole[::-1] if kind == "arranged" else whole
    whole = whole.map(dict) if maps else whole
    every, n = [int(sample["number"]) for sample in whole], len(whole)
    weights = [float(k % 3 == 0) for k in range(n)]

    options: dict[str, Any]
    for options in (
        {"batch_size": 4, "sampler": data.WeightedRandomSampler(weights, 30)},
        {"batch_size": 4, "sampler": data.SubsetRandomSampler(range(5, n))},
        {"batch_sampler": data.BatchSampler(data.RandomSampler(range(n)), 6, drop_last=True)},
        {"batch_sampler": [[n - 1, 0, 0], [3, -1]]},
    ):
        torch.manual_seed(5)
        chosen = [i for batch in options["batch_sampler"] for i in batch] if "batch_sampler" in options else None
        wanted = [every[i] for i in (options["sampler"] if chosen is None else chosen)]
        for loader in (recordio.DataLoader, recordio.torch.DataLoader):
            torch.manual_seed(5)
            assert numbers(loader(whole, **options, **WORKERS[workers])) == wanted
