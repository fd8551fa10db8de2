"""`recordio.torch.DataLoader` with workers: the same tensors from threads and processes, in memory that stays."""

from __future__ import annotations

import copy
import gc
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import data

import recordio
from recordio.torch import DataLoader
from tests.reader import maps
from tests.reader.torch.comparing import same
from tests.reader.workers import makers

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than this machine has cores
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
WAYS: dict[str, dict[str, Any]] = {
    "threads": {"num_workers": 2},
    "fork": {"num_workers": 2, "multiprocessing_context": "fork"},
    "forkserver": {"num_workers": 2, "multiprocessing_context": "forkserver"},
    "spawn": {"num_workers": 2, "multiprocessing_context": "spawn"},
}
FORK = WAYS["fork"]
every_way = pytest.mark.parametrize("way", WAYS)
quick_ways = pytest.mark.parametrize("way", ["threads", "fork"])


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> recordio.ShardDataset:
    folder = tmp_path_factory.mktemp("workers")
    with recordio.DatasetWriter(folder, block_bytes=500, shard_samples=70) as writer:
        for n in range(200):
            writer.write({"row": np.full(4, n, np.float32), "label": n, "text": f"sample {n}"})
    return recordio.ShardDataset(folder)


class Own(torch.Tensor):
    """As torchvision has its own, which torch stacks to plain ones."""

    @classmethod
    def __torch_function__(cls, *given: Any, **options: Any) -> Any:
        found = super().__torch_function__(*given, **options)
        return found.as_subclass(torch.Tensor) if isinstance(found, cls) else found


def halved(sample: dict[str, Any]) -> dict[str, Any]:
    return {"half": torch.full((2,), sample["label"] / 2, dtype=torch.bfloat16)}


def with_gradient(sample: dict[str, Any]) -> dict[str, Any]:
    return {"x": torch.tensor(sample["row"], requires_grad=True), "y": torch.tensor(sample["label"])}


def of_own_class(sample: dict[str, Any]) -> dict[str, Any]:
    return {"x": torch.from_numpy(sample["row"]).as_subclass(Own)}


def of_any_length(sample: dict[str, Any]) -> dict[str, Any]:
    return {"x": torch.ones(int(sample["label"]) % 3)}


def large(sample: dict[str, Any]) -> Any:
    return torch.full((100, 100), float(sample["label"])), {"label": sample["label"]}


@every_way
def test_persistent_workers_make_the_batches_of_every_epoch(ds: recordio.ShardDataset, way: str) -> None:
    options: dict[str, Any] = {"batch_size": 16, "shuffle": True, "drop_last": True, "seed": 3}
    alone = DataLoader(ds, **options)
    loader = DataLoader(ds.map(maps.with_worker), **options, **WAYS[way], persistent_workers=True)
    pids = []
    for _ in range(3):
        batches = list(loader)
        assert len(batches) == 12
        pids.append({int(pid) for batch in batches for pid in batch.pop("pid")})
        has_torch = {bool(one) for batch in batches for one in batch.pop("torch")}
        assert has_torch == {way in ("threads", "fork")}  # no need to import it, so no time for it
        assert {int(one) for batch in batches for one in batch.pop("worker")} == {-1}
        assert all(map(same, batches, alone))
    assert pids[0] == pids[1] == pids[2]
    assert len(pids[0]) == (1 if way == "threads" else 2)


@quick_ways
def test_every_kind_of_batch_comes_from_workers(ds: recordio.ShardDataset, way: str) -> None:
    pairs = ds.map(maps.paired)
    for dataset, options in (
        (ds, {"batch_size": None, "shuffle": True}),
        (ds, {"batch_size": None, "sampler": [7, 3]}),
        (ds, {"batch_size": None, "sampler": [7, 3], "collate_fn": lambda sample: sample["text"]}),
        (ds, {"batch_sampler": [[7, 3], [5]]}),
        (ds, {"batch_size": 30, "collate_fn": lambda samples: [sample["row"] for sample in samples]}),
        (ds, {"batch_size": 30, "collate_fn": data.default_collate}),
        (ds, {"batch_size": 30, "collate_fn": data.default_convert}),
        (pairs, {"batch_size": 30, "shuffle": True}),
        (pairs, {"batch_size": None}),
        (pairs + ds, {"batch_size": 30, "collate_fn": len}),
    ):
        expected = list(DataLoader(dataset, **options))
        found = list(DataLoader(dataset, **options, **WAYS[way]))
        assert len(found) == len(expected) > 0
        if isinstance(expected[0], list) and isinstance(expected[0][0], np.ndarray):
            assert all(np.array_equal(mine, other) for mine, other in zip(found, expected, strict=True))
        else:
            assert all(map(same, found, expected))


@quick_ways
def test_results_of_maps_are_collated_as_torch_does(ds: recordio.ShardDataset, way: str) -> None:
    for function in (maps.paired, with_gradient, halved, of_own_class, large):
        mapped = ds[:50].map(function)
        batches = list(DataLoader(mapped, 20, **WAYS[way]))
        assert all(map(same, batches, data.DataLoader(mapped, 20)))
    for batch in DataLoader(ds[:9].map(of_any_length), 3, **WAYS[way]):
        assert [len(x) for x in batch["x"]] == [0, 1, 2]


