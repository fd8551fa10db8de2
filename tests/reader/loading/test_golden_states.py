"""Loaders continue states that an earlier version saved in the middle of an epoch.

golden_states.json holds the states and the batches that followed; it is never regenerated.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import ConcatDataset, DataLoader, Mixture, ShardDataset

GOLDEN = Path(__file__).parents[2] / "golden"
STATES: dict[str, Any] = json.loads(Path(__file__).with_name("golden_states.json").read_text())

LOADERS: dict[str, Callable[[ShardDataset], DataLoader]] = {
    "shuffled": lambda ds: DataLoader(ds, 3, shuffle=True, seed=5),
    "ordered": lambda ds: DataLoader(ds, 3),
    "windows": lambda ds: DataLoader(ds, 2, shuffle=True, window_samples=7, lanes=4),
    "rank": lambda ds: DataLoader(ds, 2, shuffle=True, rank=1, world_size=2),
    "view": lambda ds: DataLoader(ds.select(range(len(ds))[::-1]), 4, shuffle=True),
    "concat": lambda ds: DataLoader(ConcatDataset([ds, ds[3:]]), 4, shuffle=True),
    "mixture": lambda ds: DataLoader(Mixture([(ds, 1), (ds[:9], 2)], "all_exhausted"), 4, shuffle=True),
    "weights": lambda ds: DataLoader(ds, 4, shuffle=True, weights=np.arange(len(ds)) % 3),
    "sampler": lambda ds: DataLoader(ds, 3, sampler=range(len(ds))[::-2]),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_loader_continues_a_state_of_an_earlier_version(kind: str) -> None:
    assert LOADERS.keys() == STATES.keys()
    loader, golden = LOADERS[kind](ShardDataset(GOLDEN / "shards")), STATES[kind]
    loader.load_state_dict(golden["state"])
    assert [batch["number"].tolist() for batch in loader] == golden["rest"]
    assert [batch["number"].tolist() for batch in loader] == golden["next"]
    again = LOADERS[kind](ShardDataset(GOLDEN / "shards"))
    for _ in zip(range(2), again, strict=False):
        pass
    assert golden["state"].items() <= again.state_dict().items()
