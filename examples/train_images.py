"""A small network on pictures in shards: one process or many, stopped anywhere and resumed exactly.

    python examples/train_images.py                              scikit-learn's digits, made into shards first
    python examples/train_images.py SHARDS --checkpoint FILE     any dataset with `image` (pixels) and `label`
    torchrun --nproc-per-node 2 examples/train_images.py SHARDS  DistributedDataParallel, here on CPUs (gloo)

With --checkpoint the model, the optimizer and the loader's state are saved after every few batches, and a run that
finds the file goes on from there. --trace writes a line a batch, from which two runs can be compared.
Needs `pip install recordio[test]`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import recordio
from recordio.torch import DataLoader

GLOBAL_BATCH = 64
SAVE_EVERY = 5


def write_digits(folder: Path) -> Path:
    """scikit-learn's 1,797 digits of 8 x 8 pixels as shards."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    with recordio.DatasetWriter(folder, block_bytes=4096, shard_samples=500) as writer:
        for pixels, label in zip(digits.images, digits.target, strict=True):
            writer.write({"image": (pixels * 15).astype("uint8")[:, :, None], "label": int(label)})
    return folder


class Network(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LazyConv2d(16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.LazyConv2d(32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LazyLinear(classes)
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> Any:
        return self.layers(images)


class Run:
    """The model, the optimizer and the loader of one rank; what a checkpoint holds."""

    def __init__(self, dataset: recordio.ShardDataset, checkpoint: Path | None) -> None:
        self.loader = DataLoader(dataset, GLOBAL_BATCH // world(), True, num_workers=1, drop_last=True, ranks="auto")
        torch.manual_seed(0)
        self.network = Network(int(dataset.column("label").max()) + 1)
        self.network(next(iter(DataLoader(dataset, 2)))["image"])  # the lazy layers learn their shapes
        self.model = DistributedDataParallel(self.network) if world() > 1 else self.network
        self.optimizer = torch.optim.Adam(self.model.parameters(), 0.01)
        self._checkpoint = checkpoint
        if checkpoint is not None and checkpoint.exists():
            saved = torch.load(checkpoint)
            self.network.load_state_dict(saved["network"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.loader.load_state_dict(saved["loader"])

    def save(self) -> None:
        """One rank's state of the loader is everybody's."""
        if self._checkpoint is None or rank() != 0:
            return
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loader": self.loader.state_dict(),
        }
        torch.save(state, f"{self._checkpoint}.new")
        os.replace(f"{self._checkpoint}.new", self._checkpoint)

    def train(self, epochs: int, stop_after: int | None, log: Any) -> None:
        """Trains to the end of the last epoch, or dies as if killed after so many batches."""
        done = 0
        for epoch in range(self.loader.state_dict()["epoch"], epochs):
            loss = torch.zeros(())
            for batch in self.loader:
                loss = nn.functional.cross_entropy(self.model(batch["image"]), batch["label"])
                self.optimizer.zero_grad()
                torch.autograd.backward(loss)
                self.optimizer.step()
                print(epoch, *batch["label"].tolist(), f"{loss.item():.6f}", file=log, flush=True)
                done += 1
                if done % SAVE_EVERY == 0:
                    self.save()
                if done == stop_after:
                    os._exit(9)
            self.save()
            if rank() == 0:
                print(f"epoch {epoch}: loss {loss.item():.4f}", flush=True)

    def accuracy(self, dataset: recordio.ShardDataset) -> float:
        """Of all samples, none twice."""
        right = torch.zeros(())
        loader = DataLoader(dataset, 256, ranks="auto", even_batches=False)
        with torch.no_grad():
            for batch in loader:
                right += (self.network(batch["image"]).argmax(1) == batch["label"]).sum()
        if world() > 1:
            distributed.all_reduce(right)
        return right.item() / len(dataset)


def world() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="?", type=Path)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--stop-after", type=int, help="die after so many batches, to try what comes then")
    parser.add_argument("--trace", type=Path, help="a file for a line a batch; rank r adds .r to its name")
    asked = parser.parse_args()
    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")
    if asked.shards is None and world() > 1:
        sys.exit("give the folder of the shards: each process would write its own")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = asked.shards or write_digits(Path(folder) / "digits.rio")
        scaled = recordio.transforms.ToTensor()
        whole = recordio.ShardDataset(path).transform(image=scaled)
        train, test = whole.split([0.8, 0.2])
        run = Run(train, asked.checkpoint)
        with open(os.devnull if asked.trace is None else f"{asked.trace}.{rank()}", "a", encoding="ascii") as log:
            run.train(asked.epochs, asked.stop_after, log)
        accuracy = run.accuracy(test)
    if rank() == 0:
        print(f"accuracy on {len(test)} samples held out: {accuracy:.1%}")
    if distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