def test_a_spawned_worker_imports_torch_when_a_batch_needs_it(ds: recordio.ShardDataset) -> None:
    loader = DataLoader(ds[:40].map(maps.counted), 20, num_workers=1, multiprocessing_context="spawn")
    for k, (row, made) in enumerate(loader):
        assert torch.equal(row, torch.arange(20 * k, 20 * k + 20.0)[:, None].expand(20, 4))
        assert set(made["threads"].tolist()) == {1}
        assert made["had torch"].tolist() == [k > 0, *[True] * 19]


def test_torchs_own_conversion_of_a_batch_stays_a_list_of_samples(ds: recordio.ShardDataset) -> None:
    options: dict[str, Any] = {"batch_size": 3, "collate_fn": data.default_convert}
    assert all(map(same, DataLoader(ds[:7], **options), data.DataLoader(ds[:7], **options)))


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_worker_init_fn_is_called_first(ds: recordio.ShardDataset, way: str) -> None:
    loader = DataLoader(ds.map(maps.with_worker), 10, worker_init_fn=makers.note_number, **WAYS[way])
    assert {int(worker) for batch in loader for worker in batch["worker"]} == {0, 1}


def test_worker_init_fn_can_be_set_later(ds: recordio.ShardDataset) -> None:
    loader = DataLoader(ds.map(maps.with_worker), 10, **FORK)
    loader.worker_init_fn = makers.note_number  # as trainers do, to seed
    assert {int(worker) for batch in loader for worker in batch["worker"]} == {0, 1}


def test_a_worker_that_is_too_slow_is_an_error(ds: recordio.ShardDataset) -> None:
    with pytest.raises(recordio.WorkerError, match=r"timeout=0\.2 seconds"):
        next(iter(DataLoader(ds.map(maps.slow), 10, timeout=0.2, **FORK)))


def test_an_error_in_a_worker_is_raised_with_its_place(ds: recordio.ShardDataset) -> None:
    with pytest.raises(LookupError, match="not 0") as caught:
        list(DataLoader(ds.map(maps.failing), 10, **FORK))
    assert "shard-00000.rio" in "".join(caught.value.__notes__)


def test_unpicklable_maps_need_fork(ds: recordio.ShardDataset) -> None:
    assert list(DataLoader(ds, 150, collate_fn=lambda samples: len(samples), **FORK)) == [150, 50]
    with pytest.raises(recordio.WorkerError, match=r"worker processes cannot import .*lambda"):
        list(DataLoader(ds, 150, collate_fn=lambda samples: len(samples), **WAYS["spawn"]))


def lies_in_shared_memory(tensor: torch.Tensor) -> bool:
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(address, 16) for address in line.split()[0].split("-"))
        if begin <= tensor.data_ptr() < end:
            return "memfd:recordio" in line
    return False


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux says what memory is")
def test_tensors_of_processes_lie_in_shared_memory_and_outlive_the_workers(ds: recordio.ShardDataset) -> None:
    loader = DataLoader(ds.map(large), 10, **FORK)
    kept = [x for x, _ in loader]
    del loader
    gc.collect()
    assert sum(map(lies_in_shared_memory, kept)) >= 4  # whoever keeps more gets copies
    assert list(DataLoader(ds.map(large), 10, **FORK))
    for n, tensor in enumerate(kept):
        assert torch.equal(tensor[:, 5, 5], torch.arange(10 * n, 10 * n + 10, dtype=torch.float32))
        tensor.neg_()
    assert torch.equal(kept[1][:, 0, 0], -torch.arange(10, 20, dtype=torch.float32))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux says what memory is")
def test_consumer_that_holds_two_batches_gets_no_copies(ds: recordio.ShardDataset) -> None:
    last: list[torch.Tensor] = []
    for x, _ in DataLoader(ds.map(large), 10, **FORK):
        assert lies_in_shared_memory(x)
        last = [*last, x][-2:]


@quick_ways
def test_pinning_without_a_gpu_changes_nothing(ds: recordio.ShardDataset, way: str) -> None:
    assert all(map(same, DataLoader(ds, 50, pin_memory=True, **WAYS[way]), DataLoader(ds, 50)))


@quick_ways
def test_loader_with_idle_workers_can_be_copied(ds: recordio.ShardDataset, way: str) -> None:
    loader = DataLoader(ds, 50, True, persistent_workers=True, **WAYS[way])
    assert len(list(loader)) == 4
    copies = pickle.loads(pickle.dumps(loader)), copy.deepcopy(loader)
    expected = list(loader)
    for one in copies:
        assert all(map(same, one, expected))


def test_data_parallel_takes_the_tensors(ds: recordio.ShardDataset) -> None:
    model = torch.nn.DataParallel(torch.nn.Linear(4, 1))
    for batch in DataLoader(ds, 40, True, **FORK):
        model(batch["row"]).sum().backward()
    assert torch.equal(model.module.weight.grad[0].cpu(), torch.full((4,), float(sum(range(200)))))
