"""A conversion whose processes are killed at any moment, run again until it is done: one tree of bytes.

Workers, or all of it, are killed at random moments: at a few, and at 30 with RECORDIO_TEST_LONG=1.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import recordio
from recordio import ShardDataset, verify
from tests.effort import LONG
from tests.processes_seen import children
from tests.writer.convert.makers import any_number, contents, expected, made

INPUTS = 3000
POINTS = 30 if LONG else 3
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SCRIPT = f"""
import sys
from recordio import convert
from tests.writer.convert.makers import any_number

def tell(done, total):
    print(done, flush=True)

workers = int(sys.argv[2])
convert(range({INPUTS}), sys.argv[1], fn=any_number, workers=workers, shard_bytes=1000, shuffle=7, progress=tell)
"""


def start(out: Path, workers: int) -> subprocess.Popen[str]:
    """The conversion, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(out), str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(recordio.__file__).parents[1])},
    )


def kill_at(point: int, rng: random.Random, out: Path, workers: int) -> str:
    """Starts a conversion and kills a worker of it, or all, once it has come so far. Returns what it said."""
    process = start(out, workers)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= point:
            break
    below = [*children(process.pid)]
    if below and rng.random() < 0.5:
        os.kill(rng.choice(below), signal.SIGKILL)
    else:
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of an uninterrupted conversion."""
    out = tmp_path_factory.mktemp("whole") / "out"
    made(range(INPUTS), out, fn=any_number, shard_bytes=1000, shuffle=7)
    assert sorted(ShardDataset(out)["n"].tolist()) == expected(range(INPUTS))
    assert verify(out).ok
    return contents(out)


@pytest.mark.parametrize("workers", [2, 5])
def test_any_number_of_workers_makes_the_same_bytes(tmp_path: Path, whole: dict[str, bytes], workers: int) -> None:
    made(range(INPUTS), tmp_path / "out", fn=any_number, shard_bytes=1000, shuffle=7, workers=workers)
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize("seed", range(POINTS))
def test_a_conversion_that_is_killed_goes_on_to_the_same_bytes(
    tmp_path: Path, whole: dict[str, bytes], seed: int
) -> None:
    rng = random.Random(seed)
    out, workers = tmp_path / "out", rng.choice((1, 2, 5))
    kill_at(rng.randrange(INPUTS), rng, out, workers)
    process = start(out, rng.choice((1, 2, 5)))
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert contents(out) == whole
