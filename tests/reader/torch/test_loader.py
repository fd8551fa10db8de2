"""`recordio.torch.DataLoader`: tensors without a copy for our datasets, torch's own loader for all others."""

from __future__ import annotations

import gc
import inspect
import json
import pickle
import sys
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import data

import recordio
from recordio.reader.torch.samplers import LoaderBatchSampler, LoaderSampler, LoaderSequentialSampler
from recordio.reader.torch.tensors import to_tensors
from recordio.torch import DataLoader

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than this machine has cores
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
Pair = namedtuple("Pair", "first second")


@pytest.fixture
def ds(tmp_path: Path) -> recordio.ShardDataset:
    with recordio.DatasetWriter(tmp_path, block_bytes=500, shard_samples=70) as writer:
        for n in range(200):
            writer.write({"row": np.full(4, n, np.float32), "label": n, "text": f"sample {n}"})
    return recordio.ShardDataset(tmp_path)


class Batches(list[Any]):
    """An inner loader that delivers these."""

    pins = False


def labels(batches: Any) -> list[int]:
    out: list[int] = []
    for batch in batches:
        assert (batch["row"] == batch["label"][:, None]).all()
        assert batch["text"] == [f"sample {n}" for n in batch["label"].tolist()]
        out += batch["label"].tolist()
    return out


def negative(sample: dict[str, Any]) -> dict[str, Any]:
    if sample["label"] % 50 == 7:
        raise ValueError(f"label {sample['label']}")
    return {**sample, "label": -sample["label"]}


def test_batches_equal_recordios_as_tensors(ds: recordio.ShardDataset) -> None:
    for workers in (0, 2):
        ours = recordio.DataLoader(ds, 32, True, seed=3, num_workers=workers)
        loader = DataLoader(ds, 32, True, seed=3, num_workers=workers)
        assert isinstance(loader, data.DataLoader)
        for _ in range(2):
            for mine, batch in zip(ours, loader, strict=True):
                assert (batch["row"].dtype, batch["label"].dtype) == (torch.float32, torch.int64)
                assert (batch["row"].numpy() == mine["row"]).all()
                assert (batch["label"].numpy() == mine["label"]).all()
                assert batch["text"] == mine["text"]


def test_tensors_share_memory_with_the_arrays(ds: recordio.ShardDataset) -> None:
    loader, batch = DataLoader(ds), {"row": np.zeros((2, 3), np.float16), "text": ["a", "b"]}
    loader.__dict__["_inner"] = Batches([batch])
    (found,) = loader
    assert found["row"].data_ptr() == batch["row"].ctypes.data  # type: ignore[attr-defined]
    assert found["text"] is batch["text"]


@pytest.mark.parametrize("dtype", "bool i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16".split())
def test_an_array_of_any_dtype_becomes_a_tensor_in_the_same_memory(dtype: str) -> None:
    array = np.arange(6).astype(dtype).reshape(2, 3)
    tensor = to_tensors(array)
    assert (tensor.numpy() == array).all()
    assert tensor.data_ptr() == array.ctypes.data
    scalar = to_tensors(array[1, 2])
    assert (scalar.shape, scalar.dtype) == ((), tensor.dtype)
    assert scalar == tensor[1, 2]


@pytest.mark.parametrize(
    "value",
    [
        np.ma.array(["a", "b"], mask=[True, False]),
        np.array(["a"]),
        np.array([None]),
        np.array([1], "M8[s]"),
        np.array([1], ">i4"),
        np.str_("a"),
        ["text", "more", None],
        [b"bytes"],
        (1, 2.5),
        "text",
        3,
        None,
        torch.ones(2),
    ],
)
def test_values_without_a_torch_dtype_stay_as_they_are(value: Any) -> None:
    assert to_tensors(value) is value


def test_arrays_are_found_in_dicts_lists_and_tuples() -> None:
    one = np.ones(2)
    found = to_tensors({"a": [one, "text"], "b": {"c": (one,)}, "p": Pair(one, 1)})
    assert [type(x) for x in found["a"]] == [torch.Tensor, str]
    assert torch.equal(found["b"]["c"][0], torch.ones(2, dtype=torch.float64))
    assert isinstance(found["p"], Pair)
    assert isinstance(found["p"].first, torch.Tensor)


