"""One contender on one workload, in a process of its own: compare.py starts it, `--one REQUEST`.

The contender first writes a few samples elsewhere, so that its import is not timed. Reading follows writing, with a
warm page cache. The samples of every epoch are counted, and a few single ones compared.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contender import CannotHoldError, Contender, cut
from contenders import ALL
from measuring import Row, Timing, answer, best, folder_nbytes, timed
from workloads import Sample, kinds_of, load, raw_nbytes

BATCH = 256
RANDOM_BATCHES = 20
SINGLE_READS = 500


def write_measured(contender: Contender, samples: Sequence[Sample]) -> Timing:
    shutil.rmtree(contender.folder, ignore_errors=True)
    warmup = contender.folder.with_name(f"{contender.folder.name} warm-up")
    type(contender)(warmup, contender.kinds).write(samples[:8])
    shutil.rmtree(warmup)
    return timed(lambda: contender.write(samples))


def check(contender: Contender, samples: Sequence[Sample]) -> None:
    """Compares single samples with the originals."""
    for index in {0, 1, len(samples) // 2, len(samples) - 1}:
        found = contender.one(index)
        for name, value in samples[index].items():
            if not np.array_equal(np.asarray(found[name]), np.asarray(value)):
                raise ValueError(f"{contender.folder.name}: sample {index} came back with another {name}")


def epoch(read: Callable[[int], int], n: int) -> Timing:
    def run() -> None:
        if (got := read(BATCH)) != n:
            raise ValueError(f"an epoch gave {got} of {n} samples")

    return best(run)


def random_rate(contender: Contender, n: int, seconds: float = 0.3) -> float:
    """Samples per second in random batches: the best of several passes."""
    batches = [batch for batch in cut(np.random.default_rng(5).permutation(n), BATCH)[:RANDOM_BATCHES] if len(batch)]
    rates, end = [], time.perf_counter() + seconds
    while len(rates) < 2 or time.perf_counter() < end:
        got, start = 0, time.perf_counter()
        for batch in batches:
            got += contender.batches([batch])
            if time.perf_counter() > start + seconds:
                break
        rates.append(got / (time.perf_counter() - start))
    return max(rates)


def single_us(contender: Contender, n: int, seconds: float = 0.15) -> float:
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
    return min(times) * 1e6


def measure(contender: Contender, n: int, wanted: Sequence[str]) -> Row:
    """The figures of reading, and the seconds spent on each."""
    figures: Row = {}
    took: dict[str, float] = {}
    for name in [name for name in wanted if name != "write"]:
        start = time.perf_counter()
        if name in ("sequential", "shuffled"):
            timing = epoch(getattr(contender, name), n)
            figures |= {name: n / timing.wall, f"{name} wall": timing.wall / n, f"{name} cpu": timing.cpu / n}
        else:
            figures[name] = random_rate(contender, n) if name == "random" else single_us(contender, n)
        took[name] = time.perf_counter() - start
    return figures | {"took": took}


def run(request: dict[str, Any]) -> Row:
    samples = load(Path(request["samples"]))
    kinds, kind = kinds_of(samples[0]), ALL[request["contender"]]
    samples = samples[: -(-len(samples) // 4)] if kind.slow else samples
    contender, n = kind(Path(request["folder"]), kinds), len(samples)
    written: Row = {}
    if request["write"]:
        try:
            timing = write_measured(contender, samples)
        except CannotHoldError as error:
            return {"cannot": str(error)}
        written = {"stored": folder_nbytes(contender.folder) / raw_nbytes(samples)}
        if "write" in request["measures"]:
            written |= {"write": n / timing.wall, "write took": timing.wall}
    reading = [name for name in request["measures"] if name != "write"]
    if not reading:
        return written | {"took": {"write": written.get("write took", 0)}}
    contender.open()
    if request["write"] and "one" in reading:
        check(contender, samples)
    samples.clear()
    gc.collect()
    figures = measure(contender, n, reading)
    figures["took"]["write"] = written.get("write took", 0)
    return written | figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--one", required=True, type=json.loads, metavar="REQUEST")
    answer(run(parser.parse_args().one))


if __name__ == "__main__":
    main()
