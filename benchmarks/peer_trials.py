"""What loaders do when workers and ranks change, when they are stopped, and when a bit flips: tried, not read.

    python benchmarks/peer_trials.py [--environments ENVS] [--loaders NAME ...] [--trials NAME ...]

960 samples of a number and 256 random bytes each, in shards of 64; one shuffled epoch with one seed, in batches of 24
over all ranks together. The environments of the peers are folders in ENVS: main, hf, ldb and spdl (`peer_loaders.py`).

- order, workers: whether 2 and 3 workers give the batches that none gives.
- order, ranks: whether 2 and 4 ranks, a process each, give the samples of each global batch that one gives.
- resume: 2 ranks are stopped after 10 batches of each; others go on from their states. How many samples of the epoch
  were given once in all, by which number of ranks.
- flipped bits: one bit at each of 12 places of the files of data, but for padding; whether an epoch then fails, or
  gives other bytes.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from measuring import Row, answer, say, show
from peer_loaders import LOADERS, SEED, TRIALS, Pair, payload

N, GLOBAL, STOP, FLIPS = 960, 24, 10, 12
SECONDS = 120


def given(request: Row) -> Row:
    """In a process of its own: the batches of a rank, up to `stop`, and the state there."""
    kind = LOADERS[request["loader"]]
    rank, world = request["rank"], request["world"]
    if kind.needs_torch_ranks and world > 1:
        import torch.distributed as ranks

        ranks.init_process_group("gloo")
    state = request.get("state")
    states = None if state is None else [pickle.loads(base64.b64decode(one)) for one in state]
    loader = kind(Path(request["folder"]), GLOBAL // world, rank, world, request["workers"], states)
    found: list[list[int]] = []
    wrong, batches = 0, loader.batches()
    for batch in batches:
        found.append([int(number) for number, _ in batch])
        wrong += sum(not is_right(pair) for pair in batch)
        if len(found) == request.get("stop"):
            break
    position = loader.position() if request.get("stop") else None
    kept = None if position is None else base64.b64encode(pickle.dumps(position)).decode()
    return {"batches": found, "wrong": wrong, "state": kept}


def is_right(pair: Pair) -> bool:
    number, data = pair
    return 0 <= number < N and data == payload(number)


class Trial:
    """A loader with its files."""

    def __init__(self, name: str, python: str, folder: Path) -> None:
        self._name, self._python, self._folder = name, python, folder
        self._port = 20_000 + os.getpid() % 20_000  # several may run

    def _start(self, folder: Path, rank: int, world: int, workers: int, more: Row) -> subprocess.Popen[str]:
        request = {
            "loader": self._name,
            "folder": str(folder),
            "rank": rank,
            "world": world,
            "workers": workers,
            **more,
        }
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": self._port}
        environment = {**os.environ, **{name: str(value) for name, value in {**ranks, **address}.items()}}
        command = [self._python, __file__, "--one", json.dumps(request)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)

    def run(self, world: int = 1, workers: int = 0, folder: Path | None = None, **more: Any) -> list[Row]:
        """The result of each rank. Raises RuntimeError with the last error of one that failed."""
        self._port += 1
        running = [self._start(folder or self._folder, rank, world, workers, more) for rank in range(world)]
        found = []
        try:
            for one in running:
                out, error = one.communicate(timeout=SECONDS)
                lines = [line for line in out.splitlines() if line.startswith('{"batches"')]
                if one.returncode or not lines:
                    said = error.strip().splitlines() or [f"exit code {one.returncode}"]
                    raise RuntimeError(([line for line in said if "Error" in line] or said)[-1][:120])
                found.append(json.loads(lines[-1]))
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not done after {SECONDS} s") from None
        finally:
            for one in running:
                one.kill()
        return found

    def write(self) -> None:
        code = "import sys; from pathlib import Path; from peer_loaders import LOADERS\n"
        code += "if __name__ == '__main__': LOADERS[sys.argv[1]].write(Path(sys.argv[2]), int(sys.argv[3]))\n"
        script = self._folder.with_suffix(".py")
        script.write_text(code)
        environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
        command = [self._python, str(script), self._name, str(self._folder), str(N)]
        subprocess.run(command, check=True, capture_output=True, env=environment, timeout=SECONDS)

    def by_workers(self) -> str:
        want = self.run()[0]["batches"]
        said = []
        for workers in (2, 3):
            got = self.run(workers=workers)[0]["batches"]
            said.append("same" if got == want else f"other ({alike(want, got)} of {len(want)} batches alike)")
        return said[0] if len(set(said)) == 1 else "; ".join(said)

    def by_ranks(self) -> str:
        want = self.run()[0]["batches"]
        said = []
        for world in (2, 4):
            got = joined(self.run(world))
            said.append("same" if list(map(set, got)) == list(map(set, want)) else f"other ({alike(want, got)} alike)")
        return said[0] if len(set(said)) == 1 else "; ".join(said)

    def resumed(self) -> str:
        before = self.run(2, stop=STOP)
        states = [row["state"] for row in before]
        if None in states:
            return "no state"
        said = []
        for world in (2, 4, 1):
            try:
                after = joined(self.run(world, state=states))
            except RuntimeError as error:
                said.append(f"{world}: {error}")
                continue
            counts = Counter(number for batch in [*joined(before), *after] for number in batch)
            once, more = sum(one == 1 for one in counts.values()), sum(one > 1 for one in counts.values())
            said.append(
                f"{world}: {'all once' if once == N else f'{once} once, {more} again, {N - once - more} never'}"
            )
        return "; ".join(said)

    def flipped(self) -> str:
        found: Counter[str] = Counter()
        for copy in self._copies():
            try:
                (row,) = self.run(folder=copy)
            except RuntimeError as error:
                say(f"    {error}")
                found["noticed"] += 1
                continue
            numbers = Counter(number for batch in row["batches"] for number in batch)
            if row["wrong"]:
                found["other bytes, in silence"] += 1
            else:
                found["no effect" if len(numbers) == N else "samples lost, in silence"] += 1
        return ", ".join(f"{count} {what}" for what, count in found.most_common())

    def _copies(self) -> Iterator[Path]:
        """Copies of the folder with one bit flipped, at random places spread over the larger files, but for padding."""
        files = [path for path in sorted(self._folder.rglob("*")) if path.is_file()]
        data = [path for path in files if path.stat().st_size > CHUNK_BYTES]
        places = [(path, at) for path in data for at in unpadded(path.read_bytes())]
        cuts = [len(places) * number // FLIPS for number in range(FLIPS + 1)]
        draw = random.Random(SEED)  # at even steps it would be the same place of each sample
        for number, (start, end) in enumerate(pairwise(cuts)):
            path, at = places[draw.randrange(start, end)]
            copy = self._folder.with_name("flipped")
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(self._folder, copy)
            whole = bytearray(path.read_bytes())
            whole[at] ^= 1 << number % 8
            (copy / path.relative_to(self._folder)).write_bytes(whole)
            yield copy


CHUNK_BYTES = 1 << 13  # smaller files are no data


def unpadded(data: bytes) -> list[int]:
    """Every place but those in long runs of zeros."""
    cuts = [at for run in re.finditer(rb"\0{64,}", data) for at in run.span()]
    return [at for start, end in list(pairwise([0, *cuts, len(data)]))[::2] for at in range(start, end)]


def joined(rows: Sequence[Row]) -> list[list[int]]:
    """The global batches of all ranks."""
    most = max(len(row["batches"]) for row in rows)
    return [[number for row in rows for number in (row["batches"][k : k + 1] or [[]])[0]] for k in range(most)]


def alike(want: list[list[int]], got: list[list[int]]) -> int:
    return sum(set(a) == set(b) for a, b in zip(want, got, strict=False))


def versions_of(name: str, python: str) -> str:
    code = "import sys; from importlib.metadata import version; print(*[f'{p} {version(p)}' for p in sys.argv[1:]])"
    done = subprocess.run([python, "-c", code, *LOADERS[name].packages], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "not installed"


def tried(name: str, python: str, trials: Sequence[str]) -> Row:
    row: Row = {"loader": name, "versions": versions_of(name, python)}
    with tempfile.TemporaryDirectory(prefix="recordio-trials-") as folder:
        trial = Trial(name, python, Path(folder) / "data")
        trial.write()
        steps = (trial.by_workers, trial.by_ranks, trial.resumed, trial.flipped)
        for what, step in zip(TRIALS, steps, strict=True):
            try:
                row[what] = step() if what in LOADERS[name].trials and what in trials else "not tried"
            except RuntimeError as error:
                row[what] = f"failed: {error}"
            say(f"  {name}: {what}: {row[what]}")
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path)
    parser.add_argument("--loaders", nargs="+", choices=LOADERS, default=list(LOADERS))
    parser.add_argument("--trials", nargs="+", choices=TRIALS, default=TRIALS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        answer(given(options.one))
    rows = []
    for name in options.loaders:
        place = LOADERS[name].environment
        own = (options.environments or Path()) / place / "bin" / "python"
        if place and not (options.environments and own.exists()):
            say(f"left out, without an environment: {name}")
            continue
        rows.append(tried(name, str(own) if place else sys.executable, options.trials))
    show(rows, options.json)


if __name__ == "__main__":
    main()
