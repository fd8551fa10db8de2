"""How often the cache of a node serves it: an order that deals blocks anew each epoch, and one with lane_affinity.

    python benchmarks/node_cache.py [--share 0.5] [--ranks 1] [--json]

Simulated without files: 1,281,167 images (141 GB) over 1 to 8 nodes of one rank each; with 8 it takes 4 minutes. The
cache of a node holds `share` of its part of the dataset, and keeps the blocks that it gets first: the best that a cache
can do where an epoch reads each block once. Each row is the hit rate by bytes, the mean of all nodes, in the second
epoch on as many nodes, and in a second epoch on twice and on half as many, where the nodes that go on bring the caches
of the first.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from statistics import fmean

import numpy as np
from peer_orders import MIB
from shuffle_quality import SETS, blocks_of

from recordio.determinism import Indices, key
from recordio.reader.order.blocks import Blocks
from recordio.reader.order.ranks import RankShare, window_blocks
from recordio.reader.order.shuffle import OrderOptions, order_of

NODES = (1, 2, 4, 8)
ORDERS = {
    "the default": OrderOptions(True),
    "lane_affinity": OrderOptions(True, lane_affinity=True),
    "unit_bytes = 8 MiB, pool_bytes = 16 GiB": OrderOptions(True, unit_bytes=8 * MIB, pool_bytes=1 << 34),
    "the same with lane_affinity": OrderOptions(True, unit_bytes=8 * MIB, pool_bytes=1 << 34, lane_affinity=True),
}


def needs(blocks: Blocks, options: OrderOptions, epoch: int, nodes: int, ranks: int) -> list[Indices]:
    """The blocks that each node reads in an epoch, in the order of their first use."""
    samples = int(blocks.first[-1])
    order = order_of(blocks, range(samples), options, key(0, epoch))
    found = []
    for node in range(nodes):
        shares = [RankShare(node * ranks + rank, nodes * ranks, 0, samples) for rank in range(ranks)]
        windows = zip(*(window_blocks(order, share) for share in shares), strict=True)
        line = np.concatenate([block for window in windows for block in window])
        found.append(line[np.sort(np.unique(line, return_index=True)[1])])
    return found


def kept(blocks: Blocks, line: Indices, nbytes: float) -> Indices:
    """The blocks that the cache keeps."""
    return line[np.cumsum(blocks.nbytes[line]) <= nbytes]


def hit_rate(blocks: Blocks, caches: Sequence[Indices], later: Sequence[Indices]) -> float:
    """By bytes, the mean of all nodes; a node without a cache has an empty one."""
    rates = []
    for node, line in enumerate(later):
        cached = np.isin(line, caches[node]) if node < len(caches) else np.zeros(len(line), bool)
        rates.append(float(blocks.nbytes[line[cached]].sum() / blocks.nbytes[line].sum()))
    return fmean(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.5, help="of a node's part of the dataset, in its cache")
    parser.add_argument("--ranks", type=int, default=1, help="on each node")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    blocks = blocks_of(SETS[0])
    if not asked.json:
        print("| order | nodes | second epoch | on twice the nodes | on half of them |\n|---|--:|--:|--:|--:|")
    for name, options in ORDERS.items():
        later = {nodes: needs(blocks, options, 1, nodes, asked.ranks) for nodes in (*NODES, 2 * max(NODES))}
        for nodes in NODES:
            room = asked.share * float(blocks.nbytes.sum()) / nodes
            caches = [kept(blocks, line, room) for line in needs(blocks, options, 0, nodes, asked.ranks)]
            rates = {n: hit_rate(blocks, caches, later[n]) for n in (nodes, 2 * nodes, nodes // 2) if n}
            if asked.json:
                print(json.dumps({"order": name, "nodes": nodes, "hit_rates": rates}), flush=True)
                continue
            shown = [f"{rates[n]:.3f}" if n in rates else "" for n in (nodes, 2 * nodes, nodes // 2)]
            print(f"| {name} | {nodes} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
