"""Loaders whose lanes have blocks of their own: which datasets can, and what their state says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import recordio
import recordio.torch
from recordio import ConcatDataset, DataLoader, Mixture, SchemaError, ShardDataset
from tests.epochs import numbers_of, write_numbers

COUNT = 240
STICKY: dict[str, Any] = {"shuffle": True, "window_bytes": 3000, "lanes": 4, "lane_affinity": True}
POOLS: dict[str, Any] = {"shuffle": True, "window_bytes": 3000, "lanes": 4, "unit_bytes": 900, "pool_bytes": 6000}


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    return write_numbers(tmp_path_factory.mktemp("by_lane"), range(COUNT))


def numbers(loader: Any) -> list[int]:
    return [n for batch in loader for n in numbers_of(batch)]


@pytest.mark.parametrize("more", [{}, {"unit_bytes": 900, "pool_bytes": 6000}], ids=["blocks", "pools"])
def test_a_rank_delivers_the_same_samples_in_every_epoch_in_another_order(ds: ShardDataset, more: Any) -> None:
    for view in (ds, ds.filter(lambda sample: sample["number"] % 7 > 0), ds[::-1]):
        shares = []
        for rank in range(4):
            loader = DataLoader(view, 16, rank=rank, world_size=4, even_batches=False, **STICKY, **more)
            first, second = numbers(loader), numbers(loader)
            other = numbers(DataLoader(view, 16, rank=rank, world_size=4, even_batches=False, seed=7, **STICKY, **more))
            assert set(first) == set(second) == set(other)
            assert first != second
            shares += first
        assert sorted(shares) == sorted(int(n) for n in view.column("number"))


@pytest.mark.parametrize("options", [STICKY, POOLS], ids=["affinity", "pools"])
def test_the_state_says_the_options_only_where_they_are_used(ds: ShardDataset, options: Any) -> None:
    loader = DataLoader(ds, 16, **options)
    found = numbers(batch for _, batch in zip(range(3), loader, strict=False))
    state = loader.state_dict()
    again = DataLoader(ds, 16, **options)
    again.load_state_dict(state)
    assert sorted(found + numbers(again)) == list(range(COUNT))
    plain = {name: value for name, value in options.items() if name not in ("lane_affinity", "pool_bytes")}
    off = DataLoader(ds, 16, **plain, lane_affinity=False, pool_bytes=0)
    assert set(off.state_dict()["shuffle"]) == {"window_bytes", "unit_bytes", "lanes"}
    with pytest.raises(SchemaError, match=r"the state is of another shuffle: .*(lane_affinity|pool_bytes)"):
        off.load_state_dict(state)
    with pytest.raises(SchemaError, match=r"another shuffle: .*this loader has .*(affinity|pool_bytes)"):
        again.load_state_dict(off.state_dict())


def test_several_datasets_have_no_affinity_and_pools(ds: ShardDataset) -> None:
    for several in (ds + ds, ConcatDataset([ds]), (ds + ds)[:9], Mixture([(ds, 1), (ds[:9], 2)])):
        with pytest.raises(SchemaError, match=r"lane_affinity is for one dataset: .* recordio\.merge"):
            DataLoader(several, 16, **STICKY)
        DataLoader(several, 16, lane_affinity=True)  # of no consequence in order
        assert len(numbers(DataLoader(several, 16, **POOLS))) == len(several)


def test_a_merged_dataset_has_affinity(ds: ShardDataset, tmp_path: Path) -> None:
    recordio.merge(tmp_path / "both", [ds.store.storage.folder] * 2)  # type: ignore[attr-defined]
    loader = DataLoader(ShardDataset(tmp_path / "both"), 16, **STICKY)
    assert sorted(numbers(loader)) == sorted([*range(COUNT)] * 2)


def test_loaders_of_torch_take_the_options(ds: ShardDataset) -> None:
    for options in (STICKY, POOLS):
        want = [numbers_of(batch) for batch in DataLoader(ds, 16, **options)]
        found = [batch["number"].tolist() for batch in recordio.torch.DataLoader(ds, 16, **options, seed=0)]
        assert found == want
        single = recordio.torch.IterableShards(ds, seed=0, **options)
        assert [int(sample["number"]) for sample in single] == [n for batch in want for n in batch]


def test_whole_batches_have_no_affinity(ds: ShardDataset) -> None:
    with pytest.raises(SchemaError, match="lane_affinity deals single samples to the ranks"):
        recordio.torch.IterableShards(ds, batch_size=16, **STICKY)
    recordio.torch.IterableShards(ds, batch_size=1, **STICKY)
    recordio.torch.IterableShards(ds, batch_size=16, **POOLS)
