"""Shared by the training examples: ranks, the steps of an epoch, checkpoints, traces.

With --checkpoint the model, the optimizer and the loader's state are saved every few batches, and a run resumes from
the file if it exists. --trace writes a line per batch, to compare runs.
"""

from __future__ import annotations

import argparse
import gc
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import recordio
from recordio.torch import DataLoader

SAVE_EVERY = 5
Batch = dict[str, torch.Tensor]


def options(description: str | None) -> argparse.ArgumentParser:
    """The options that every example takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--stop-after", type=int, help="exit abruptly after this many batches, to try resuming")
    parser.add_argument("--trace", type=Path, help="a file for a line per batch; rank r adds .r to its name")
    return parser


def on_all_ranks(work: Callable[[argparse.Namespace], None], asked: argparse.Namespace) -> None:
    """Runs `work`; under torchrun, in each of its processes."""
    torch.set_num_threads(1)
    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")
    work(asked)
    if distributed.is_initialized():
        gc.collect()  # a model that holds the group would keep its threads alive at interpreter exit
        distributed.destroy_process_group()


def world() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def say(text: str) -> None:
    if rank() == 0:
        print(text, flush=True)


def digests(batch: Batch) -> list[int]:
    """A checksum per sample, over the bytes of all its fields."""
    rows = zip(*batch.values(), strict=True)
    return [zlib.crc32(b"".join(value.numpy().tobytes() for value in row)) for row in rows]


def mean(dataset: recordio.ShardDataset, total: Callable[[Batch], torch.Tensor]) -> float:
    """The mean over all samples, each counted once; `total` sums over a batch."""
    out = torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        for batch in DataLoader(dataset, 256, ranks="auto", even_batches=False):
            out += total(batch)
    if world() > 1:
        distributed.all_reduce(out)
    return out.item() / len(dataset)


class Run:
    """Model, optimizer and loader of one rank: the content of a checkpoint.

    `loss` takes the model and a batch; `asked` holds the parsed `options`.
    """

    def __init__(
        self,
        dataset: recordio.ShardDataset,
        network: nn.Module,
        loss: Callable[[nn.Module, Batch], torch.Tensor],
        asked: argparse.Namespace,
        global_batch: int = 64,
        learning_rate: float = 0.01,
    ) -> None:
        self.loader = DataLoader(
            dataset, global_batch // world(), shuffle=True, num_workers=1, drop_last=True, ranks="auto"
        )
        self.network = network
        self._loss = loss
        self._asked = asked
        self._model = DistributedDataParallel(network) if world() > 1 else network
        self._optimizer = torch.optim.Adam(self._model.parameters(), learning_rate)
        self._done = 0
        if asked.checkpoint is not None and asked.checkpoint.exists():
            saved = torch.load(asked.checkpoint)
            for name, part in self._parts().items():
                part.load_state_dict(saved[name])

    def _parts(self) -> dict[str, Any]:
        return {"network": self.network, "optimizer": self._optimizer, "loader": self.loader}

    def epochs(self) -> range:
        """The remaining epochs."""
        return range(self.loader.state_dict()["epoch"], self._asked.epochs)

    def steps(self) -> Iterator[float]:
        """Trains on the rest of an epoch, yielding the loss of each batch; exits abruptly with --stop-after."""
        for batch in self.loader:
            loss = self._loss(self._model, batch)
            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            self._optimizer.step()
            self._trace(batch, loss.item())
            self._done += 1
            if self._done % SAVE_EVERY == 0:
                self._save()
            if self._done == self._asked.stop_after:
                os._exit(9)
            yield loss.item()
        self._save()

    def _trace(self, batch: Batch, loss: float) -> None:
        if self._asked.trace is not None:
            with open(f"{self._asked.trace}.{rank()}", "a", encoding="ascii") as file:
                print(*digests(batch), f"{loss:.6f}", file=file)

    def _save(self) -> None:
        """Saves on rank 0; the loader's state is the same on all ranks."""
        path = self._asked.checkpoint
        if path is not None and rank() == 0:
            torch.save({name: part.state_dict() for name, part in self._parts().items()}, f"{path}.new")
            os.replace(f"{path}.new", path)
