"""Peak memory of an epoch: `python memory.py DATASET WINDOW_BYTES WORKERS`.

Prints the peak growth of the proportional set size (PSS) of this process and its workers together.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from recordio import DataLoader, ShardDataset


def unchanged(sample: dict[str, Any]) -> dict[str, Any]:
    return sample


def family(pid: int) -> list[int]:
    below = (int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split())
    return [pid, *(one for child in below for one in family(child))]


def taken() -> int:
    """PSS in bytes."""
    rolls = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in family(os.getpid()))
    return sum(int(size) for roll in rolls for size in re.findall(r"^Pss:\s+(\d+) kB", roll, re.M)) << 10


def main() -> None:
    dataset, window, workers = ShardDataset(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    options: dict[str, Any] = {"num_workers": 0 if workers == "none" else 2}
    if workers in ("fork", "spawn"):
        options |= {"worker_type": "process", "multiprocessing_context": workers}
    before, most, samples = taken(), 0, 0
    for _ in range(2):
        for k, batch in enumerate(DataLoader(dataset.map(unchanged), 64, True, window_bytes=window, **options)):
            samples += len(batch["n"])
            if k % 10 == 0:
                most = max(most, taken())
    assert samples == 2 * len(dataset)
    print(most - before)


if __name__ == "__main__":
    main()
