"""A small transformer on bytes of text in shards: one process or many, stopped anywhere and resumed exactly.

    python examples/train_tokens.py tokens.rio                  Python's own library, made into shards first
    python examples/train_tokens.py tokens.rio --text FOLDER --suffix .md
    torchrun --nproc-per-node 2 examples/train_tokens.py tokens.rio --checkpoint FILE

A token is a byte. Every tenth file is held out. A model of byte frequencies alone reaches the unigram entropy; a lower
loss is learned from the order of the bytes.
The steps of an epoch and the checkpoint are in training.py. Needs `pip install '.[test]'`.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn
from training import Batch, Run, mean, on_all_ranks, options, rank, say, world

import recordio

CONTEXT = 128
VOCABULARY = 256
GLOBAL_BATCH = 16


def write_tokens(folder: Path, texts: Iterable[Path]) -> None:
    """The texts as one stream of bytes, in windows that overlap by one token, so that every token is predicted once."""
    tokens = np.frombuffer(b"\0".join(path.read_bytes() for path in texts), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, CONTEXT + 1)[::CONTEXT]
    with recordio.DatasetWriter(folder, block_bytes=1 << 16) as writer:
        writer.write_batch({"tokens": windows})


def convert(folder: Path, source: Path, suffix: str) -> None:
    """Writes a training and a held-out dataset, once, in the process of rank 0."""
    texts = sorted(path for path in source.iterdir() if path.suffix == suffix)
    for name, part in (("train", [path for k, path in enumerate(texts) if k % 10]), ("held-out", texts[::10])):
        if rank() == 0 and not (folder / name / "manifest.json").exists():
            write_tokens(folder / name, part)
    if world() > 1:
        distributed.barrier()


class Network(nn.Module):
    """A causal transformer of two layers: uint8 (n, t) -> float32 (n, t, VOCABULARY)."""

    def __init__(self, width: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, width)
        self.position = nn.Embedding(CONTEXT, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, VOCABULARY))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(CONTEXT), persistent=False)

    def forward(self, tokens: torch.Tensor) -> Any:
        x = self.token(tokens.int()) + self.position.weight
        for layer in self.layers:
            x = layer(x, self.mask, is_causal=True)
        return self.out(x)


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Nats per token."""
    tokens = batch["tokens"]
    return nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten().long())


def unigram_entropy(dataset: recordio.ShardDataset) -> float:
    """Nats per token."""
    share = np.bincount(dataset.column("tokens")[:, 1:].ravel(), minlength=VOCABULARY) / (len(dataset) * CONTEXT)
    return -float((share * np.log(share, where=share > 0, out=np.zeros(VOCABULARY))).sum())


def train(run: Run, report: int) -> None:
    """Trains on the rest of an epoch, with a line of output every `report` batches."""
    losses: list[float] = []
    began = time.perf_counter()
    for value in run.steps():
        losses.append(value)
        if len(losses) == report:
            speed = report * GLOBAL_BATCH * CONTEXT / (time.perf_counter() - began)
            say(f"loss {sum(losses) / report:.4f}   {speed:,.0f} tokens/s")
            losses, began = [], time.perf_counter()


def work(asked: argparse.Namespace) -> None:
    convert(asked.shards, asked.text, asked.suffix)
    tokens, held_out = (recordio.ShardDataset(asked.shards / name) for name in ("train", "held-out"))
    say(f"{len(tokens) * CONTEXT:,} tokens, unigram entropy {unigram_entropy(tokens):.4f} nats")
    torch.manual_seed(0)
    network = Network()
    run = Run(tokens, network, loss, asked, global_batch=GLOBAL_BATCH, learning_rate=0.003)
    for epoch in run.epochs():
        train(run, asked.report)
        value = mean(held_out, lambda batch: loss(network, batch) * len(batch["tokens"]))
        say(f"epoch {epoch}: held-out loss {value:.4f}, perplexity {math.exp(value):.2f}")


def main() -> None:
    parser = options(__doc__)
    parser.set_defaults(epochs=1)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--text", type=Path, default=Path(os.__file__).parent, help="the folder of the texts")
    parser.add_argument("--suffix", default=".py", help="of their names")
    parser.add_argument("--report", type=int, default=200, help="batches between two lines of output")
    on_all_ranks(work, parser.parse_args())


if __name__ == "__main__":
    main()
