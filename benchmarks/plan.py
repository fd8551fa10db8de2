"""The cost of planning an epoch: 10^9 samples in 10^5 shards, from a manifest without files.

    python benchmarks/plan.py [--shards 100000] [--samples 10000] [--blocks 20] [--unit-bytes 1] [--view split]
        [--pool-bytes 0] [--lane-affinity]

The view is the whole dataset, every other sample, nine tenths of it at random in order, or all of it in any order.
Prints one JSON line: milliseconds for the table of blocks (once per dataset), for the order of an epoch with its first
window, and for resuming at a random position (median of 20); peak MB of all this beyond the manifest and the view, and
of the plan alone beyond the table; the bytes of the view in memory and in a pickle.
"""

from __future__ import annotations

import argparse
import json
import pickle
import random
import statistics
import threading
import time

from recordio import Scalar, Schema
from recordio.determinism import key, parts_of_permutation, permutation
from recordio.format.manifest import Manifest, ShardEntry
from recordio.reader.open_dataset import OpenDataset, ReadOptions
from recordio.reader.order.numbers import Numbers, chosen, packed, true_indices
from recordio.reader.order.ranks import RankShare, window_plans
from recordio.reader.order.shuffle import OrderOptions, order_of
from recordio.storage.memory import MemoryStorage


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


class Peak:
    """Peak memory beyond the start, sampled every millisecond."""

    def __enter__(self) -> Peak:
        self._start, self.nbytes, self._stop = resident(), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.001):
            self.nbytes = max(self.nbytes, resident() - self._start)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def numbers_of(view: str, samples: int) -> Numbers:
    """The numbers of the view of this name."""
    if view == "split":
        cut = samples * 9 // 10
        return true_indices([parts_of_permutation(samples, key(0), [cut]) == 0], cut, samples)
    if view == "any":
        return chosen(range(samples), permutation(samples, key(0)))
    return range(0, samples, 2 if view == "step" else 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--samples", type=int, default=10_000, help="in a shard")
    parser.add_argument("--blocks", type=int, default=20, help="in a shard")
    parser.add_argument("--unit-bytes", type=int, default=1, help="as of DataLoader")
    parser.add_argument("--pool-bytes", type=int, default=0, help="as of DataLoader")
    parser.add_argument("--lane-affinity", action="store_true", help="as of DataLoader")
    parser.add_argument("--view", choices=["all", "step", "split", "any"], default="all")
    asked = parser.parse_args()
    runs = ((asked.samples // asked.blocks, asked.blocks),)
    samples = runs[0][0] * asked.blocks
    entries = [ShardEntry(k, samples * 400, samples, samples * 400, bytes(16), runs) for k in range(asked.shards)]
    store = OpenDataset(
        MemoryStorage({}), Manifest(bytes(16), Schema({"n": Scalar()}), {}, entries), ReadOptions(), b""
    )
    numbers = numbers_of(asked.view, store.samples)
    options = OrderOptions(
        True, unit_bytes=asked.unit_bytes, pool_bytes=asked.pool_bytes, lane_affinity=asked.lane_affinity
    )
    with Peak() as whole:
        began = time.perf_counter()
        blocks = store.blocks
        table = time.perf_counter() - began
        with Peak() as plan:
            began = time.perf_counter()
            order = order_of(blocks, numbers, options, key(0, 1))
            next(window_plans(order, RankShare(0, 1, 0, len(numbers))))
            start = time.perf_counter() - began
        resumes = []
        for _ in range(20):
            began = time.perf_counter()
            next(window_plans(order, RankShare(0, 1, random.randrange(len(numbers)), len(numbers))))
            resumes.append(time.perf_counter() - began)
    print(
        json.dumps(
            {
                "samples": len(numbers),
                "blocks": len(blocks.nbytes),
                "table_ms": round(table * 1e3, 1),
                "epoch_start_ms": round(start * 1e3, 1),
                "resume_ms": round(statistics.median(resumes) * 1e3, 1),
                "plan_peak_mb": round(plan.nbytes / 1e6),
                "peak_mb": round(whole.nbytes / 1e6),
                "view_mb": 0 if isinstance(numbers, range) else round(numbers.nbytes / 1e6),
                "pickle_mb": round(len(pickle.dumps(packed(numbers))) / 1e6, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
