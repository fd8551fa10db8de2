"""The examples learn, and a resumed run gets the same batches as an uninterrupted one."""

from __future__ import annotations

import concurrent.futures
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes_seen import python_on

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.timeout(300)]

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*arguments: str, code: int = 0, ranks: int = 1, script: str = "train_images.py") -> str:
    done = subprocess.run(
        [*python_on(ranks), str(EXAMPLES / script), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
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


def test_image_training_learns_and_resumes_with_the_same_batches(shards: str, tmp_path: Path) -> None:
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
        labels = sorted(label for share in shares for label in share.split()[:-1])
        assert labels == sorted(line.split()[:-1])


def test_the_classic_tutorial_learns_in_an_epoch() -> None:
    assert accuracy(run(script="tutorial.py")) > 65


def test_the_tutorial_takes_val_where_there_is_no_test(tmp_path: Path) -> None:
    code = "import sys, pathlib, tutorial as t; t.converted_digits(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, cwd=EXAMPLES)
    (tmp_path / "digits.rio" / "test").rename(tmp_path / "digits.rio" / "val")
    assert accuracy(run(str(tmp_path / "digits.rio"), script="tutorial.py")) > 65
    assert "usage: tutorial.py" in run("--help", script="tutorial.py")


def figures(name: str, output: str) -> list[float]:
    return [float(found) for found in re.findall(f"{name} ([0-9.]+)", output)]


@pytest.mark.parametrize("ranks", [1, 2])
def test_token_training_learns_and_resumes_with_the_same_batches(ranks: int, tmp_path: Path) -> None:
    text = Path(concurrent.futures.__file__).parent
    arguments = [str(tmp_path / "tokens.rio"), "--text", str(text), "--epochs", "1", "--report", "5"]
    output = run(*arguments, "--trace", str(tmp_path / "whole"), ranks=ranks, script="train_tokens.py")
    (entropy,) = figures("entropy", output)
    first, *_, last, held_out = figures("loss", output)
    assert first > entropy > max(last, held_out), output

    arguments += ["--trace", str(tmp_path / "part"), "--checkpoint", str(tmp_path / "model.pt")]
    run(*arguments, "--stop-after", "12", code=9 if ranks == 1 else 1, ranks=ranks, script="train_tokens.py")
    run(*arguments, ranks=ranks, script="train_tokens.py")
    for rank in range(ranks):
        whole, part = ((tmp_path / f"{name}.{rank}").read_text().splitlines() for name in ("whole", "part"))
        before = len(part) - len(whole[10:])  # the checkpoint was taken at batch 10
        assert part == whole[:before] + whole[10:]
        assert before in ({12} if ranks == 1 else {11, 12})  # one rank may be stopped while the other dies