def test_arrays_that_no_tensor_can_share_are_copied() -> None:
    fixed = np.arange(4)
    fixed.setflags(write=False)
    for array in (fixed, np.arange(4)[::-1], np.broadcast_to(np.int64(1), 3), np.zeros((0, 2))[::-1]):
        assert (to_tensors(array).numpy() == array).all()


def test_missing_values_and_free_shapes(tmp_path: Path) -> None:
    schema = {"free": recordio.Array("int32", (None,)), "maybe": recordio.Scalar("int64", optional=True)}
    with recordio.DatasetWriter(tmp_path, schema) as writer:
        for n in range(4):
            writer.write({"free": np.arange(n, dtype=np.int32), "maybe": n if n % 2 else None})
    ds = recordio.ShardDataset(tmp_path)
    (batch,) = DataLoader(ds, 4)
    assert [x.tolist() for x in batch["free"]] == [[], [0], [0, 1], [0, 1, 2]]
    assert batch["maybe"].tolist() == [-(2**63), 1, -(2**63), 3]
    assert batch["maybe_mask"].tolist() == [True, False, True, False]
    assert [sample["maybe"] for sample in DataLoader(ds, None)] == [None, torch.tensor(1), None, torch.tensor(3)]


@pytest.mark.parametrize("workers", [0, 2])
def test_single_samples(ds: recordio.ShardDataset, workers: int) -> None:
    found = list(DataLoader(ds, None, num_workers=workers))
    assert [sample["text"] for sample in found] == [f"sample {n}" for n in range(200)]
    assert torch.equal(found[3]["row"], torch.full((4,), 3.0))
    assert found[3]["label"].item() == 3
    chosen = DataLoader(ds, None, sampler=[7, 3], num_workers=workers)
    assert len(chosen) == 2
    assert [(sample["label"].item(), sample["text"]) for sample in chosen] == [(7, "sample 7"), (3, "sample 3")]
    assert list(DataLoader(ds, None, sampler=[7, 3], collate_fn=lambda sample: int(sample["label"]))) == [7, 3]
    assert list(DataLoader(ds[:2], None, collate_fn=lambda sample: sample["text"])) == ["sample 0", "sample 1"]


def test_result_of_a_collate_fn_is_returned_unchanged(ds: recordio.ShardDataset) -> None:
    assert list(DataLoader(ds[:4], 3, collate_fn=len)) == [3, 1]
    (batch,) = DataLoader(ds[:2], 2, collate_fn=lambda samples: np.stack([s["row"] for s in samples]))
    assert isinstance(batch, np.ndarray)
    assert labels(DataLoader(ds[:5], 3, collate_fn=data.default_collate)) == [0, 1, 2, 3, 4]
    with pytest.raises(TypeError, match="NoneType"):
        list(DataLoader(ds.map(lambda sample: {"gone": None}), 3, collate_fn=data.default_collate))


@pytest.mark.parametrize("batch_size", [3, None])
def test_torchs_loader_makes_our_batches_with_our_collate_fn(ds: recordio.ShardDataset, batch_size: Any) -> None:
    for one in (ds, ds.map(lambda sample: {**sample, "none": None})):
        ours = DataLoader(one, batch_size)
        again = DataLoader(one, batch_size, collate_fn=ours.collate_fn)
        torchs = data.DataLoader(one, batch_size, collate_fn=ours.collate_fn)
        for batches in zip(ours, again, torchs, strict=True):
            for batch in batches:
                assert batch.keys() == batches[0].keys()
                assert torch.equal(batch["row"], batches[0]["row"])
                assert batch["text"] == batches[0]["text"]


@pytest.mark.parametrize("workers", [0, 2])
def test_maps_may_make_tuples(ds: recordio.ShardDataset, workers: int) -> None:
    pairs = ds.map(lambda sample: (sample["row"], sample["label"]))
    for x, y in DataLoader(pairs, 50, num_workers=workers):
        assert x.shape == (50, 4)
        assert (x[:, 0] == y).all()
    assert sum(len(x) for x, _ in DataLoader(pairs + pairs, 50, shuffle=True)) == 400
    assert (next(iter(DataLoader(ds.map(negative), 7)))["label"] <= 0).all()


