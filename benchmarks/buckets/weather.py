"""Weather: requests that are a second late, a server that throttles, and what the model of the link allows."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from measuring import Row, in_process, median, say

from buckets.peers import MEMORY, request_of
from buckets.server import CONNECTION_RATE, FIRST_BYTE, MOST_REQUESTS, Server

CONNECTIONS = 64
HALF_OF_THE_LINK = 200e6  # bytes a second that the consumer takes
RUNS: dict[str, Row] = {  # more of the request, and the server
    "plain HTTP": {"server": "plain"},
    "1 % a second late, consumer at 200 MB/s": {"server": "late", "rate": HALF_OF_THE_LINK},
    "1 % a second late, 256 MiB ahead": {
        "server": "late",
        "rate": HALF_OF_THE_LINK,
        "loading": {"prefetch_bytes": 256 << 20},
    },
    f"503 over {MOST_REQUESTS} requests/s": {"server": "throttled"},
}


def run(script: str, server: Server, out: Path, options: argparse.Namespace) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {name: [] for name in RUNS}
    for number in range(options.rounds):
        for name, rest in RUNS.items():
            say(f"  round {number + 1}: {name}")
            request = request_of("recordio, plain HTTP", server, out / "cache")
            request |= {"url": f"{getattr(server, rest['server'])}/b/recordio", "epochs": 1, **rest}
            row = in_process(script, request, options.patience, memory=MEMORY)
            shutil.rmtree(out / "cache", ignore_errors=True)
            found[name].append(row | {"name": name})
    return {"": [figures(name, rows) for name, rows in found.items()]}


def figures(name: str, rounds: list[Row]) -> Row:
    good = [row for row in rounds if "failed" not in row]

    def of(key: str) -> Any:
        return median(row["epochs"][0][key] for row in good)

    def counted(key: str) -> Any:
        return median(row[key] for row in good)

    seconds = of("seconds")
    nbytes, requests = counted("bytes_fetched"), counted("requests")
    good_requests = median(row["requests"] - row["throttled"] for row in good)
    return {
        "store": name,
        "epoch s": seconds,
        "least s": least(RUNS[name], nbytes, good_requests) if good else None,
        "first batch s": of("first"),
        "waits over 0.1 s": of("stalls"),
        "longest s": of("longest"),
        "requests": requests,
        "hedged": counted("hedged"),
        "throttled": counted("throttled"),
        "latency p50 ms": counted("latency_p50") * 1e3 if good else None,
        "latency p99 ms": counted("latency_p99") * 1e3 if good else None,
        "failed": next((row["failed"] for row in rounds if "failed" in row), ""),
    }


def least(run: Row, nbytes: float, requests: float) -> float:
    """Seconds by the model of the connections' latency and rate, of the consumer's rate, or of the server's limit."""
    if run["server"] == "throttled":
        return requests / MOST_REQUESTS
    one = nbytes / requests
    by_link = requests / CONNECTIONS * (FIRST_BYTE + one / CONNECTION_RATE)
    return max(by_link, nbytes / run["rate"]) if "rate" in run else by_link
