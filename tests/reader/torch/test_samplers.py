"""What tools build of a loader's attributes delivers the batches of the loader itself."""

from __future__ import annotations

import inspect
import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import data

import recordio
from recordio import Mixture, SchemaError, ShardDataset
from recordio.torch import DataLoader

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than this machine has cores
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    folder = tmp_path_factory.mktemp("samplers")
    with recordio.DatasetWriter(folder, block_bytes=500, shard_samples=70) as writer:
        for n in range(203):
            writer.write({"row": np.full(4, n, np.float32), "label": n, "text": f"sample {n}"})
    return ShardDataset(folder)


def noisy(row: Any, rng: np.random.Generator) -> Any:
    return row + rng.random(4, np.float32)


def failing(sample: dict[str, Any]) -> dict[str, Any]:
    if sample["label"] % 50 == 7:
        raise ValueError("bad")
    return sample


class Skipping(data.BatchSampler):
    """As of accelerate.skip_first_batches."""

    def __init__(self, batch_sampler: Any, skipped: int) -> None:
        self.batch_sampler, self.skipped = batch_sampler, skipped

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self.batch_sampler, self.skipped, None)

    def __len__(self) -> int:
        return len(self.batch_sampler) - self.skipped


class Noting:
    """As Lightning wraps a batch sampler to know the indices of predictions."""

    def __init__(self, batch_sampler: Any) -> None:
        self._batch_sampler, self.seen = batch_sampler, []  # type: ignore[var-annotated]

    def __iter__(self) -> Iterator[Any]:
        for batch in self._batch_sampler:
            self.seen += batch
            yield batch

    def __len__(self) -> int:
        return len(self._batch_sampler)


def torchs(loader: Any, batch_sampler: Any = None, **options: Any) -> Any:
    """Torch's own loader, of the attributes of another one, as accelerate makes it."""
    names = ("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context")
    given = {name: getattr(loader, name) for name in names} | options
    return data.DataLoader(loader.dataset, batch_sampler=batch_sampler or loader.batch_sampler, **given)


def rebuilt(loader: Any, **sampler: Any) -> Any:
    """A loader of the same class, of the public attributes in its signature, as Lightning and Ignite make it."""
    parameters = inspect.signature(type(loader)).parameters
    given = {name: value for name, value in vars(loader).items() if name in parameters}
    for name in ("batch_size", "sampler", "batch_sampler", "drop_last"):
        given.pop(name, None)
    return type(loader)(**given, **sampler)


def equal(batch: Any, other: Any) -> bool:
    if isinstance(batch, torch.Tensor):
        return torch.equal(batch, other)
    if isinstance(batch, dict):
        return batch.keys() == other.keys() and all(equal(batch[name], other[name]) for name in batch)
    return bool(batch == other)


def same(batches: Any, others: Any) -> bool:
    return all(equal(a, b) for a, b in zip(batches, others, strict=True))


def labels(batches: Any) -> list[int]:
    return [n for batch in batches for n in batch["label"].tolist()]


