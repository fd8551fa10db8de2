"""Scripts with a function of their own; that of docs/convert.md runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import recordio
from tests.writer.convert.makers import contents

TOP = Path(__file__).parents[3]
PROGRAM = re.compile(r"```python\n# samples\.py\n(.*?)```", re.DOTALL)


def run(folder: Path, program: str, *arguments: str) -> tuple[str, str]:
    """What a script prints, and its errors."""
    (folder / "samples.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": str(Path(recordio.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "samples.py", *arguments], cwd=folder, capture_output=True, text=True, env=environment
    )
    return done.stdout, done.stderr


@pytest.mark.slow
def test_the_program_of_the_page_runs(tmp_path: Path) -> None:
    (program,) = PROGRAM.findall((TOP / "docs/convert.md").read_text("utf-8"))
    (tmp_path / "in").mkdir()
    for n in range(20):
        (tmp_path / f"in/{n:02}.txt").write_text("ab " * (n % 5) + "c" if n % 5 else "")
    assert run(tmp_path, program, "in", "out") == ("16 4\n", "")
    dataset = recordio.ShardDataset(tmp_path / "out")
    assert dataset[2]["tokens"].tolist() == [2, 2, 2, 1]
    assert dataset["name"] == [f"{n:02}" for n in range(20) if n % 5]
    before = contents(tmp_path / "out")
    assert run(tmp_path, program, "in", "out") == ("16 4\n", "")
    assert contents(tmp_path / "out") == before


SCRIPT = """
import recordio

def sample(n):
    return {"n": n}

def main():
    print(recordio.convert(range(1000), "out", fn=sample, shard_bytes=2000, workers=2).shards)

"""


@pytest.mark.slow
def test_processes_find_a_function_of_the_script(tmp_path: Path) -> None:
    assert run(tmp_path, SCRIPT + 'if __name__ == "__main__":\n    main()\n') == ("4\n", "")


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_of_it(tmp_path: Path) -> None:
    out, errors = run(tmp_path, SCRIPT + "main()\n")
    assert out == ""
    last = errors.strip().splitlines()[-1]
    assert last.startswith("recordio.errors.WorkerError: worker processes import the script for the functions in it")
    assert 'put the call under `if __name__ == "__main__":`' in last