def test_other_datasets_are_left_to_torch() -> None:
    class Count(data.IterableDataset[int]):
        def __iter__(self) -> Any:
            return iter(range(5))

    tensors, shuffled = data.TensorDataset(torch.arange(10)), []
    for kind in (DataLoader, data.DataLoader):
        assert [batch[0].tolist() for batch in kind(tensors, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        assert [batch.tolist() for batch in kind(Count(), 3)] == [[0, 1, 2], [3, 4]]
        assert [n.item() for n in kind(Count(), num_workers=1, multiprocessing_context="fork")] == [0, 1, 2, 3, 4]
        torch.manual_seed(1)
        shuffled.append([batch[0].tolist() for batch in kind(tensors, 5, True)])
        assert len(kind(tensors, 4, drop_last=True)) == 2
        names = ("stats", "set_epoch", "state_dict", "load_state_dict", "rank", "seed")
        assert not [name for name in names if hasattr(kind(tensors), name)]
    assert shuffled[0] == shuffled[1]
    for name, value in {"window_bytes": 5, "seed": 1, "ranks": "auto", "weights": np.ones(10)}.items():
        with pytest.raises(recordio.SchemaError, match=f"^{name}: only for the datasets of recordio, not TensorData"):
            DataLoader(tensors, **{name: value})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="nonsense"):
        DataLoader(tensors, nonsense=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_workers": -1},
        {"timeout": -1},
        {"prefetch_factor": 2},
        {"prefetch_factor": -1, "num_workers": 1},
        {"persistent_workers": True},
        {"multiprocessing_context": "fork"},
        {"multiprocessing_context": "nonsense", "num_workers": 1},
        {"sampler": [1], "shuffle": True},
        {"batch_sampler": [[1]], "batch_size": 2},
        {"batch_sampler": [[1]], "drop_last": True},
        {"batch_size": None, "drop_last": True},
        {"batch_size": 0},
    ],
)
def test_arguments_that_torch_refuses_are_refused(ds: recordio.ShardDataset, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as torchs:  # noqa: PT011
        data.DataLoader(ds, **wrong)
    with pytest.raises(ValueError) as ours:  # noqa: PT011
        DataLoader(ds, **wrong)
    assert str(ours.value) == str(torchs.value)


def test_arguments_that_recordio_refuses_are_refused(ds: recordio.ShardDataset) -> None:
    for wrong in ({"window_bytes": 0}, {"on_error": "hide"}, {"rank": 2, "world_size": 2}, {"seed": -1}):
        with pytest.raises(recordio.SchemaError, match=next(reversed(wrong))):
            DataLoader(ds, **wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="nonsense"):
        DataLoader(ds, nonsense=1)  # type: ignore[call-arg]


def test_attributes_are_those_of_torchs_loader(ds: recordio.ShardDataset) -> None:
    for given in (
        {"batch_size": 8, "shuffle": True, "drop_last": True, "num_workers": 2, "persistent_workers": True},
        {"batch_sampler": data.BatchSampler(range(4), 2, False), "pin_memory": True},
        {"sampler": [1, 2], "collate_fn": len, "num_workers": 1, "multiprocessing_context": "spawn", "timeout": 3},
        {"batch_size": None, "generator": torch.Generator()},
    ):
        ours, torchs = DataLoader(ds, **given), data.DataLoader(ds, **given)  # type: ignore[arg-type]
        assert len(ours) == len(torchs)
        assert ours.multiprocessing_context == torchs.multiprocessing_context
        own = {"shuffle", "sampler", "batch_sampler", *({"collate_fn"} - given.keys())}
        for name in inspect.signature(data.DataLoader).parameters.keys() - own:
            assert getattr(ours, name) is getattr(torchs, name)
        if "sampler" in given or "batch_sampler" in given:
            assert type(ours.sampler) is type(torchs.sampler)
            assert type(ours.batch_sampler) is type(torchs.batch_sampler)
        else:
            assert type(ours.sampler) is (LoaderSampler if given.get("shuffle") else LoaderSequentialSampler)
            assert type(ours.batch_sampler) is (LoaderBatchSampler if given["batch_size"] else type(None))


def test_loader_can_be_rebuilt_from_its_attributes(ds: recordio.ShardDataset) -> None:
    loader = DataLoader(ds, 16, True, seed=5, window_samples=40, num_workers=2, ranks="auto", on_error="skip")
    names = inspect.signature(DataLoader).parameters.keys() - {"shuffle", "sampler", "batch_sampler"}
    again = DataLoader(shuffle=True, **{name: getattr(loader, name) for name in names})
    assert labels(loader) == labels(again)
    assert labels(pickle.loads(pickle.dumps(loader))) == labels(loader)
    with pytest.raises(ValueError, match="collate_fn attribute should not be set"):
        loader.collate_fn = len
    with pytest.raises(ValueError, match="batch_size attribute should not be set"):
        loader.batch_size = 3


def test_the_arguments_are_torchs_and_then_recordios() -> None:
    ours, torchs, inner = (
        inspect.signature(kind).parameters for kind in (DataLoader, data.DataLoader, recordio.DataLoader)
    )
    assert list(ours)[: len(torchs)] == list(torchs)
    assert all((ours[name].default, ours[name].kind) == (p.default, p.kind) for name, p in torchs.items())
    assert inner.keys() <= ours.keys()
    for name in list(ours)[len(torchs) :]:
        assert ours[name].default == inner[name].default


def test_contexts_ask_for_processes(ds: recordio.ShardDataset) -> None:
    assert DataLoader(ds).worker_type == "auto"
    assert DataLoader(ds, num_workers=1, multiprocessing_context="spawn").worker_type == "process"
    with pytest.raises(recordio.SchemaError, match="multiprocessing_context"):
        DataLoader(ds, num_workers=1, multiprocessing_context="spawn", worker_type="thread")


def test_a_loader_says_in_the_callers_line_that_one_thread_goes_on_alone(ds: recordio.ShardDataset) -> None:
    loader = DataLoader(ds.map(dict), 32, num_workers=2)
    assert labels(loader) == list(range(200))
    trial = loader._inner.runs.choice.trial
    while not trial.ended:
        limit = trial.limit
        trial.add(limit, limit, limit * limit * 0.1, limit * 0.1)
    line = sys._getframe().f_lineno + 2
    with pytest.warns(RuntimeWarning, match="2 threads make .* one thread goes on alone") as told:
        batches = list(loader)
    assert labels(batches) == list(range(200))
    assert [(one.filename, one.lineno) for one in told] == [(__file__, line)]


def test_samplers_are_honoured(ds: recordio.ShardDataset) -> None:
    for workers in (0, 2):
        assert labels(DataLoader(ds, 3, sampler=[7, 3, 9, 9], num_workers=workers)) == [7, 3, 9, 9]
    assert labels(DataLoader(ds, batch_sampler=[[5], [1, 2]])) == [5, 1, 2]
    assert labels(DataLoader(ds, batch_sampler=data.BatchSampler(range(5), 2, True))) == [0, 1, 2, 3]
    parts = [data.DistributedSampler(ds, num_replicas=2, rank=rank, seed=1) for rank in range(2)]
    assert sorted(labels(DataLoader(ds, 8, sampler=parts[0])) + labels(DataLoader(ds, 8, sampler=parts[1]))) == list(
        range(200)
    )
    subset = data.SubsetRandomSampler([4, 5, 6], generator=torch.Generator().manual_seed(0))
    assert sorted(labels(DataLoader(ds, 2, sampler=subset))) == [4, 5, 6]
    weighted = data.WeightedRandomSampler([0.0] * 199 + [1.0], 10)
    assert labels(DataLoader(ds, 4, sampler=weighted)) == [199] * 10


def test_set_epoch_reaches_the_sampler(ds: recordio.ShardDataset) -> None:
    sampler: Any = data.DistributedSampler(ds, num_replicas=2, rank=0)
    loader, expected = DataLoader(ds, 8, sampler=sampler), data.DataLoader(ds, 8, sampler=sampler)
    found = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        found.append(labels(loader))
        assert found[-1] == [n for batch in expected for n in batch["label"].tolist()]
    assert found[0] != found[1]


def test_seeds_and_epochs(ds: recordio.ShardDataset) -> None:
    loader = DataLoader(ds, 16, True, seed=1)
    first, second = labels(loader), labels(loader)
    assert sorted(first) == sorted(second) == list(range(200))
    assert first != second
    loader.set_epoch(0)
    assert labels(loader) == first == labels(DataLoader(ds, 32, True, seed=1))
    assert labels(DataLoader(ds, 16, True, seed=2)) != first
    early = DataLoader(ds, 16, True, seed=1)
    next(iter(early))
    assert labels(early) == second


@pytest.mark.parametrize("even", [True, False])
def test_ranks_share_an_epoch(ds: recordio.ShardDataset, even: bool) -> None:
    options: dict[str, Any] = {"shuffle": True, "even_batches": even, "seed": 4}
    ranks = [DataLoader(ds[:199], 20, rank=r, world_size=3, **options) for r in range(3)]
    assert [(loader.rank, loader.world_size) for loader in ranks] == [(0, 3), (1, 3), (2, 3)]
    found = [labels(loader) for loader in ranks]
    assert [len(one) for one in found] == ([67, 67, 67] if even else [67, 66, 66])
    assert {n for one in found for n in one} == set(range(199))
    whole = [n for batch in DataLoader(ds[:199], 60, **options) for n in batch["label"].tolist()]
    assert whole == [found[p % 3][p // 3] for p in range(199)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_resumes(ds: recordio.ShardDataset, workers: int) -> None:
    loader = DataLoader(ds, 16, True, num_workers=workers)
    batches = iter(loader)
    seen = labels([next(batches) for _ in range(5)])
    state = json.loads(json.dumps(loader.state_dict()))
    assert loader.stats.batches == 5
    again = DataLoader(ds, 16, True, num_workers=2 - workers)
    again.load_state_dict(state)
    assert labels(again) == labels(batches)
    halves = [recordio.DataLoader(ds, 4, True, rank=rank, world_size=2) for rank in range(2)]
    for half in halves:
        half.load_state_dict(state)
    assert sorted(seen + labels(halves[0]) + labels(halves[1])) == list(range(200))
    with pytest.raises(recordio.DatasetError, match="another dataset"):
        DataLoader(ds[1:], 16, True).load_state_dict(state)


def test_bad_samples_are_skipped_on_request(ds: recordio.ShardDataset) -> None:
    with pytest.raises(ValueError, match="label 7"):
        list(DataLoader(ds.map(negative), 16))
    loader = DataLoader(ds.map(negative), 16, on_error="skip", num_workers=2)
    assert sum(len(batch["label"]) for batch in loader) == 196 == loader.stats.samples
    assert loader.stats.skipped == 4
    assert "label 7" in loader.stats.errors[0]


def test_several_datasets(ds: recordio.ShardDataset) -> None:
    assert sorted(labels(DataLoader(ds[:100] + ds[100:], 30, True))) == list(range(200))
    mixture = recordio.Mixture([(ds[:50], 1), (ds[50:], 3)])
    assert sorted(labels(DataLoader(mixture, 30, True, num_workers=2))) == list(range(200))


def test_weights_reach_the_loader(ds: recordio.ShardDataset) -> None:
    weights = np.r_[np.zeros(190), np.ones(10)]
    assert sorted(labels(DataLoader(ds, 30, True, weights=weights))) == [n for n in range(190, 200) for _ in range(20)]


def test_a_loader_that_is_dropped_ends_its_workers(ds: recordio.ShardDataset) -> None:
    """Without the garbage collector: nothing that a tool sees of a loader keeps it."""
    before = set(threading.enumerate())
    loader = DataLoader(ds, 8, num_workers=2, persistent_workers=True)
    assert len(list(loader)) == 25
    workers = set(threading.enumerate()) - before
    assert workers
    gc.disable()
    try:
        del loader
        for worker in workers:
            worker.join(10)
            assert not worker.is_alive()
    finally:
        gc.enable()


def test_leaving_an_epoch_early_ends_its_threads(ds: recordio.ShardDataset) -> None:
    before = set(threading.enumerate())
    for _ in DataLoader(ds, 8, num_workers=2):
        assert set(threading.enumerate()) - before
        break
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"shuffle": True, "drop_last": True, "seed": 3}])
def test_a_loader_built_from_its_samplers_gives_its_batches(ds: recordio.ShardDataset, options: dict[str, Any]) -> None:
    made, again = DataLoader(ds, 7, **options), DataLoader(ds, 7, **options)
    rebuilt = data.DataLoader(ds, batch_sampler=made.batch_sampler)
    assert len(rebuilt) == len(again)
    for _ in range(2):  # epochs
        assert [b["label"].tolist() for b in rebuilt] == [b["label"].tolist() for b in again]
    singles = data.DataLoader(ds, 7, sampler=DataLoader(ds, 7, **options).sampler, drop_last=bool(again.drop_last))
    again.set_epoch(0)
    assert [b["label"].tolist() for b in singles] == [b["label"].tolist() for b in again]


def test_weights_reach_a_loader_that_is_built_from_the_sampler(ds: recordio.ShardDataset) -> None:
    weights = np.zeros(len(ds))
    weights[:3] = 1
    made, again = (DataLoader(ds, 8, shuffle=True, weights=weights) for _ in range(2))
    assert labels(data.DataLoader(ds, batch_sampler=made.batch_sampler)) == labels(again)
