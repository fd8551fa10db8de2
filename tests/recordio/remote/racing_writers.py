"""Two writers at once, at one URL of any store: one wins, and its dataset is whole."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

import recordio
from recordio import DatasetError, DatasetWriter, ShardDataset
from tests.effort import LONG

SCHEMA = {"x": recordio.Array("float32", (100,)), "n": recordio.Scalar("int64")}
LAYOUT: dict[str, Any] = {"compression": None, "shard_bytes": 1 << 14, "block_bytes": 1 << 12}
COUNT = 60
RACES = 100 if LONG else 10


def add(writer: DatasetWriter, numbers: range) -> None:
    with writer:
        for n in numbers:
            writer.write({"x": np.full(100, n, np.float32), "n": n})


def one_wins(url: str, storage: Mapping[str, Any], times: int) -> None:
    """Races so often, each at a place of its own: every second one for a dataset that is there already."""
    for k in range(times):
        place, options = f"{url}/{k}", {}
        if k % 2:
            add(DatasetWriter(place, SCHEMA, **LAYOUT, storage=storage), range(5))
            options = {"mode": "overwrite"}
        (error,) = _race(place, storage, **options)
        assert "another writer has published there meanwhile" in str(error)
        found = ShardDataset(place, storage=storage, cache=None).column("n").tolist()
        assert found in ([*range(COUNT)], [*range(1000, 1000 + COUNT)])


def _race(url: str, storage: Mapping[str, Any], **options: Any) -> list[BaseException]:
    """The errors of two writers of different samples."""
    writers = [DatasetWriter(url, SCHEMA, **LAYOUT, **options, storage=storage) for _ in range(2)]
    errors: list[BaseException] = []

    def run(own: int) -> None:
        try:
            add(writers[own], range(1000 * own, 1000 * own + COUNT))
        except DatasetError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(own,)) for own in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
