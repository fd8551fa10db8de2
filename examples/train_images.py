"""A small network on pictures in shards: one process or many, stopped anywhere and resumed exactly.

    python examples/train_images.py                              scikit-learn's digits, made into shards first
    python examples/train_images.py SHARDS --checkpoint FILE     any dataset with `image` (pixels) and `label`
    torchrun --nproc-per-node 2 examples/train_images.py SHARDS  DistributedDataParallel, here on CPUs (gloo)

The steps of an epoch and the checkpoint are in training.py. Needs `pip install '.[test]'`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from training import Batch, Run, mean, on_all_ranks, options, say, world

import recordio
from recordio.torch import DataLoader


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
            nn.LazyConv2d(16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.LazyConv2d(32, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.LazyLinear(classes),
        )

    def forward(self, images: torch.Tensor) -> Any:
        return self.layers(images)


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch["image"]), batch["label"])


def work(asked: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if asked.shards is None and world() > 1:
            sys.exit("give the folder of the shards: each process would write its own")
        path = asked.shards or write_digits(Path(folder) / "digits.rio")
        scaled = recordio.transforms.ToTensor()
        whole = recordio.ShardDataset(path, fields=["image", "label"]).transform(image=scaled)
        train, test = whole.split([0.8, 0.2])
        torch.manual_seed(0)
        network = Network(int(train.column("label").max()) + 1)
        network(next(iter(DataLoader(train, 2)))["image"])  # initialises the lazy layers
        run = Run(train, network, loss, asked)
        for epoch in run.epochs():
            *_, last = run.steps()
            say(f"epoch {epoch}: loss {last:.4f}")
        accuracy = mean(test, lambda batch: (network(batch["image"]).argmax(1) == batch["label"]).sum())
        say(f"accuracy on {len(test)} samples held out: {accuracy:.1%}")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("shards", nargs="?", type=Path)
    on_all_ranks(work, parser.parse_args())


if __name__ == "__main__":
    main()
