"""An epoch over ten windows takes the memory of one window plus 100 MB, all processes together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recordio import DatasetWriter

SCRIPT = Path(__file__).with_name("memory.py")
WINDOW = 20_000_000
MORE = 100_000_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's account of memory"),
]


@pytest.fixture(scope="module", params=[None, "zstd"], ids=["plain", "zstd"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("memory") / "dataset", np.random.default_rng(0)
    with DatasetWriter(folder, compression=request.param, shard_bytes=60_000_000) as writer:
        for n in range(10 * WINDOW // 16_000):
            writer.write({"n": n, "values": random.integers(0, 64, 16_000).astype(np.uint8)})
    return folder


@pytest.mark.parametrize("workers", ["none", "thread", "fork", "spawn"])
def test_epoch_stays_within_the_window_plus_100_mb(dataset: Path, workers: str) -> None:
    words = [sys.executable, str(SCRIPT), str(dataset), str(WINDOW), workers]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=240)
    assert WINDOW // 2 < int(done.stdout) < WINDOW + MORE
