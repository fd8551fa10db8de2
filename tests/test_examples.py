"""The examples run, learn, and resume with the very batches of an uninterrupted run."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*words: str, code: int = 0, ranks: int = 1) -> str:
    command = [sys.executable]
    if ranks > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command += ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--master-addr=127.0.0.1",
                    f"--master-port={port}"]  # fmt: skip
    done = subprocess.run(
        [*command, str(EXAMPLES / "train_images.py"), *words],
        capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("examples") / "digits.rio"
    code = "import sys, pathlib, train_images as t; t.write_digits(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, folder], check=True, cwd=EXAMPLES)
    return str(folder)


def accuracy(output: str) -> float:
    found = re.search(r"held out: ([\d.]+)%", output)
    assert found, output
    return float(found[1])


def test_training_learns_and_a_killed_run_resumes_with_the_same_batches(shards: str, tmp_path: Path) -> None:
    assert accuracy(run(shards, "--epochs", "3", "--trace", str(tmp_path / "whole"))) > 85
    part = [shards, "--epochs", "3", "--trace", str(tmp_path / "part"), "--checkpoint", str(tmp_path / "model.pt")]
    run(*part, "--stop-after", "30", code=9)
    resumed = run(*part)
    assert accuracy(resumed) > 85
    assert (tmp_path / "part.0").read_text() == (tmp_path / "whole.0").read_text()


def test_two_processes_train_together(shards: str, tmp_path: Path) -> None:
    assert accuracy(run(shards, "--epochs", "3", "--trace", str(tmp_path / "two"), ranks=2)) > 85
    run(shards, "--epochs", "1", "--trace", str(tmp_path / "one"))
    ranks = [(tmp_path / f"two.{rank}").read_text().splitlines() for rank in (0, 1)]
    alone = (tmp_path / "one.0").read_text().splitlines()
    assert len(ranks[0]) == len(ranks[1]) == 3 * len(alone)
    for line, *shares in zip(alone, *ranks, strict=False):
        labels = sorted(label for share in shares for label in share.split()[1:-1])
        assert labels == sorted(line.split()[1:-1])
