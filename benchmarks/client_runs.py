"""What a training client is asked to do, and what it saw: the other side of clients.py, in the client's process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import answer
from torch.utils import data

import recordio
import recordio.torch

BATCH = 16
SAMPLES = 1_000
FAST_BATCH, FAST_SAMPLES = 256, 40_000
STOP_AFTER = 83  # batches: 63 of the first epoch, 20 of the second
SEED = 3
Batch = dict[str, Any]


def write(folder: Path) -> None:
    """Writes `points` and the larger `many`: an id and eight numbers, or pictures of 8 x 8."""
    rng = np.random.default_rng(0)
    for name, samples, block_bytes in (("points", SAMPLES, 1 << 10), ("many", FAST_SAMPLES, 1 << 18)):
        schema = {"x": recordio.Image(shape=(8, 8, 3)), "id": recordio.Scalar("int64")}
        with recordio.DatasetWriter(folder / f"{name}_pictures", schema=schema, block_bytes=block_bytes) as writer:
            writer.write_batch({"x": rng.integers(0, 256, (samples, 8, 8, 3), np.uint8), "id": np.arange(samples)})
        with recordio.DatasetWriter(folder / name, block_bytes=block_bytes) as writer:
            x = rng.standard_normal((samples, 8)).astype(np.float32)
            writer.write_batch({"id": np.arange(samples), "x": x})


def weights() -> Any:
    """Samples with odd numbers are drawn three times as often."""
    return 1 + 2 * (np.arange(SAMPLES) % 2)


class Run:
    """One run of a client.

    Attributes:
        seed: the one that the client is to set, or None; without it the loader is given one.
        epochs: how many, in total.
        resumes: whether there is a checkpoint, in `checkpoint`.
        pairs: whether a sample is (x, id), else a dict.
        batches: the ids of each batch so far, and when it came.
        known_rate: what `rate` is, if the batches came in another process.
    """

    def __init__(self, folder: Path, pairs: bool, **asked: Any) -> None:
        self.folder, self.pairs, self.asked = folder, pairs, asked
        self.epochs: int = asked.get("epochs", 2)
        self.seed: int | None = asked.get("seed")
        self.resumes: bool = asked.get("resumes", False)
        self.fast: bool = asked.get("fast", False)
        self.checkpoint = folder / "checkpoint"
        self.batches: list[tuple[list[int], float]] = []
        self.known_rate: float | None = None

    @property
    def batch_size(self) -> int:
        return FAST_BATCH if self.fast else BATCH

    @property
    def shares(self) -> bool:
        """Whether the loader finds the ranks, not the client."""
        return self.asked.get("ranks") == "auto"

    def dataset(self, pictures: bool = False) -> Any:
        ds = recordio.ShardDataset(
            self.folder / f"{'many' if self.fast else 'points'}{'_pictures' if pictures else ''}"
        )
        return ds.tuples("x", "id") if self.pairs else ds

    def options(self) -> dict[str, Any]:
        """Those of recordio.torch.DataLoader that torch's own lacks."""
        own: dict[str, Any] = {} if self.seed is not None else {"seed": SEED}
        if self.asked.get("weighted"):
            own["weights"] = weights()
        return own | ({"ranks": "auto"} if self.shares else {})

    def loader(self) -> Any:
        """The loader, of torch if it is asked for."""
        if self.asked.get("torchs"):
            return data.DataLoader(self.dataset(), self.batch_size, shuffle=True)
        return recordio.torch.DataLoader(self.dataset(), self.batch_size, shuffle=True, **self.options())

    def begin(self, loader: Any) -> int:
        """Loads the loader's state, if there is one. Returns the epoch to begin with."""
        if not self.resumes:
            return 0
        state = torch.load(self.checkpoint)
        loader.load_state_dict(state)
        return int(state["epoch"])

    def set_seed(self, function: Callable[[int], Any]) -> None:
        if self.seed is not None:
            function(self.seed)

    def see(self, ids: Iterable[Any]) -> None:
        """Notes a batch."""
        self.batches.append((ids if self.fast else np.asarray(ids).tolist(), time.perf_counter()))  # type: ignore[arg-type]

    def due(self) -> bool:
        """Whether it is time to save a checkpoint and stop."""
        return len(self.batches) == self.asked.get("stop_after")

    def stop(self) -> None:
        """Ends the process at once, as a crash would, but for the notes."""
        self.note()
        answer({})

    def note(self) -> None:
        """Writes down the ids, for clients.py."""
        rank = os.environ.get("RANK", "0")
        ids = [ids for ids, _ in self.batches]
        (self.folder / f"{self.asked['name']}.{rank}").write_text(json.dumps(ids))

    def rate(self) -> float:
        """Samples a second in the last epoch."""
        if self.known_rate is not None:
            return self.known_rate
        size = -(-FAST_SAMPLES // FAST_BATCH)
        times = [when for _, when in self.batches[-size:]]
        return FAST_BATCH * (len(times) - 1) / (times[-1] - times[0])


def alone(run: Run) -> None:
    """The loader with nothing around it."""
    loader = run.loader()
    for _ in range(run.epochs):
        for batch in loader:
            run.see(batch[1] if run.pairs else batch["id"])


def expected(folder: Path, **asked: Any) -> list[list[int]]:
    """The ids of each batch of our loader alone."""
    run = Run(folder, False, **asked)
    alone(run)
    return [ids for ids, _ in run.batches]


def speeds(train: Callable[[Run], None], make: Callable[..., Run], repeats: int) -> dict[str, list[float]]:
    """Samples a second: of the client with our loader and with torch's, and of ours alone, taking turns."""
    found: dict[str, list[float]] = {"ours": [], "torch": [], "alone": []}
    ways = {"ours": train, "torch": train, "alone": alone}
    for _ in range(repeats):
        for name, way in ways.items():
            run = make(fast=True, torchs=name == "torch")
            way(run)
            found[name].append(run.rate())
    return found


def maker(folder: Path, pairs: bool) -> Callable[..., Run]:
    return partial(Run, folder, pairs)
