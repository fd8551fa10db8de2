"""The seed of a loader: given, or that of a generator, or torch's; drawn once, and part of the state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import data

import recordio
from recordio import SchemaError, ShardDataset
from recordio.torch import DataLoader


@pytest.fixture
def ds(tmp_path: Path) -> ShardDataset:
    with recordio.DatasetWriter(tmp_path / "seeds", block_bytes=512) as writer:
        for n in range(100):
            writer.write({"label": n})
    return ShardDataset(tmp_path / "seeds")


def labels(loader: Any) -> list[int]:
    return [n for batch in loader for n in batch["label"].tolist()]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_generator_decides_on_the_order(ds: ShardDataset) -> None:
    found = [labels(DataLoader(ds, 10, True, generator=generator(seed))) for seed in (1, 2, 1)]
    assert found[0] == found[2] != found[1]
    assert found[0] == labels(DataLoader(ds, 10, True, seed=1))
    assert labels(DataLoader(ds, 10, True, seed=5, generator=generator(1))) == labels(DataLoader(ds, 10, True, seed=5))


def test_torchs_seed_decides_on_the_order(ds: ShardDataset) -> None:
    orders = []
    for seed in (1, 2, 1, -1):
        loader = DataLoader(ds, 10, True)
        torch.manual_seed(seed)
        orders.append(labels(loader))
    assert orders[0] == orders[2]
    assert len({tuple(order) for order in orders}) == 3
    assert loader.seed == (1 << 64) - 1


def test_no_number_is_drawn(ds: ShardDataset) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    given = generator(4)
    state = given.get_state()
    labels(DataLoader(ds, 10, True))
    labels(DataLoader(ds, 10, True, generator=given))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(given.get_state(), state)


def test_the_seed_stays_once_it_is_used(ds: ShardDataset) -> None:
    torch.manual_seed(1)
    loader, expected = DataLoader(ds, 10, True), DataLoader(ds, 10, True, seed=1)
    assert labels(loader) == labels(expected)
    torch.manual_seed(2)
    assert labels(loader) == labels(expected)


def test_the_seed_is_in_the_state(ds: ShardDataset) -> None:
    torch.manual_seed(1)
    loader = DataLoader(ds, 10, True)
    batches = iter(loader)
    seen = labels([next(batches) for _ in range(4)])
    state = loader.state_dict()
    torch.manual_seed(2)
    for again in (
        DataLoader(ds, 10, True),
        recordio.DataLoader(ds, 10, True),
        DataLoader(ds, 10, True, rank=0, world_size=1),
    ):
        again.load_state_dict(state)  # type: ignore[attr-defined]
        assert sorted(seen + labels(again)) == list(range(100))
    for wrong in (DataLoader(ds, 10, True, seed=2), DataLoader(ds, 10, True, generator=generator(2))):
        with pytest.raises(SchemaError, match="the state is of another seed: 1, this loader has 2"):
            wrong.load_state_dict(state)


@pytest.mark.parametrize("companions", ["ranks", "launcher", "torch.distributed", "nonsense"])
def test_processes_of_one_job_agree(ds: ShardDataset, monkeypatch: pytest.MonkeyPatch, companions: str) -> None:
    """Each may have called torch.manual_seed with another number."""
    torch.manual_seed(3)
    options: dict[str, Any] = {}
    if companions == "ranks":
        options = {"rank": 0, "world_size": 2}
    elif companions == "torch.distributed":
        monkeypatch.setattr("recordio.reader.order.ranks.distributed_ranks", lambda: (1, 2))
    else:
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2" if companions == "launcher" else "x")
    assert DataLoader(ds, 10, True, **options).seed == 0
    assert DataLoader(ds, 10, True, generator=generator(6), **options).seed == 6
    assert DataLoader(ds, 10, True, seed=7, **options).seed == 7


def test_equal_runs_are_equal_with_torchs_recipe(ds: ShardDataset) -> None:
    """A run draws weights and batches in turn."""

    def run() -> tuple[float, list[int]]:
        torch.manual_seed(0)
        loader: Any = DataLoader(data.Subset(ds, range(50)), 10, True)
        return float(torch.rand(())), labels(loader)

    assert run() == run()
