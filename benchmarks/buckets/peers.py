"""Peers: two epochs over a server with 40 ms and 90 MB/s a connection, from an empty cache, and those of a folder."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from measuring import Row, in_process, median, say

from buckets.server import Server

WORKERS = 2
MEMORY = 3 << 30  # the data in a cache, windows, what is on its way
POOLS = {"unit_bytes": 1 << 20, "pool_bytes": 384 << 20, "window_bytes": 128 << 20}
# Contender, its loop, whether TLS, more of the request. LitData's store refuses plain HTTP; the CRT of
# s3torchconnector trusts no authority but the system's.
CONTENDERS: list[tuple[str, str, bool, Row]] = [
    ("recordio", "recordio", True, {"cache": True}),
    ("recordio, no cache", "recordio", True, {}),
    ("recordio, windows of 64 MiB", "recordio", True, {"cache": True, "loading": {"window_bytes": 64 << 20}}),
    ("recordio, units of 1 MiB", "recordio", True, {"cache": True, "loading": POOLS}),
    ("WebDataset", "webdataset", True, {}),
    ("WebDataset, cache_dir", "webdataset", True, {"cache": True}),
    ("MosaicML Streaming", "mds", True, {"cache": True}),
    ("LitData", "litdata", True, {"cache": True}),
    ("recordio, plain HTTP", "recordio", False, {"cache": True}),
    ("s3torchconnector, plain HTTP", "s3torchconnector", False, {}),
    ("recordio, a local folder", "recordio", False, {"local": True}),
]
FORMATS = {"webdataset": "wds", "s3torchconnector": "wds"}  # of other loops: their own names


def request_of(name: str, server: Server, cache: Path) -> Row:
    """What `loops.measure` is asked for."""
    loop, tls, rest = next((loop, tls, rest) for known, loop, tls, rest in CONTENDERS if known == name)
    folder = server.root / "b" / FORMATS.get(loop, loop)
    url = f"{server.tls if tls else server.plain}/b/{folder.name}"
    return {
        "section": "peers",
        "loop": loop,
        "url": str(folder) if rest.get("local") else url,
        "endpoint": server.tls if tls else server.plain,
        "authority": str(server.authority),
        "shards": len(list(folder.glob("*.tar"))),
        "workers": WORKERS,
        "epochs": 2,
        **rest,
        "cache": str(cache) if rest.get("cache") else None,
    }


def run(script: str, server: Server, out: Path, options: argparse.Namespace) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {name: [] for name in options.contenders or [name for name, *_ in CONTENDERS]}
    notes: dict[str, str] = {}
    for number in range(options.rounds):
        names = list(found)
        shift = number * max(1, len(names) // options.rounds)
        for name in names[shift:] + names[:shift]:
            say(f"  round {number + 1}: {name}")
            request = request_of(name, server, out / "cache")
            variables = server.variables(request["endpoint"])
            row = in_process(script, request, options.patience, variables=variables, memory=MEMORY)
            shutil.rmtree(out / "cache", ignore_errors=True)
            if "failed" in row:
                notes[name] = row["failed"]
            else:
                found[name].append(row)
    return {"": [figures(name, rows, notes.get(name, "")) for name, rows in found.items()]}


def figures(name: str, rounds: list[Row], note: str) -> Row:
    """Medians over the rounds."""

    def of(epoch: int, key: str) -> Any:
        return median(row["epochs"][epoch][key] for row in rounds)

    nbytes, seconds = of(0, "nbytes"), of(0, "seconds")
    return {
        "contender": name,
        "epoch 1 s": seconds,
        "MB/s": nbytes / seconds / 1e6 if rounds else None,
        "first batch s": of(0, "first"),
        "epoch 2 s": of(1, "seconds"),
        "CPU s, both": median(sum(epoch["cpu"] for epoch in row["epochs"]) for row in rounds),
        "samples": of(0, "samples"),
        "runs": len(rounds),
        "note": note,
    }
