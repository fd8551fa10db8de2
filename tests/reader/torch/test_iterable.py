"""Inside PyTorch's own loader: a `ShardDataset` works unchanged, and `IterableShards` gives each worker its share."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PIL
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    Subset,
    WeightedRandomSampler,
    random_split,
)

from recordio import DatasetError, DatasetWriter, Image, Mixture, SchemaError, ShardDataset
from recordio.torch import IterableShards

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than this machine has cores
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


@pytest.fixture(params=[None, "zstd"])
def ds(request: pytest.FixtureRequest, tmp_path: Path) -> ShardDataset:
    with DatasetWriter(tmp_path / "it", compression=request.param, block_bytes=512) as writer:
        for n in range(300):
            writer.write({"x": np.full((2, 3), n, np.float32), "label": n, "name": f"n{n}"})
    return ShardDataset(tmp_path / "it")


@pytest.fixture
def plain(tmp_path: Path) -> ShardDataset:
    with DatasetWriter(tmp_path / "plain", block_bytes=512, shard_samples=50) as writer:
        for n in range(103):
            writer.write({"x": np.full(3, n, np.float32), "label": n, "name": f"n{n}"})
    return ShardDataset(tmp_path / "plain")


def labels(batches: Any) -> list[int]:
    out: list[int] = []
    for batch in batches:
        assert batch["x"].dtype == torch.float32
        assert (batch["x"].flatten(1)[:, 0] == batch["label"]).all()
        assert batch["name"] == [f"n{n}" for n in batch["label"].tolist()]
        out += batch["label"].tolist()
    return out


def loaded(dataset: Any, batch_size: int = 10, workers: int = 0, start: str = "fork", **options: Any) -> Any:
    context = start if workers else None
    return DataLoader(dataset, batch_size, num_workers=workers, multiprocessing_context=context, **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_sample_once_and_as_tensors(ds: ShardDataset, workers: int) -> None:
    torch.manual_seed(0)
    ds[5]  # so that shards are open before a fork
    loader = loaded(ds, 32, workers, shuffle=True, persistent_workers=workers > 0)
    for _ in range(2):
        found = labels(loader)
        assert sorted(found) == list(range(300))
        assert found != sorted(found)


@pytest.mark.parametrize("start", ["forkserver", "spawn"])
def test_workers_reopen_the_dataset(plain: ShardDataset, start: str) -> None:
    view = plain[3:].map(named)
    assert labels(loaded(view, 16, 1, start)) == list(range(3, 103))


def named(sample: dict[str, Any]) -> dict[str, Any]:
    return {**sample, "name": f"n{sample['label']}"}


def test_splits_and_subsets_of_torch_work(ds: ShardDataset) -> None:
    parts = random_split(ds, [200, 100], generator=torch.Generator().manual_seed(1))
    assert sorted(itertools.chain(*(labels(loaded(part, 50)) for part in parts))) == list(range(300))
    assert labels(loaded(Subset(ds, [7, 3, 7]), 2, 1)) == [7, 3, 7]
    assert labels(loaded(ConcatDataset([ds[:3], Subset(ds, [9])]), 3)) == [0, 1, 2, 9]


def test_samplers_of_torch_work(ds: ShardDataset) -> None:
    assert labels(loaded(ds, 4, sampler=WeightedRandomSampler([0.0] * 299 + [1.0], 10))) == [299] * 10
    ranks = [DistributedSampler(ds, num_replicas=2, rank=rank) for rank in range(2)]
    assert sorted(itertools.chain(*(labels(loaded(ds, 32, sampler=rank)) for rank in ranks))) == list(range(300))


def test_concatenated_and_mixed_datasets_work(plain: ShardDataset) -> None:
    assert labels(loaded(plain[50:] + plain[:50], 20, 1)) == [*range(50, 103), *range(50)]
    mixture = Mixture([(plain[:50], 1), (plain[50:100], 1)])
    assert sorted(labels(loaded(mixture, 20, shuffle=True))) == list(range(100))


def test_single_samples_are_converted_by_torch(plain: ShardDataset) -> None:
    sample = next(iter(loaded(plain, None)))  # type: ignore[arg-type]
    assert torch.equal(sample["x"], torch.zeros(3))
    assert (sample["label"].item(), sample["name"]) == (0, "n0")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_decoded_images_become_tensors_without_a_warning(tmp_path: Path, kind: str) -> None:
    """PyTorch warns of arrays that cannot be written to."""
    with DatasetWriter(tmp_path, {"image": Image(), "pixels": Image(shape=(4, 6, 3))}) as writer:
        for n in range(6):
            file, pixels = BytesIO(), np.full((4, 6, 3), 10 * n, np.uint8)
            PIL.fromarray(pixels).save(file, kind, **{"WEBP": {"lossless": True}}.get(kind, {}))
            writer.write({"image": file.getvalue(), "pixels": pixels})
    for batch in DataLoader(ShardDataset(tmp_path), 3):
        assert batch["image"].shape == batch["pixels"].shape == (3, 4, 6, 3)
        assert (batch["image"] == batch["pixels"]).all()
    torch.from_numpy(ShardDataset(tmp_path)[0]["image"]).fill_(1)
    torch.from_numpy(ShardDataset(tmp_path)[0]["pixels"]).fill_(1)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("shuffle", [False, True])
def test_iterable_shards_share_the_samples_out(plain: ShardDataset, workers: int, world: int, shuffle: bool) -> None:
    found = []
    for rank in range(world):
        shards = IterableShards(plain, shuffle, rank=rank, world_size=world, window_samples=20)
        found.append(labels(loaded(shards, 9, workers)))
        shards.set_epoch(0)
        assert set(found[-1]) == {int(sample["label"]) for sample in shards}  # however many workers a rank has
    assert sorted(itertools.chain(*found)) == list(range(103))
    if workers < 2 and not shuffle:
        assert found == [list(range(rank, 103, world)) for rank in range(world)]


def test_iterable_shards_gives_the_samples_of_the_dataset(plain: ShardDataset) -> None:
    for mine, sample in zip(IterableShards(plain), plain, strict=True):
        assert (mine["label"], mine["name"]) == (sample["label"], sample["name"])
        assert isinstance(mine["x"], np.ndarray)
        assert (mine["x"] == sample["x"]).all()
    both = IterableShards(plain + plain, True)
    assert sorted(labels(loaded(both, 9, 2))) == sorted([*range(103)] * 2)
    weighted = IterableShards(plain, True, weights=np.r_[np.zeros(102), 1])
    assert labels(loaded(weighted, 50)) == [102] * 103


def test_every_iteration_is_the_next_epoch(plain: ShardDataset) -> None:
    shards = IterableShards(plain, True, seed=3)
    epochs = [labels(loaded(shards)) for _ in range(3)]
    assert [len({tuple(epoch) for epoch in epochs}), *map(len, epochs)] == [3, 103, 103, 103]
    shards.set_epoch(1)
    assert labels(loaded(shards)) == epochs[1]
    assert labels(loaded(shards)) == epochs[2]
    next(iter(shards))
    shards.set_epoch(0)
    assert labels(loaded(shards)) == epochs[0]
    with pytest.raises(SchemaError, match="epoch is -1"):
        shards.set_epoch(-1)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_persistent_workers_advance_and_follow_set_epoch(plain: ShardDataset, start: str) -> None:
    shards, alone = IterableShards(plain, True), IterableShards(plain, True)
    expected = [labels(loaded(alone)) for _ in range(6)]
    loader = loaded(shards, 10, 1, start, persistent_workers=True)
    assert [labels(loader), labels(loader)] == expected[:2]
    shards.set_epoch(4)
    assert [labels(loader), labels(loader)] == expected[4:]


@pytest.mark.parametrize("persistent", [False, True])
def test_the_order_changes_each_epoch_by_itself(plain: ShardDataset, persistent: bool) -> None:
    shards, alone = IterableShards(plain, True, seed=1), IterableShards(plain, True, seed=1)
    loader = loaded(shards, 10, 3, persistent_workers=persistent)
    for said, epoch in ((None, 0), (None, 1), (None, 2), (5, 5), (None, 6), (1, 1), (None, 2)):
        if said is not None:
            shards.set_epoch(said)
        alone.set_epoch(epoch)
        torch.manual_seed(0)  # each epoch of the loader draws the same number
        found = labels(loader)
        assert sorted(found) == list(range(103))
        assert shards._epochs.upcoming(None) == (epoch + 1, 0)
        first = labels(loaded(alone, 103))  # a worker has its samples in the order of the epoch
        assert [n for n in first if n in found[:5]] == found[:5]


def test_workers_that_are_stopped_early_agree_on_the_next_epoch(plain: ShardDataset) -> None:
    shards = IterableShards(plain, True)
    for _ in range(3):
        next(iter(loaded(shards, 5, 3)))
    assert sorted(labels(loaded(shards, 5, 2))) == list(range(103))
    assert sorted(labels(loaded(shards, 5, 3))) == list(range(103))


def test_copies_have_epochs_of_their_own(plain: ShardDataset) -> None:
    shards = IterableShards(plain, True)
    labels(loaded(shards, 10, 2))
    again = [pickle.loads(pickle.dumps(shards)), copy.deepcopy(shards), shards]
    found = [labels(loaded(one, 10, 2)) for one in again]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("world", [1, 2])
def test_with_the_batch_size_one_batch_is_partial(plain: ShardDataset, workers: int, world: int) -> None:
    found, sizes = [], []
    for rank in range(world):
        shards = IterableShards(plain, True, 10, rank=rank, world_size=world)
        loader = loaded(shards, 10, workers)
        batches = list(loader)
        assert (len(loader), len(shards)) == (len(batches), sum(len(batch["label"]) for batch in batches))
        sizes += [len(batch["label"]) for batch in batches]
        found += labels(batches)
    assert sorted(found) == list(range(103))
    assert sorted(sizes) == [3, *[10] * 10]
    with pytest.raises(TypeError, match=r"IterableShards.*batch_size="):
        len(loaded(IterableShards(plain), 10))


def test_a_state_in_the_middle_of_a_run(plain: ShardDataset) -> None:
    for n in (0, 1, 9, 10, 11, 30, 52):
        shards, again = (IterableShards(plain, True, 10, rank=1, world_size=2) for _ in range(2))
        samples = iter(shards)
        seen = [int(next(samples)["label"]) for _ in range(min(n, 50))]
        again.load_state_dict(json.loads(json.dumps(shards.state_dict())))
        rest = [int(sample["label"]) for sample in again]
        assert rest == [int(sample["label"]) for sample in samples]
        assert len({*seen, *rest}) == len(seen) + len(rest) == 50


def test_seeds_of_torch_change_the_order(plain: ShardDataset) -> None:
    orders = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        orders.append(labels(loaded(IterableShards(plain, True), 10, 2)))
    assert orders[0] == orders[2] != orders[1]
    resumed = IterableShards(plain, True)
    torch.manual_seed(2)
    resumed.load_state_dict(IterableShards(plain, True, seed=9).state_dict())
    assert labels(loaded(resumed)) == labels(loaded(IterableShards(plain, True, seed=9)))


class SharedAgain(IterableDataset[Any]):
    """As accelerate and transformers have one."""

    num_processes = 2

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Any:
        yield from itertools.islice(self.dataset, 0, None, 2)


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_that_are_shared_out_twice_are_refused(plain: ShardDataset, workers: int) -> None:
    shards = IterableShards(plain, rank=0, world_size=2)
    with pytest.raises(SchemaError, match="shared out twice: to 2 ranks here, and by SharedAgain"):
        list(loaded(SharedAgain(shards), 10, workers))
    assert len(labels(loaded(SharedAgain(IterableShards(plain)), 10, workers))) == 52


@pytest.mark.parametrize("n", [0, 1, 50, 102, 103])
def test_state_follows_the_iteration(plain: ShardDataset, n: int) -> None:
    shards = IterableShards(plain, True)
    samples = iter(shards)
    first = [int(next(samples)["label"]) for _ in range(n)]
    state = json.loads(json.dumps(shards.state_dict()))
    rest = [int(sample["label"]) for sample in samples]
    assert shards.state_dict()["position"] == 103
    again = IterableShards(plain, True)
    again.load_state_dict(state)
    assert again.state_dict() == state
    assert [int(sample["label"]) for sample in again] == rest
    assert sorted(first + rest) == list(range(103))
    assert labels(loaded(again)) == labels(loaded(shards))  # the next epoch of both


def test_state_includes_set_epoch(plain: ShardDataset) -> None:
    shards, again = IterableShards(plain, True), IterableShards(plain, True)
    shards.set_epoch(3)
    again.load_state_dict(shards.state_dict())
    assert labels(loaded(again)) == labels(loaded(shards))
    assert again.state_dict()["epoch"] == 3


class Worker:
    """What torch tells a worker process about itself."""

    def __init__(self, number: int, count: int) -> None:
        self.id, self.num_workers, self.seed, self.dataset = number, count, 100 + number, None


@pytest.mark.parametrize("given", [10, 103])
def test_the_states_of_workers_resume(plain: ShardDataset, monkeypatch: pytest.MonkeyPatch, given: int) -> None:
    """Of workers, some may have given all their samples when others have not: they do not begin the next epoch."""
    seen: list[int] = []
    states, rest = [], []
    for number in range(3):
        monkeypatch.setattr("torch.utils.data.get_worker_info", lambda number=number: Worker(number, 3))
        shards = IterableShards(plain, True)
        seen += [int(sample["label"]) for sample in itertools.islice(shards, given if number else 100)]
        states.append(shards.state_dict())
        shards = IterableShards(plain, True)
        shards.load_state_dict(states[-1])
        rest += [int(sample["label"]) for sample in shards]
    assert sorted(seen + rest) == list(range(103))
    monkeypatch.setattr("torch.utils.data.get_worker_info", lambda: Worker(0, 2))
    shards.load_state_dict(states[1])
    with pytest.raises(SchemaError, match=r"\[1, 3\] ranks and workers, here are \[1, 2\]"):
        iter(shards)


def test_the_state_of_one_worker_resumes_with_more(plain: ShardDataset) -> None:
    shards = IterableShards(plain, True)
    seen = [int(sample["label"]) for sample in itertools.islice(shards, 40)]
    again = IterableShards(plain, True)
    again.load_state_dict(shards.state_dict())
    assert sorted(seen + labels(loaded(again, 9, 2))) == list(range(103))


def test_iterable_shards_refuses_wrong_arguments(plain: ShardDataset) -> None:
    for wrong in ({"window_bytes": 0}, {"rank": 1}, {"rank": 2, "world_size": 2}, {"on_error": "hide"}, {"seed": -1}):
        with pytest.raises(SchemaError, match=next(iter(wrong))):
            IterableShards(plain, **wrong)  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match="expected a ShardDataset"):
        IterableShards([1, 2])  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match="another dataset"):
        IterableShards(plain).load_state_dict(IterableShards(plain[1:]).state_dict())


def bad(sample: dict[str, Any]) -> dict[str, Any]:
    if sample["label"] % 10 == 3:
        raise ValueError("bad")
    return sample


def test_bad_samples_are_skipped_on_request(plain: ShardDataset) -> None:
    shards = IterableShards(plain.map(bad), True, on_error="skip")
    assert sorted(labels(loaded(shards, 9, 2))) == [n for n in range(103) if n % 10 != 3]
    with pytest.raises(ValueError, match="bad"):
        list(IterableShards(plain.map(bad)))
