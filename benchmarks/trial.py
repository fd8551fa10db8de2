"""One contender on one workload, in a process of its own: bench.py starts it, `--one REQUEST`.

Where it writes, it first writes a few samples elsewhere, so that its import is not timed. Reading follows writing, with
a warm page cache. The samples of every epoch are counted, and a few single ones compared.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import re
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import python_maps
from contender import Batches, CannotHoldError, Contender, count, cut, samples_in
from contenders import ALL
from measuring import Row, Timing, answer, best, folder_nbytes, timed
from workloads import Kind, Sample, load, raw_nbytes

BATCH = 256
RANDOM_BATCHES = 20
SINGLE_READS = 500
WARM_UP = 8  # samples


def warm_up_of(contender: Contender) -> Contender:
    """A contender of its kind with a few samples."""
    return type(contender)(contender.folder.with_name(f"{contender.folder.name} warm-up"), contender.kinds)


def write_measured(contender: Contender, samples: Sequence[Sample]) -> Timing:
    small = warm_up_of(contender)
    for one in (contender, small):
        shutil.rmtree(one.folder, ignore_errors=True)
    small.write(small.prepared(samples[:WARM_UP]))
    prepared = contender.prepared(samples)
    return timed(lambda: contender.write(prepared))


def check(contender: Contender, samples: Sequence[Sample]) -> None:
    """Compares single samples with the originals."""
    for index in {0, 1, len(samples) // 2, len(samples) - 1}:
        found = contender.one(index)
        for name, value in samples[index].items():
            got = bytes(found[name]) if isinstance(found[name], memoryview) else found[name]
            if not np.array_equal(np.asarray(got), np.asarray(value)):
                raise ValueError(f"{contender.folder.name}: sample {index} came back with another {name}")


def whole(batches: Batches, n: int) -> None:
    """Reads an epoch. Raises ValueError if it lacks samples."""
    if (got := count(batches)) != n:
        raise ValueError(f"an epoch gave {got} of {n} samples")


def sequential(contender: Contender, n: int) -> Row:
    timing = best(lambda: whole(contender.sequential(BATCH), n))
    return {"sequential": n / timing.wall}


def shuffled(contender: Contender, n: int) -> Row:
    """The epoch, and microseconds until each of its batches: the best of the passes for every figure."""
    passes: list[Any] = []

    def run() -> None:
        times = [time.perf_counter()]
        got = 0
        for batch in contender.shuffled(BATCH):
            times.append(time.perf_counter())
            got += samples_in(batch)
        if got != n:
            raise ValueError(f"an epoch gave {got} of {n} samples")
        passes.append(np.percentile(np.diff(times), (50, 99)) * 1e6)

    timing = best(run)
    p50, p99 = np.min(passes, axis=0).tolist()
    return {"shuffled": n / timing.wall, "shuffled cpu": timing.cpu / n * 1e6, "p50": p50, "p99": p99}


def random(contender: Contender, n: int, seconds: float = 0.3) -> Row:
    """Samples per second in random batches: the best of several passes."""
    batches = [batch for batch in cut(np.random.default_rng(5).permutation(n), BATCH)[:RANDOM_BATCHES] if len(batch)]
    rates, end = [], time.perf_counter() + seconds
    while len(rates) < 2 or time.perf_counter() < end:
        got, start = 0, time.perf_counter()
        for batch in batches:
            got += count(contender.batches([batch]))
            if time.perf_counter() > start + seconds:
                break
        rates.append(got / (time.perf_counter() - start))
    return {"random": max(rates)}


def one(contender: Contender, n: int, seconds: float = 0.15) -> Row:
    """Microseconds to read one sample by its number, among many: the best of some passes."""
    indices = np.random.default_rng(6).integers(0, n, SINGLE_READS).tolist()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:
        done, start = 0, time.perf_counter()
        for done, index in enumerate(indices, 1):  # noqa: B007 - read after the loop
            contender.one(index)
            if time.perf_counter() > start + seconds:
                break
        times.append((time.perf_counter() - start) / done)
    return {"one": min(times) * 1e6}


def first(contender: Contender, n: int) -> Row:
    """Milliseconds from a path to the first shuffled batch, with modules loaded."""

    def run() -> None:
        contender.open()
        next(iter(contender.shuffled(BATCH)))

    return {"first": best(run).wall * 1e3}


READING = {"first": first, "sequential": sequential, "shuffled": shuffled, "random": random, "one": one}


def held() -> int:
    """Bytes of this process that are not pages of files: anonymous and shared memory."""
    status = Path("/proc/self/status").read_text("ascii")
    return sum(map(int, re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.M))) << 10


@contextmanager
def watched(every: float = 0.002) -> Iterator[list[int]]:
    """What this process holds, again and again."""
    seen, stop = [held()], threading.Event()

    def watch() -> None:
        while not stop.wait(every):
            seen.append(held())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def memory(contender: Contender, n: int, seconds: float = 0.4) -> Row:
    """The most that shuffled epochs hold, above what a dataset of a few samples and all modules take. Whole MB."""
    small = warm_up_of(contender)
    small.open()
    whole(small.shuffled(BATCH), WARM_UP)
    end = time.perf_counter() + seconds
    with watched() as seen:
        contender.open()
        while time.perf_counter() < end or len(seen) < 5:
            whole(contender.shuffled(BATCH), n)
    return {"memory": max(1, round((max(seen) - seen[0]) / 1e6))}


def rates(contender: Contender, request: Row) -> Row:
    """Memory, writing where the request names samples, then reading; seconds spent on each measure."""
    wanted, n, found, took = request["measures"], request["n"], Row(), dict[str, float]()
    if "memory" in wanted:
        found |= memory(contender, n)
    reading = [name for name in READING if name in wanted]
    if "samples" in request:
        samples = load(Path(request["samples"]))[:n]
        try:
            timing = write_measured(contender, samples)
        except CannotHoldError as error:
            return {"cannot": str(error)}
        found["stored"] = folder_nbytes(contender.folder) / 1e6
        found["share"] = found["stored"] * 1e6 / raw_nbytes(samples)
        took["write"] = timing.wall
        if "write" in wanted:
            found["write"] = n / timing.wall
        if "one" in reading:
            contender.open()
            check(contender, samples)
        del samples
        gc.collect()
    if reading:
        contender.open()
    for name in reading:
        start = time.perf_counter()
        found |= READING[name](contender, n)
        took[name] = time.perf_counter() - start
    return found | {"took": took}


def workers(contender: Contender, request: Row) -> Row:
    """Samples a second of shuffled epochs with a map, by workers: the second epoch of each."""
    contender.open()
    found, function = Row(), getattr(python_maps, request["map"])
    for kind, number in itertools.product(type(contender).worker_kinds, request["workers"]):
        if number or "none" not in found:
            loader = contender.with_workers(BATCH, number, kind, function)
            whole(loader, request["n"])
            timing = timed(lambda loader=loader: whole(loader, request["n"]))  # type: ignore[misc]
            found[f"{kind} {number}" if number else "none"] = request["n"] / timing.wall
            del loader
    return found


RUNS = {"rates": rates, "workers": workers}


def run(request: dict[str, Any]) -> Row:
    kinds = {name: Kind(kind[0], kind[1], tuple(kind[2])) for name, kind in request["kinds"].items()}
    contender = ALL[request["contender"]](Path(request["folder"]), kinds)
    return RUNS[request["run"]](contender, request)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--one", required=True, type=json.loads, metavar="REQUEST")
    answer(run(parser.parse_args().one))


if __name__ == "__main__":
    main()
