"""Runs a function of a test module in a process of its own, with little memory and little time.

`python -m tests.faults.bounded MODULE FUNCTION BYTES` prints the list of faults that the function returns, as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """The environment of a child that imports the same modules. Limits threads of libraries, which count as memory."""
    paths = os.pathsep.join([str(TOP), *filter(None, sys.path), os.getcwd()])
    return os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def python(*words: str, seconds: int = 240, **more: str) -> str:
    """Output of a Python process. A crash or a hang fails."""
    command, env = [sys.executable, "-W", "error", *words], environment() | more
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=env, check=False)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def bounded(module: str, function: str, nbytes: int = 3 << 29, seconds: int = 240) -> Any:
    """Result of a function, run with `nbytes` of address space. A crash or a hang fails."""
    out = python("-m", "tests.faults.bounded", module, function, str(nbytes), seconds=seconds)
    return json.loads(out.splitlines()[-1])


def main(module: str, function: str, nbytes: str) -> None:
    import resource

    found = getattr(importlib.import_module(f"tests.faults.{module}"), function)
    if int(nbytes):
        resource.setrlimit(resource.RLIMIT_AS, (int(nbytes), int(nbytes)))
    print(json.dumps(found()))


if __name__ == "__main__":
    main(*sys.argv[1:])
