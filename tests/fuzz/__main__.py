"""A long run of all targets under atheris, some of them at a time, each in a process of its own.

    python -m tests.fuzz --seconds 3600 --jobs 2 --seed 1 [TARGET ...]

prints a line for each target: its inputs, the code that they reached (edges, and libFuzzer's features of these), how
many inputs it keeps, and what broke the law. Exit code 1 if anything did.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.targets import TARGETS

_FOUND = ("crash-", "timeout-", "oom-", "leak-", "slow-unit-")
_LEAST_SECONDS = 2


@dataclass(frozen=True)
class Result:
    """What came of a target."""

    name: str
    inputs: int
    edges: int
    features: int
    kept: int
    broken: tuple[str, ...]
    ended: bool

    def __str__(self) -> str:
        words = f"{self.name:16}{self.inputs:12,}{self.edges:8,}{self.features:10,}{self.kept:8,}"
        return "\n    ".join((words, *self.broken, *(() if self.ended else (f"see {self.name}.log",))))


def fuzz(name: str, seconds: float, seed: int, folder: Path) -> Result:
    """Runs a target for so long."""
    home = folder / name
    home.mkdir(parents=True, exist_ok=True)
    before = set(_broken(home))
    command = [sys.executable, "-m", "tests.fuzz.guided", name, str(home), f"-seed={seed}"]
    with open(folder / f"{name}.log", "w+") as log:
        options = f"-max_total_time={max(_LEAST_SECONDS, round(seconds))}"
        code = subprocess.run([*command, options], stdout=log, stderr=log, check=False).returncode
        log.seek(0)
        text = log.read()
    inputs = re.findall(r"number_of_executed_units: (\d+)", text) or re.findall(r"^#(\d+)", text, re.M) or ["0"]
    reached = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", text) or [("0", "0", "0")]
    new = tuple(sorted(set(_broken(home)) - before))
    return Result(name, int(inputs[-1]), *map(int, reached[-1]), broken=new, ended=code == 0)


def _broken(home: Path) -> Iterator[str]:
    return (str(path) for path in home.iterdir() if path.name.startswith(_FOUND))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=600, help="how long all of it may take")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="for what is found")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no target named {', '.join(sorted(unknown))}")
    seconds = options.seconds * options.jobs / len(names)
    print(f"{'target':16}{'inputs':>12}{'edges':>8}{'features':>10}{'kept':>8}")
    with ThreadPoolExecutor(options.jobs) as pool:
        results = []
        for result in pool.map(lambda name: fuzz(name, seconds, options.seed, options.folder), names):
            results.append(result)
            print(result, flush=True)
    print(f"{'all':16}{sum(one.inputs for one in results):12,}, seed {options.seed}")
    return int(not all(one.ended and not one.broken for one in results))


if __name__ == "__main__":
    sys.exit(main())
