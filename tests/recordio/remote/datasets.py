"""A dataset in a bucket and on disk, and what a test knows of the bytes that were fetched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import recordio
from recordio.remote.helper_process import asked

COUNT = 300


def write_dataset(folder: Path, count: int = COUNT, seed: int = 0) -> Path:
    """Some five shards of some eight blocks of three fields each."""
    rng = np.random.default_rng(seed)
    schema = {"x": recordio.Array("float32", (50,)), "text": recordio.Text(), "number": recordio.Scalar("int64")}
    with recordio.DatasetWriter(folder, schema, shard_bytes=1 << 14, block_bytes=1 << 11) as writer:
        for n in range(count):
            x = rng.random(50).astype(np.float32)
            writer.write({"x": x, "text": f"text {n}" * (n % 5), "number": n})
    return folder


def same(a: Any, b: Any) -> bool:
    """Whether two samples or batches are equal."""
    return list(a) == list(b) and all(np.array_equal(a[name], b[name]) for name in a)


def helper_counts() -> dict[str, Any]:
    """What the helper of this process has counted."""
    found: dict[str, Any] = asked(lambda helper: helper.submit("stats")).result()
    return found


def fetched_nbytes() -> int:
    """Bytes of shards that the helper of this process has fetched."""
    return int(helper_counts()["bytes_fetched"])


def in_children(action: Callable[[int], Any], count: int) -> list[Any]:
    """What `action(rank)` gives in each of so many forked processes at once, as JSON."""
    children = []
    for rank in range(count):
        told, tell = os.pipe()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                os.write(tell, json.dumps(action(rank)).encode())
                code = 0
            finally:
                os._exit(code)
        os.close(tell)
        children.append((pid, told))
    found = []
    for pid, told in children:
        with os.fdopen(told, "rb") as answers:
            found.append(json.loads(answers.read()))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return found
