"""Two worker processes that map samples in Python: recordio.torch.DataLoader beside torch's own.

    python benchmarks/process_workers.py [--rounds 5] [--samples 40000] [--json]

torch's loader reads the same recordio dataset, or memory-mapped arrays. Every figure is the median over fresh
processes, on a warm page cache; the contenders take turns. Epochs are timed after a first one, with persistent workers;
the first batch comes from a new loader, in a process that has imported torch. CPU is the sum over all processes; "map"
is the time of the map alone, in one.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import python_maps
from measuring import Row, answer, best, in_process, machine, say, scratch, show, succeeded

import recordio

WORKERS = 2
RECORDIO, TORCH, MEMMAP = "recordio.torch", "torch, recordio dataset", "torch, np.memmap"
CONTENDERS = (RECORDIO, TORCH, MEMMAP)
WORKLOADS: dict[str, tuple[str, str, int]] = {  # the data, the map, samples a batch
    "tabular, quick map": ("tabular", "shifted", 256),
    "tabular": ("tabular", "scaled", 256),
    "pictures, quick map": ("pictures", "flipped", 64),
    "pictures, slow map": ("pictures", "flipped_slowly", 64),
}
SIDE = 224


class Arrays:
    """A typical hand-written dataset."""

    def __init__(self, folder: Path, function: Callable[[Any], Any]) -> None:
        self.columns = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
        self.function = function

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int) -> Any:
        return self.function({name: column[index] for name, column in self.columns.items()})


def write(folder: Path, data: str, samples: int) -> None:
    """Writes the data twice: as a dataset, and as a .npy file per field."""
    rng = np.random.default_rng(1)
    if data == "tabular":
        ids = np.array([f"user-{n:011d}" for n in range(samples)])
        columns = {"x": rng.standard_normal((samples, 32)).astype(np.float32), "y": np.arange(samples), "id": ids}
    else:
        samples = max(WORKERS * 64, samples // 20)
        pixels = rng.integers(0, 256, (samples, SIDE, SIDE, 3), np.uint8)
        columns = {"pixels": pixels, "label": np.arange(samples)}
    with recordio.DatasetWriter(folder / data) as writer:
        writer.write_batch({name: c.tolist() if c.dtype.kind == "U" else c for name, c in columns.items()})
    for name, column in columns.items():
        np.save(folder / data / f"{name}.npy", column)


def loader(request: Row) -> Any:
    from torch.utils import data

    import recordio.torch

    kind, name, size = WORKLOADS[request["workload"]]
    folder, function = Path(request["folder"], kind), getattr(python_maps, name)
    options = {"num_workers": WORKERS, "multiprocessing_context": request["start"], "persistent_workers": True}
    if request["contender"] == MEMMAP:
        return data.DataLoader(Arrays(folder, function), size, shuffle=True, **options)
    make = recordio.torch.DataLoader if request["contender"] == RECORDIO else data.DataLoader
    return make(recordio.ShardDataset(folder).map(function), size, shuffle=True, **options)


def measure(request: Row) -> Row:
    """Seconds to the first batch; for epochs samples/s, CPU seconds per sample, and seconds of the map alone."""
    batches = loader(request)
    begin, cpu = time.perf_counter(), cpu_seconds()
    epoch = iter(batches)
    next(epoch)
    row = {"first": time.perf_counter() - begin}
    if request["epoch"]:
        for _ in epoch:
            pass
        begin, epochs = time.perf_counter(), 0
        while epochs < 2 or time.perf_counter() - begin < 1:
            for _ in batches:
                pass
            epochs += 1
        samples = len(batches.dataset)
        row["rate"] = epochs * samples / (time.perf_counter() - begin)
        del epoch, _, batches  # ends the workers, which adds their time to ours
        row["cpu"] = (cpu_seconds() - cpu) / samples / (epochs + 1)
        row["map"] = map_seconds(request)
    return row


def cpu_seconds() -> float:
    """CPU seconds of this process and its finished children."""
    mine, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime


def map_seconds(request: Row) -> float:
    kind, name, _ = WORKLOADS[request["workload"]]
    function, given = getattr(python_maps, name), list(recordio.ShardDataset(Path(request["folder"], kind))[:200])
    return best(lambda: [function(sample) for sample in given]).cpu / len(given)


def table(requests: dict[Any, Row], rounds: int, title: str) -> dict[Any, dict[str, float]]:
    """The median results of these processes, taking turns."""
    found: dict[Any, list[Row]] = {key: [] for key in requests}
    for number in range(rounds):
        say(f"{title}, round {number + 1} of {rounds}")
        for key, request in requests.items():
            found[key].append(succeeded(in_process(__file__, request)))
    return {key: {name: median(row[name] for row in rows) for name in rows[0]} for key, rows in found.items()}


def epochs(folder: Path, rounds: int) -> list[Row]:
    common = {"folder": str(folder), "start": "fork", "epoch": True}
    requests = {
        (workload, contender): common | {"workload": workload, "contender": contender}
        for workload in WORKLOADS
        for contender in CONTENDERS
    }
    took = table(requests, rounds, "epochs")
    return [
        {"workload": workload, "map µs": took[workload, RECORDIO]["map"] * 1e6}
        | {f"{contender} samples/s": took[workload, contender]["rate"] for contender in CONTENDERS}
        | {"gain": took[workload, RECORDIO]["rate"] / took[workload, TORCH]["rate"]}
        | {f"{contender} CPU µs": took[workload, contender]["cpu"] * 1e6 for contender in (RECORDIO, TORCH)}
        | {"gain in CPU": took[workload, TORCH]["cpu"] / took[workload, RECORDIO]["cpu"]}
        for workload in WORKLOADS
    ]


def first_batches(folder: Path, rounds: int) -> list[Row]:
    starts = ("fork", "forkserver", "spawn")
    common = {"folder": str(folder), "workload": "tabular", "epoch": False}
    requests = {
        (start, contender): common | {"contender": contender, "start": start}
        for start in starts
        for contender in CONTENDERS
    }
    took = table(requests, rounds, "first batches")
    return [
        {"start": start}
        | {f"{contender} ms": took[start, contender]["first"] * 1e3 for contender in CONTENDERS}
        | {"of torch": took[start, RECORDIO]["first"] / took[start, TORCH]["first"]}
        for start in starts
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=40_000, help="of the tabular data; a twentieth as many pictures")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        answer(measure(options.one))
    if not options.json:
        print(f"{machine(('numpy', 'torch'))}; {options.rounds} rounds")
    with scratch(None) as folder:
        for data in ("tabular", "pictures"):
            write(folder, data, options.samples)
        show(epochs(folder, options.rounds), options.json, "an epoch, 2 processes")
        show(first_batches(folder, options.rounds), options.json, "the first batch, 2 processes")


if __name__ == "__main__":
    main()
