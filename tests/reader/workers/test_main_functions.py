"""Process workers of a main module without a file: a notebook, -c or stdin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import recordio

CODE = """
import recordio

def double(sample):
    return {"id": 2 * sample["id"]}

class Adder:
    def __call__(self, sample):
        return {"id": 1 + sample["id"]}

def main(path):
    ds = recordio.ShardDataset(path, fields=["id"])
    for name, function in (("function", double), ("object", Adder()), ("lambda", lambda sample: sample)):
        for method in ("spawn", "forkserver", "fork"):
            loader = recordio.DataLoader(
                ds.map(function), 4, num_workers=1, worker_type="process", multiprocessing_context=method
            )
            try:
                print(name, method, next(iter(loader))["id"].tolist())
            except Exception as error:
                print(name, method, type(error).__name__, error)
"""
NOTEBOOK = """
import sys, types
code = sys.argv[2]
main = sys.modules["__main__"] = types.ModuleType("__main__")  # as ipykernel makes it: without a file
exec(compile(code, "/tmp/ipykernel_7/1.py", "exec"), main.__dict__)
main.main(sys.argv[1])
"""
START = "\nimport sys\nif __name__ == '__main__':\n    main(sys.argv[1])\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with recordio.DatasetWriter(tmp_path / "ds") as writer:
        for number in range(8):
            writer.write({"id": number})
    return tmp_path / "ds"


def lines(words: list[object], stdin: str = "") -> dict[str, str]:
    """What was printed for each function and start method."""
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, timeout=50)
    return {" ".join(line.split()[:2]): line.split(maxsplit=2)[2] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("way", ["-c", "stdin", "notebook"])
def test_a_function_that_no_process_can_import_is_refused_by_name(way: str, path: Path) -> None:
    if way == "-c":
        found = lines(["-c", CODE + START, path])
    elif way == "stdin":
        found = lines(["-", path], stdin=CODE + START)
    else:
        found = lines(["-c", NOTEBOOK, path, CODE])
    assert found["function fork"] == "[0, 2, 4, 6]"
    assert found["object fork"] == "[1, 2, 3, 4]"
    for method in ("spawn", "forkserver"):
        for kind, name in (("function", "double"), ("object", "Adder"), ("lambda", "main.<locals>.<lambda>")):
            message = found[f"{kind} {method}"]
            assert message.startswith(f"WorkerError worker processes cannot import {name}: it ")
            assert 'worker_type="thread" or multiprocessing_context="fork"' in message


def test_functions_of_a_script_are_imported(path: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(CODE + START, "utf-8")
    found = lines([script, path])
    assert {found[f"function {method}"] for method in ("spawn", "forkserver", "fork")} == {"[0, 2, 4, 6]"}
    assert "script.py, line 13" in found["lambda spawn"]
