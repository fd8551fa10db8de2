"""How well an epoch mixes a dataset sorted by class, as converted class folders are.

    python benchmarks/shuffle_quality.py [--batch 256] [--epochs 2] [--json]

Ours are the orders that recordio.reader.order.shuffle makes of shards without files; the others are simulated in
peer_orders.py. Every row is the mean of whole epochs. The columns:

    holds       bytes held at a time, in memory (Streaming, and ours with pools: in a disk cache)
    classes     distinct classes in a batch
    chi2        of a batch's classes against equal shares, per degree of freedom: 1 is random, more is clumped
    near        other samples of the batch within 128 indices of a sample
    moved       mean of |position - index in the dataset|, divided by the number of samples: 1/3 is random
    correlation of position and index in the dataset, absolute value
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
from peer_orders import MIB, PEERS, Data, Indices, Peer

from recordio import Scalar, Schema
from recordio.determinism import key
from recordio.format.manifest import Manifest, ShardEntry
from recordio.reader.open_dataset import OpenDataset, ReadOptions
from recordio.reader.order.blocks import Blocks
from recordio.reader.order.shuffle import SHUFFLE_WINDOW_BYTES, OrderOptions, order_of
from recordio.storage.memory import MemoryStorage
from recordio.writer.shard_writer import DEFAULT_BLOCK_BYTES, DEFAULT_SHARD_BYTES

SETS = (
    Data("images", 1_281_167, 1000, 110_000),
    Data("small samples", 10_000_000, 100, 2_000),
)
TITLES = ("order", "holds", "classes", "chi2", "near", "moved", "correlation")
NEAR = 128
BATCHES = 2000


def blocks_of(data: Data) -> Blocks:
    """The blocks that the writer makes of it with its default sizes."""
    rows = -(-DEFAULT_BLOCK_BYTES // data.nbytes)
    whole = rows * -(-DEFAULT_SHARD_BYTES // (rows * data.nbytes))  # the samples of a shard
    entries: list[ShardEntry] = []
    for first in range(0, data.samples, whole):
        samples = min(whole, data.samples - first)
        runs = [(rows, samples // rows)] * (samples >= rows) + [(samples % rows, 1)] * (samples % rows > 0)
        nbytes = samples * data.nbytes
        entries.append(ShardEntry(len(entries), nbytes, samples, nbytes, bytes(16), tuple(runs)))
    manifest = Manifest(bytes(16), Schema({"n": Scalar()}), {}, entries)
    return OpenDataset(MemoryStorage({}), manifest, ReadOptions(), b"").blocks


def ours(data: Data) -> Iterator[tuple[str, float, Callable[[int], Indices]]]:
    """Name, bytes at hand, and order of an epoch, of each of our settings."""
    blocks, total = blocks_of(data), data.samples * data.nbytes
    shares = {f"window_bytes = {share} % of the dataset": total * share // 100 for share in (1, 5, 20)}
    windows = {"the default": SHUFFLE_WINDOW_BYTES, "window_bytes = 1 GiB": 1 << 30} | shares
    settings = {f"recordio, {name}": OrderOptions(True, window) for name, window in windows.items()}
    settings["recordio, unit_bytes = 8 MiB"] = OrderOptions(True, unit_bytes=8 * MIB)
    settings["recordio, unit_bytes = 8 MiB, window 5 %"] = OrderOptions(True, total // 20, unit_bytes=8 * MIB)
    for gib in (4, 16):
        name = f"recordio, unit_bytes = 8 MiB, pool_bytes = {gib} GiB"
        settings[name] = OrderOptions(True, unit_bytes=8 * MIB, pool_bytes=gib << 30)
    settings["recordio, lane_affinity"] = OrderOptions(True, lane_affinity=True)
    settings["recordio, the pools of 16 GiB with lane_affinity"] = replace(settings[name], lane_affinity=True)
    for name, options in settings.items():
        yield name, float(max(options.window, options.pool_bytes)), partial(our_order, blocks, data, options)


def our_order(blocks: Blocks, data: Data, options: OrderOptions, epoch: int) -> Indices:
    order = order_of(blocks, range(data.samples), options, key(0, epoch))
    return np.concatenate([order.window(number).index for number in range(len(order.starts) - 1)])


def quality(data: Data, order: Indices, batch: int) -> dict[str, float]:
    """The figures of an epoch; those of batches over 2,000 evenly spaced ones."""
    n = data.samples
    far = (order - np.arange(n)).astype(np.float64)
    numbers = np.linspace(0, n // batch - 1, min(BATCHES, n // batch)).astype(np.int64)
    batches = np.sort(order[numbers[:, None] * batch + np.arange(batch)], axis=1)
    rows = np.arange(len(batches))[:, None]
    counts = np.bincount(
        (rows * data.classes + batches * data.classes // n).ravel(), minlength=rows.size * data.classes
    )
    counts = counts.reshape(-1, data.classes)
    fair = batch / data.classes
    line = (batches + rows * (n + 2 * NEAR)).ravel()
    near = np.searchsorted(line, line + NEAR, side="right") - np.searchsorted(line, line - NEAR) - 1
    return {
        "classes": float((counts > 0).sum(1).mean()),
        "chi2": float(((counts - fair) ** 2 / fair).sum(1).mean()) / (data.classes - 1),
        "near": float(near.mean()),
        "moved": float(np.abs(far).mean()) / n,
        "correlation": abs(1 - 6 * float(far @ far) / (n * (n**2 - 1))),
    }


def rows_of(data: Data, batch: int, epochs: int) -> Iterator[dict[str, Any]]:
    def theirs(peer: Peer, epoch: int) -> Indices:
        return peer.order(data, batch, np.random.default_rng(epoch))

    rows = list(ours(data)) + [(peer.name, peer.holds(data, batch), partial(theirs, peer)) for peer in PEERS]
    for name, holds, order in rows:
        found = [quality(data, order(epoch), batch) for epoch in range(epochs)]
        yield {"order": name, "holds": holds} | {title: fmean(q[title] for q in found) for title in found[0]}


def size(nbytes: float) -> str:
    return f"{nbytes / 1e9:.3g} GB" if nbytes >= 999.5e6 else f"{nbytes / 1e6:.3g} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    for data in SETS:
        if not asked.json:
            nbytes = size(data.samples * data.nbytes)
            print(
                f"\n**{data.name}**: {data.samples:,} of {data.nbytes:,} bytes ({nbytes}) in {data.classes:,} classes\n"
            )
            print(f"| {' | '.join(TITLES)} |\n|---|{'--:|' * (len(TITLES) - 1)}")
        for row in rows_of(data, asked.batch, asked.epochs):
            if asked.json:
                print(json.dumps({"dataset": data.name, **row}), flush=True)
                continue
            name, holds, *figures = row.values()
            shown = [f"{figure:.{digits}f}" for figure, digits in zip(figures, (1, 2, 2, 3, 3), strict=True)]
            print(f"| {name} | {size(holds)} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
