"""`recordio.torch`: tensors without a copy for our datasets, torch's own loader for all others, nothing twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import data

import recordio
from recordio.torch import DataLoader, IterableShards


@pytest.fixture(params=[None, "zstd"])
def ds(request: pytest.FixtureRequest, tmp_path: Path) -> recordio.ShardDataset:
    with recordio.DatasetWriter(tmp_path, block_bytes=500, shard_samples=70, compression=request.param) as writer:
        for n in range(200):
            writer.write({"row": np.full(4, n, np.float32), "label": n, "text": f"sample {n}"})
    return recordio.ShardDataset(tmp_path)


def labels(batches: Any) -> list[int]:
    out: list[int] = []
    for batch in batches:
        assert (batch["row"] == batch["label"][:, None]).all()
        assert batch["text"] == [f"sample {n}" for n in batch["label"].tolist()]
        out += batch["label"].tolist()
    return out


def test_batches_are_those_of_recordio_as_tensors(ds: recordio.ShardDataset) -> None:
    for workers in (0, 2):
        ours = recordio.DataLoader(ds, 32, True, seed=3, num_workers=workers)
        loader = DataLoader(ds, 32, True, seed=3, num_workers=workers)
        assert isinstance(loader, data.DataLoader)
        assert (len(loader), loader.batch_size, loader.num_workers) == (7, 32, workers)
        for _ in range(2):
            for mine, batch in zip(ours, loader, strict=True):
                assert batch["row"].dtype == torch.float32
                assert batch["label"].dtype == torch.int64
                assert (batch["row"].numpy() == mine["row"]).all()
                assert batch["text"] == mine["text"]


def test_tensors_share_the_memory_of_arrays() -> None:
    array = np.zeros(3)
    found = recordio.torch.DataLoader.__init__.__globals__["to_tensors"]({"a": [array, "text"], "b": np.ma.array([1])})
    found["a"][0][0] = 5
    assert array[0] == 5
    assert isinstance(found["b"], np.ma.MaskedArray)


def test_single_samples_and_collate_fn(ds: recordio.ShardDataset) -> None:
    one = next(iter(DataLoader(ds, batch_size=None)))
    assert torch.equal(one["row"], torch.zeros(4))
    assert one["label"].item() == 0
    assert list(DataLoader(ds[:4], 2, collate_fn=len)) == [2, 2]


def test_any_other_dataset_is_torchs_own_business(ds: recordio.ShardDataset) -> None:
    tensors = data.TensorDataset(torch.arange(10))
    for loader in (DataLoader(tensors, 4), data.DataLoader(tensors, 4)):
        assert [batch[0].tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    with pytest.raises(recordio.SchemaError, match="window_bytes: only for the datasets of recordio"):
        DataLoader(tensors, window_bytes=5)
    with pytest.raises(recordio.SchemaError, match="no state"):
        DataLoader(tensors).state_dict()
    with pytest.raises(ValueError, match="prefetch_factor"):
        DataLoader(ds, prefetch_factor=2)
    with pytest.raises(TypeError):
        DataLoader(ds, nonsense=1)


def test_samplers_are_honoured(ds: recordio.ShardDataset) -> None:
    assert labels(DataLoader(ds, 3, sampler=[7, 3, 9, 9])) == [7, 3, 9, 9]
    assert labels(DataLoader(ds, batch_sampler=[[5], [1, 2]])) == [5, 1, 2]
    sampler = data.DistributedSampler(ds, num_replicas=2, rank=1)
    assert len(set(labels(DataLoader(ds, 8, sampler=sampler)))) == 100


def test_an_epoch_resumes(ds: recordio.ShardDataset) -> None:
    loader = DataLoader(ds, 16, True)
    batches = iter(loader)
    seen = labels([next(batches) for _ in range(5)])
    state = json.loads(json.dumps(loader.state_dict()))
    again = DataLoader(ds, 32, True, num_workers=2)
    again.load_state_dict(state)
    assert sorted(seen + labels(again)) == list(range(200))
    assert loader.stats.batches == 5


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("world", [1, 2])
def test_iterable_shards_share_the_samples_out(ds: recordio.ShardDataset, workers: int, world: int) -> None:
    for shuffle in (False, True):
        found: list[int] = []
        for rank in range(world):
            shards = IterableShards(ds, shuffle, rank=rank, world_size=world)
            assert len(shards) == 200 // world
            found += labels(data.DataLoader(shards, 9, num_workers=workers))
        assert sorted(found) == list(range(200))
        assert shuffle or workers > 1 or world > 1 or found == list(range(200))


def test_iterable_shards_epochs_and_states(ds: recordio.ShardDataset) -> None:
    shards = IterableShards(ds, True)
    first = [int(sample["label"]) for sample in shards]
    second = [int(sample["label"]) for sample in shards]
    assert first != second
    shards.set_epoch(0)
    samples = iter(shards)
    assert [int(next(samples)["label"]) for _ in range(50)] == first[:50]
    again = IterableShards(ds, True)
    again.load_state_dict(shards.state_dict())
    assert [int(sample["label"]) for sample in again] == first[50:]
    with pytest.raises(recordio.SchemaError, match="window_bytes"):
        IterableShards(ds, window_bytes=0)
