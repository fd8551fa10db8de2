"""One run over cold data, in a process of its own that is held to a memory limit."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from contender import collate, cut
from measuring import Row, folder_nbytes
from sample_streams import torch_loader

import recordio
from scaling import cold_data, memory_limit, raw_device
from scaling.usage import Usage, drop_cache

BATCH = 64
WORKERS = 2
RAW_SECONDS = 1.0
TOGETHER = ("rank 0 of 2", "rank 1 of 2", "verify")


class Enough(Exception):
    """The time of a run is over."""


class Meter:
    """Counts what a run delivers, until its time is over."""

    def __init__(self, seconds: float, useful: float) -> None:
        self.samples, self.useful, self.first = 0.0, useful, 0.0
        self._began = self._last = time.perf_counter()
        self._seconds = seconds

    def delivered(self, samples: float) -> bool:
        """Whether time is over."""
        self._last = time.perf_counter()
        self.first = self.first or self._last - self._began
        self.samples += samples
        return self._last - self._began > self._seconds

    @property
    def nbytes(self) -> float:
        return self.samples * self.useful

    @property
    def rate(self) -> float:
        """Useful bytes a second."""
        return self.nbytes / (self._last - self._began)


def measure(request: Row) -> Row:
    """The figures of one run; see `raw_device` for "raw"."""
    memory_limit.require(request["limit"])
    recordio.DataLoader, recordio.ShardDataset, recordio.verify  # noqa: B018 - imports what is behind them
    folder, run = Path(request["folder"]), request["run"]
    if run == "raw":
        return raw_device.measure(folder, RAW_SECONDS)
    if request["data"] in cold_data.PEERS:
        warm_up(request["data"])
    if request.get("drop", True):
        drop_cache(folder)
    if run == "at once":
        return at_once(request, folder)
    alone = request.get("drop", True)
    useful = folder_nbytes(folder) / request["samples"] if request["data"] == "zstd" else cold_data.ROW_BYTES
    with Usage(folder, alone) as usage:
        meter = Meter(request["seconds"], useful)
        if run == "verify":
            verify(folder, meter, request["samples"])
        else:
            deliver(epoch_of(request, folder), meter)
    return {"bytes/s": meter.rate, "useful": meter.nbytes, "first": meter.first} | usage.figures()


def deliver(batches: Iterator[Any], meter: Meter) -> None:
    """Reads until the end or until time is over; what made the batches has ended on return."""
    for batch in batches:
        if meter.delivered(len(batch["row"])):
            break
    batches.close()  # type: ignore[attr-defined]  # a generator


def verify(folder: Path, meter: Meter, samples: int) -> None:
    before = 0

    def progress(done: int, total: int) -> None:
        nonlocal before
        if meter.delivered((done - before) * samples / total):
            raise Enough
        before = done

    try:
        recordio.verify(folder, progress=progress)
    except Enough:
        return


def epoch_of(request: Row, folder: Path) -> Iterator[Any]:
    """The batches of a run, as a generator."""
    run, data = request["run"], request["data"]
    if data in cold_data.PEERS:
        yield from peer_epoch(data, folder, run == "shuffled")
    elif run.startswith("take"):
        dataset = recordio.ShardDataset(folder)
        order = np.random.default_rng(random.randrange(1 << 32)).permutation(len(dataset))
        yield from (dataset.take(chosen) for chosen in cut(order, BATCH))
    else:
        yield from recordio.DataLoader(recordio.ShardDataset(folder), BATCH, **LOADERS[run])


LOADERS: dict[str, dict[str, Any]] = {
    "shuffled": {"shuffle": True},
    "in order": {},
    f"shuffled, {WORKERS} processes": {"shuffle": True, "num_workers": WORKERS, "worker_type": "process"},
    **{f"rank {rank} of 2": {"shuffle": True, "rank": rank, "world_size": 2} for rank in range(2)},
}


def warm_up(name: str) -> None:
    """Writes and reads a few rows elsewhere, so that the imports of a peer are neither timed nor counted."""
    with tempfile.TemporaryDirectory() as folder:
        cold_data.contender(name, Path(folder, name)).write(cold_data.Rows(range(8)))
        for _ in peer_epoch(name, Path(folder, name), True):
            pass


def peer_epoch(name: str, folder: Path, shuffle: bool) -> Iterable[Any]:
    """An epoch of a peer as its documents recommend; contenders have it as a whole, which cannot be stopped."""
    peer: Any = cold_data.contender(name, folder)
    peer.open()
    if name == "litdata":
        from litdata import StreamingDataLoader

        dataset = peer._dataset(shuffle)
        return StreamingDataLoader(dataset, batch_size=BATCH, num_workers=0, collate_fn=collate)  # type: ignore[no-any-return]
    if name == "mds":
        return torch_loader(peer._dataset(shuffle, BATCH), BATCH, collate_fn=collate)  # type: ignore[no-any-return]
    indices = np.random.default_rng(0).permutation(peer.samples) if shuffle else np.arange(peer.samples)
    read: Callable[[Any], Any] = lambda chosen: (  # noqa: E731
        (peer.rows[i] for i in chosen.tolist()) if shuffle else peer.rows.read_range(int(chosen[0]), len(chosen))
    )
    return (collate([peer.decode(row) for row in read(chosen)]) for chosen in cut(indices, BATCH))


def at_once(request: Row, folder: Path) -> Row:
    """Two ranks and a verify on the same cold files, as three processes; the figures of each, and of all."""
    requests = {run: request | {"run": run, "drop": False} for run in TOGETHER}
    with Usage(folder) as usage:
        began = time.perf_counter()
        running = {
            run: subprocess.Popen(
                [sys.executable, sys.argv[0], "--one", json.dumps(one)], stdout=subprocess.PIPE, text=True
            )
            for run, one in requests.items()
        }
        printed = {run: process.communicate()[0] for run, process in running.items()}
        took = time.perf_counter() - began
    if failed := [run for run, process in running.items() if process.returncode]:
        raise RuntimeError(f"{', '.join(failed)} failed")
    members: dict[str, Row] = {run: json.loads(text.splitlines()[-1]) for run, text in printed.items()}
    useful = sum(row["useful"] for row in members.values())
    return {"bytes/s": useful / took, "useful": useful, "first": None, "members": members} | usage.figures()
