"""Views of tuples in the loaders for PyTorch: `for x, y in loader`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import data

import recordio
from recordio.torch import DataLoader, IterableShards

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than this machine has cores
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
N = 40
WORKERS: dict[str, dict[str, Any]] = {
    "inline": {},
    "threads": {"num_workers": 2},
    "fork": {"num_workers": 1, "multiprocessing_context": "fork"},
    "spawn": {"num_workers": 1, "multiprocessing_context": "spawn"},
}


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> recordio.ShardDataset:
    folder = tmp_path_factory.mktemp("tuples") / "ds"
    with recordio.DatasetWriter(folder, block_bytes=500) as writer:
        for n in range(N):
            writer.write({"row": np.full(4, n, np.float32), "label": n, "text": f"sample {n}"})
    return recordio.ShardDataset(folder)


def add_one(sample: dict[str, Any]) -> dict[str, Any]:
    return {"label": sample["label"] + 1, "row": sample["row"] + 1}


def labels(pairs: list[tuple[Any, Any]]) -> list[int]:
    assert all(type(pair) is tuple for pair in pairs)
    return [int(label) for _, label in pairs]


@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
@pytest.mark.parametrize("mapped", [False, True])
def test_batches_are_pairs_of_tensors(ds: recordio.ShardDataset, workers: dict[str, Any], mapped: bool) -> None:
    view = (ds.map(add_one) if mapped else ds).tuples("row", "label")
    found: list[int] = []
    for batch in DataLoader(view, batch_size=16, shuffle=True, **workers):
        x, y = batch
        assert (type(batch), x.dtype, y.dtype) == (tuple, torch.float32, torch.int64)
        assert (x == y[:, None]).all()
        found += y.tolist()
    assert sorted(found) == list(range(mapped, N + mapped))


@pytest.mark.parametrize("loader", [DataLoader, data.DataLoader])
def test_both_loaders_give_the_same(ds: recordio.ShardDataset, loader: Any) -> None:
    view = ds.tuples("row", "label")
    assert [y.tolist() for _, y in loader(view, 16)] == [list(range(k, min(N, k + 16))) for k in range(0, N, 16)]
    assert [y.tolist() for _, y in loader(view, 2, sampler=[5, 1, 3])] == [[5, 1], [3]]
    assert list(loader(view, 3, collate_fn=labels))[1] == [3, 4, 5]
    x, y = next(iter(loader(view, batch_size=None)))
    assert (x.shape, int(y)) == ((4,), 0)
    x, y = next(iter(loader(view, batch_size=None, sampler=[7])))
    assert (x.shape, int(y)) == ((4,), 7)


def test_single_samples_for_torchs_workers(ds: recordio.ShardDataset) -> None:
    batches = list(data.DataLoader(IterableShards(ds.tuples("row", "label")), 16, num_workers=1))
    assert [y.tolist() for _, y in batches] == [list(range(k, min(N, k + 16))) for k in range(0, N, 16)]
