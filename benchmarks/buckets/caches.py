"""Caches: processes that share one, and one that is smaller than the data."""

from __future__ import annotations

import argparse
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measuring import Row, in_process, say, succeeded

from buckets.peers import MEMORY, request_of
from buckets.server import Server

PROCESSES = 4
SHARE = 0.5


def run(script: str, server: Server, out: Path, options: argparse.Namespace) -> dict[str, list[Row]]:
    def of(**rest: object) -> Row:
        return succeeded(in_process(script, request | rest, 2 * options.patience, memory=MEMORY))

    request = request_of("recordio, plain HTTP", server, out / "cache") | {"epochs": 1}
    say("  ranks of one node")
    with ThreadPoolExecutor(PROCESSES) as pool:
        shares = [{"rank": rank, "world_size": PROCESSES} for rank in range(PROCESSES)]
        ranks = list(pool.map(lambda share: of(loading=share), shares))
    shutil.rmtree(out / "cache")
    say("  processes that read everything")
    with ThreadPoolExecutor(PROCESSES) as pool:
        every = list(pool.map(lambda seed: of(loading={"seed": seed}), range(PROCESSES)))
    shutil.rmtree(out / "cache")
    size = sum(path.stat().st_size for path in (server.root / "b" / "recordio").iterdir())
    rows = [shared("ranks of one epoch", ranks, size), shared("a whole epoch each, in other orders", every, size)]
    say("  half a cache")
    nbytes = int(SHARE * size)
    one = {"prefetch_bytes": 0}  # else the bytes for the epoch after the last one would count
    first = of(cache_bytes=nbytes, loading=one)
    both = of(cache_bytes=nbytes, loading=one)
    shutil.rmtree(out / "cache")
    filled, hits = first["bytes_fetched"] / size, 1 - both["bytes_fetched"] / size
    half = {"cache": f"{SHARE} of the data", "fetched, first run": filled, "hit rate, second run": hits}
    return {f"{PROCESSES} processes on one cache": rows, "a cache smaller than the data": [half]}


def shared(name: str, runs: list[Row], size: int) -> Row:
    fetched = sum(row["bytes_fetched"] for row in runs)
    return {
        "processes": name,
        "fetched / data": fetched / size,
        "seconds": max(row["epochs"][0]["seconds"] for row in runs),
        "samples": sum(row["epochs"][0]["samples"] for row in runs),
    }