OPTIONS: dict[str, dict[str, Any]] = {
    "in order": {},
    "shuffled": {"shuffle": True},
    "drop_last": {"shuffle": True, "drop_last": True, "window_samples": 50},
    "weights": {"shuffle": True, "weights": np.r_[np.zeros(150), np.ones(53)]},
    "rank": {"shuffle": True, "rank": 1, "world_size": 2},
    "ranks": {"rank": 0, "world_size": 3, "even_batches": False},
    "state": {"shuffle": True, "seed": 7},
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", OPTIONS)
def test_torchs_loader_delivers_the_same(ds: ShardDataset, name: str, workers: int) -> None:
    noisy_ds = ds.transform(row=noisy)
    made, again = (DataLoader(noisy_ds, 16, num_workers=workers, **OPTIONS[name]) for _ in range(2))
    if name == "state":
        iterator = iter(again)
        for _ in range(3):
            next(iterator)
        made.load_state_dict(again.state_dict())
        again.load_state_dict(again.state_dict())
    built = torchs(made)
    if name != "state":
        assert len(built) == len(again)
    for _ in range(2):
        assert same(built, again)


@pytest.mark.parametrize("name", OPTIONS)
def test_batches_can_be_skipped_and_noted(ds: ShardDataset, name: str) -> None:
    made, again = (DataLoader(ds.transform(row=noisy), 16, **OPTIONS[name]) for _ in range(2))
    skipping = torchs(made, Skipping(made.batch_sampler, 3))
    assert same(skipping, list(again)[3:])
    noting = Noting(made.batch_sampler)
    loader = rebuilt(made, batch_sampler=noting)
    expected = list(again)
    assert same(loader, expected)
    assert noting.seen == labels(expected)


def test_batches_can_be_cut_up_and_filled(ds: ShardDataset) -> None:
    """As accelerate does for its processes."""
    made, again = (DataLoader(ds.transform(row=noisy), 16, True, seed=3) for _ in range(2))
    whole = list(again)
    halves = [[batch[:8] for batch in made.batch_sampler], []]  # type: ignore[union-attr]
    made.set_epoch(0)
    halves[1] = [batch[8:] for batch in made.batch_sampler]  # type: ignore[union-attr]
    for half, rows in zip(halves, (slice(0, 8), slice(8, 16)), strict=True):
        for indices, batch in zip(half, whole, strict=True):
            found = made.collate_fn(ds.transform(row=noisy).__getitems__(indices)) if indices else {}
            assert all(equal(found[name], batch[name][rows]) for name in found)
    filled = halves[0][0] + [5, 6]
    assert labels([made.collate_fn(ds.__getitems__(filled))]) == [*halves[0][0], 5, 6]


def test_a_sampler_alone_is_the_order(ds: ShardDataset) -> None:
    made, again = (DataLoader(ds, 16, True, seed=1, drop_last=True) for _ in range(2))
    found = list(made.sampler)
    assert found[:192] == labels(again)
    assert sorted(found) == list(range(203))
    assert len(made.sampler) == 203
    assert labels(data.DataLoader(ds, 16, sampler=DataLoader(ds, 4, True, seed=1).sampler)) == found
    assert labels(DataLoader(ds, 16, sampler=DataLoader(ds, 4, True, seed=1).sampler)) == found


def test_other_batch_sizes_and_last_batches(ds: ShardDataset) -> None:
    """Lightning looks for a batch size, and predicts for the last samples too."""
    made = DataLoader(ds, 16, True, seed=1, drop_last=True)
    other = type(made.batch_sampler)(made.sampler, batch_size=20, drop_last=False)  # type: ignore[call-arg, arg-type, misc]
    built = torchs(made, other)
    assert len(built) == 11
    assert [len(batch["label"]) for batch in built] == [20] * 10 + [3]
    plain = type(made.batch_sampler)(data.SequentialSampler(ds), batch_size=20, drop_last=True)  # type: ignore[call-arg, arg-type, misc]
    assert labels(torchs(made, plain)) == list(range(200))
    assert len(plain) == 10


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_are_skipped_on_request(ds: ShardDataset, workers: int) -> None:
    made, again = (DataLoader(ds.map(failing), 16, on_error="skip", num_workers=workers) for _ in range(2))
    assert labels(torchs(made)) == labels(again) == [n for n in range(203) if n % 50 != 7]
    assert labels(rebuilt(made, batch_sampler=Skipping(made.batch_sampler, 0))) == labels(again)
    alone = DataLoader(ds.map(failing), 1, on_error="skip")
    with pytest.raises(recordio.DatasetError, match="nothing is left of a batch"):
        list(torchs(alone))


def test_a_collate_fn_gets_samples(ds: ShardDataset) -> None:
    def texts(samples: list[dict[str, Any]]) -> list[str]:
        assert type(samples) is list
        return [sample["text"] for sample in samples]

    made, again = (DataLoader(ds, 16, True, collate_fn=texts) for _ in range(2))
    assert made.collate_fn is texts
    assert list(torchs(made)) == list(again)
    default, mine = torchs(again, collate_fn=data.default_collate), DataLoader(ds, 16, True)
    mine.set_epoch(1)
    assert same(default, mine)


def pairs(sample: dict[str, Any]) -> Any:
    return sample["row"], sample["label"]


def test_maps_and_single_samples(ds: ShardDataset) -> None:
    made, again = (DataLoader(ds.map(pairs), 16, True) for _ in range(2))
    for (x, y), (row, label) in zip(torchs(made), again, strict=True):
        assert torch.equal(x, row)
        assert torch.equal(y, label)
    single, expected = (DataLoader(ds, None, True) for _ in range(2))
    assert single.batch_sampler is None
    built = data.DataLoader(ds, None, sampler=single.sampler, collate_fn=single.collate_fn)
    assert same(built, expected)
    assert same(rebuilt(single, batch_size=None, sampler=single.sampler), expected)


@pytest.mark.parametrize("shuffle", [False, True])
def test_combined_datasets_have_an_order_of_indices(ds: ShardDataset, shuffle: bool) -> None:
    concatenated = ds[:90] + ds[90:]
    some = np.random.default_rng(0).permutation(203)[:150]
    for dataset in (
        concatenated,
        concatenated.select(some),
        Mixture([(ds[:100], 1), (ds[100:200], 1)]),
        Mixture([(ds[:30], 1), (ds[30:90], 2), (ds[90:], 1)], stopping_strategy="all_exhausted"),
    ):
        made, again = (DataLoader(dataset, 16, shuffle, seed=5, window_samples=40) for _ in range(2))
        for _ in range(2):
            assert [batch["label"].tolist() for batch in torchs(made)] == [b["label"].tolist() for b in again]
    weights = np.r_[np.ones(20), np.zeros(183)]
    made, again = (DataLoader(concatenated, 16, True, seed=5, weights=weights) for _ in range(2))
    assert labels(torchs(made)) == labels(again)


def test_a_mixture_that_takes_other_samples_each_epoch_has_none(ds: ShardDataset) -> None:
    mixture = Mixture([(ds[:150], 1), (ds[150:], 1)])
    with pytest.raises(SchemaError, match=r"which indices cannot say: .*do not prepare\(\) it"):
        list(torchs(DataLoader(mixture, 16, True)))
    assert labels(torchs(DataLoader(mixture, 16, seed=3))) == labels(DataLoader(mixture, 16, seed=3))


def test_the_types_say_what_the_order_is(ds: ShardDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(DataLoader(ds).sampler, data.SequentialSampler)
    assert not isinstance(DataLoader(ds, shuffle=True).sampler, (data.SequentialSampler, data.RandomSampler))
    shared = DataLoader(ds, 16, True, rank=1, world_size=2, seed=4).sampler
    assert isinstance(shared, data.DistributedSampler)
    assert (shared.num_replicas, shared.rank, shared.shuffle, shared.seed) == (2, 1, True, 4)
    assert (len(shared), shared.num_samples, shared.total_size) == (102, 102, 204)
    monkeypatch.setattr("recordio.reader.loading.loader.distributed_ranks", lambda: (1, 2))
    assert isinstance(DataLoader(ds, ranks="auto").sampler, data.DistributedSampler)
    assert isinstance(DataLoader(ds, 4).batch_sampler, data.BatchSampler)


def test_ranks_are_those_of_the_process_that_iterates(ds: ShardDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trainer makes its processes after the loader."""
    loader = DataLoader(ds, 16, ranks="auto")
    assert (loader.world_size, len(loader)) == (1, 13)
    copied = pickle.loads(pickle.dumps(loader))
    monkeypatch.setattr("recordio.reader.loading.loader.distributed_ranks", lambda: (1, 2))
    for one in (loader, copied):
        assert (one.rank, one.world_size, len(one), len(one.sampler)) == (1, 2, 7, 102)
        assert labels(one)[:101] == list(range(1, 203, 2))


def test_weights_are_not_lost_to_a_sampler(ds: ShardDataset) -> None:
    loader = DataLoader(ds, 16, True, weights=np.ones(203))
    with pytest.raises(SchemaError, match=r"a DistributedSampler decides .* give ranks='auto'"):
        rebuilt(loader, sampler=data.DistributedSampler(ds, 2, 0))
    batches = type(loader.batch_sampler)(data.SequentialSampler(ds), batch_size=16, drop_last=False)  # type: ignore[call-arg, arg-type, misc]
    with pytest.warns(UserWarning, match="not drawn by their weights: the order is that of a SequentialSampler"):
        in_order = rebuilt(loader, batch_sampler=batches)
    assert labels(in_order) == list(range(203))


def test_a_subclass_is_asked_for_epochs_and_states(ds: ShardDataset) -> None:
    class Own(DataLoader[Any]):
        calls: list[Any] = []  # noqa: RUF012

        def set_epoch(self, epoch: int) -> None:
            self.calls.append(epoch)
            super().set_epoch(epoch + 10)

        def state_dict(self) -> dict[str, Any]:
            return super().state_dict() | {"mine": 1}

    loader, other = Own(ds, 16, True, seed=1), DataLoader(ds, 16, True, seed=1)
    loader.sampler.set_epoch(2)  # type: ignore[attr-defined]
    loader.batch_sampler.set_epoch(2)  # type: ignore[union-attr, attr-defined]
    other.set_epoch(12)
    assert loader.calls == [2, 2]
    assert labels(loader) == labels(other)
    assert loader.state_dict()["mine"] == 1
    assert not [name for name in vars(loader) if callable(vars(loader)[name]) and name != "collate_fn"]


def test_an_epoch_begins_with_its_first_batch(ds: ShardDataset) -> None:
    """Lightning makes an iterator, then says which epoch it is, and saves the state while it runs."""
    loader, again = (DataLoader(ds, 16, True, seed=1) for _ in range(2))
    whole = [labels(again) for _ in range(3)]
    batches = iter(loader)
    loader.set_epoch(0)
    seen = labels(itertools.islice(batches, 5))
    again.load_state_dict(loader.state_dict())
    batches = iter(again)
    again.set_epoch(0)
    assert seen + labels(batches) == whole[0]
    batches = iter(loader)
    loader.set_epoch(2)
    assert labels(batches) == whole[2]


def test_batches_are_shared_out_once(ds: ShardDataset) -> None:
    """accelerate shares out the batches of any loader, the share of a rank too."""

    def as_accelerate(batch_sampler: Any, processes: int) -> list[Any]:
        found: list[Any] = []
        code = "class Shard:\n    def run(self, batches, found):\n        found.extend(batches)"
        exec(code, names := {"__name__": "accelerate.data_loader"})
        shard = names["Shard"]()  # type: ignore[operator]
        shard.num_processes = processes
        shard.run(batch_sampler, found)
        return found

    shared = DataLoader(ds, 16, rank=0, world_size=2)
    with pytest.raises(SchemaError, match="shared out twice: to 2 ranks here, and by Shard around it"):
        as_accelerate(shared.batch_sampler, 2)
    assert len(as_accelerate(shared.batch_sampler, 1)) == len(shared)
    assert len(as_accelerate(DataLoader(ds, 16).batch_sampler, 2)) == 13


def test_a_tool_that_counts_epochs_anew_goes_on_with_a_loaded_state(ds: ShardDataset) -> None:
    """As Fabric and accelerate do, which say epoch 0 in a process that resumes epoch 1."""
    made, whole = DataLoader(ds, 16, True, seed=1), DataLoader(ds, 16, True, seed=1)
    expected = [labels(whole) for _ in range(3)]
    made.set_epoch(1)
    batches = iter(made)
    seen = labels(itertools.islice(batches, 4))
    for tool in (torchs, lambda loader: loader):
        again = DataLoader(ds, 16, True, seed=1)
        again.load_state_dict(made.state_dict())
        loader: Any = tool(again)
        again.batch_sampler.set_epoch(0)  # type: ignore[union-attr, attr-defined]
        assert seen + labels(loader) == expected[1]
        again.sampler.set_epoch(1)  # type: ignore[attr-defined]
        assert labels(loader) == expected[2]


def test_how_far_another_loader_is_is_not_guessed(ds: ShardDataset) -> None:
    loader = DataLoader(ds, 16, True)
    built = torchs(loader)
    next(iter(built))
    with pytest.raises(SchemaError, match="made by another loader"):
        loader.state_dict()
    loader.set_epoch(3)
    assert loader.state_dict()["epoch"] == 3
    assert len(list(built)) == 13
    assert loader.state_dict()["epoch"] == 4


def test_batches_that_a_tool_has_changed_are_made_as_they_are(ds: ShardDataset) -> None:
    """Hard negatives, sorted lengths, last batches that are filled up: draws stay those of the samples."""
    view, weights = ds.transform(row=noisy), np.r_[np.zeros(103), np.ones(100)]
    whole = next(iter(DataLoader(view, 16, True, seed=1, weights=weights)))
    batch: Any = next(iter(DataLoader(view, 16, True, seed=1, weights=weights).batch_sampler))  # type: ignore[arg-type]
    filled = [1]
    filled += batch[:4]
    found = view.__getitems__(filled)
    assert [int(sample["label"]) for sample in found] == [1, *whole["label"][:4].tolist()]
    assert all(np.array_equal(sample["row"], row) for sample, row in zip(found[1:], whole["row"].numpy(), strict=False))
    grown = batch[:4]
    grown += [1, 2]
    assert [int(sample["label"]) for sample in view.__getitems__(grown)] == [*whole["label"][:4].tolist(), 1, 2]
    batch.sort()
    batch[0] = 5
    batch.append(6)
    assert [int(sample["label"]) for sample in view.__getitems__(batch)] == [5, *sorted(whole["label"].tolist())[1:], 6]
