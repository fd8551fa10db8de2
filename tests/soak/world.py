"""The datasets of a soak, an oracle of the samples that each holds, and ways to change them that may be cut short."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import recordio
from recordio import StorageError
from tests.soak.processes import Child, Fault, run
from tests.soak.samples import held, litter

Held = list[int] | None  # the samples of a dataset in order; None where there is none
FATES = ("none", "kill", "interrupt", "limit")
_MOST = 8  # datasets at a time


class World:
    """A folder of datasets.

    Attributes:
        datasets: the samples that each holds, by its name.
        counts: what has happened so far.
        rng: draws of the step.
    """

    def __init__(self, top: Path) -> None:
        self.top = top
        self.datasets: dict[str, list[int]] = {}
        self.counts: Counter[str] = Counter()
        self.rng = random.Random()
        self._samples = self._names = 0
        self._seconds: dict[str, float] = {}
        self.temporary = top / "tmp"
        self.temporary.mkdir()

    def path(self, name: str) -> Path:
        return self.top / name

    def new_name(self) -> str:
        self._names += 1
        return f"set-{self._names}"

    def scratch(self) -> Path:
        """An empty folder for one action."""
        folder = self.top / "scratch"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def fresh(self, most: int = 400) -> list[int]:
        """The numbers of samples that are nowhere yet."""
        count = self.rng.randrange(1, most)
        self._samples += count
        return list(range(self._samples - count, self._samples))

    def any(self, least: int = 0) -> str:
        """The name of a dataset with so many samples; an ordinary write makes one if there is none."""
        found = [name for name, numbers in self.datasets.items() if len(numbers) >= least]
        if found:
            return self.rng.choice(found)
        from tests.soak.writing import create

        return create(self, max(least, 100))

    def options(self) -> dict[str, Any]:
        """Of a writer."""
        return {
            "shard_samples": self.rng.choice([7, 60, 1000]),
            "block_bytes": self.rng.choice([500, 3000, None]),
            "compression": self.rng.choice([None, "auto", "zstd"]),
        }

    def parity(self) -> dict[str, Any]:
        """Of a writer of new datasets."""
        return {"parity": self.rng.choice([None, None, 1, 3])}

    def read(self, name: str) -> Held:
        return run(lambda: held(self.path(name)), self.top)

    def remove_some(self) -> None:
        """Keeps the world small."""
        while len(self.datasets) > _MOST:
            name = self.rng.choice(list(self.datasets))
            del self.datasets[name]
            shutil.rmtree(self.path(name))

    def publish(
        self,
        kind: str,
        action: Callable[[], Any],
        after: Mapping[str, list[int]],
        *,
        again: bool = True,
        in_order: bool = True,
    ) -> None:
        """Runs what makes or changes datasets to its end, or not, and checks that each is as before or as `after`.

        Args:
            after: the samples of each dataset once the action has succeeded.
            again: whether the action ends what it began when it is repeated; else from the old state only.
            in_order: False if the samples may have any order.
        """
        before = {name: self.datasets.get(name) for name in after}
        for attempt in range(4):
            fate = self.rng.choices(FATES, (9, 6, 1, 2))[0] if attempt < 3 else "none"
            has_ended = self._attempt(kind, fate, action)
            found = {name: self.read(name) for name in after}
            for name, numbers in found.items():
                wanted = [before[name], after[name]][has_ended:]
                require_one_of(f"{kind}, {fate}: {name}", numbers, wanted, in_order)
                self._keep(name, numbers)
            if has_ended:
                self._require_clean(after)
                return
            is_old = all(numbers == before[name] for name, numbers in found.items())
            if not (again or is_old) or self.rng.random() < 0.2:
                break
        self._leave(found)

    def _attempt(self, kind: str, fate: str, action: Callable[[], Any]) -> bool:
        """Whether the action has come to its end."""
        limit = self.rng.choice([100, 2000, 20_000]) if fate == "limit" else None
        begun = time.monotonic()
        child = Child(action, self.top, limit)
        if fate in ("kill", "interrupt"):
            time.sleep(self.rng.random() * 1.2 * self._seconds.get(kind, 0.2))
            child.kill(signal.SIGKILL if fate == "kill" else signal.SIGINT)
        ended = child.wait()
        if fate == "none":
            ended.require()
            self._seconds[kind] = time.monotonic() - begun
        self.counts[f"{kind}, {fate}" if ended.status or ended.error else kind] += 1
        if ended.error and not (limit and isinstance(ended.error, StorageError)):
            raise Fault(f"{kind}, {fate}: {type(ended.error).__name__}: {ended.error}")
        self.require_no_temporary_files(killed=ended.killed)
        return not ended.status and not ended.error

    def require_no_temporary_files(self, killed: bool = False) -> None:
        """A process that was killed may leave some."""
        left = sorted(os.listdir(self.temporary))
        if left and not killed:
            raise Fault(f"temporary files are left: {left}")
        for name in left:
            path = self.temporary / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _keep(self, name: str, numbers: Held) -> None:
        if numbers is None:
            self.datasets.pop(name, None)
        else:
            self.datasets[name] = numbers

    def _require_clean(self, names: Mapping[str, Any]) -> None:
        for name in names:
            if left := litter(self.path(name)):
                raise Fault(f"{name}: files are left: {left}")

    def _leave(self, found: Mapping[str, Held]) -> None:
        """What was cut short for good: no dataset is removed with its remains, an old one cleaned."""
        for name, numbers in found.items():
            if numbers is None:
                shutil.rmtree(self.path(name), ignore_errors=True)
                continue
            shutil.rmtree(self.path(name) / ".convert", ignore_errors=True)  # it waits for the same conversion
            recordio.clean(self.path(name), hours=0, remove=True)
            require_one_of(f"{name} after clean", self.read(name), [numbers])


def require_one_of(what: str, found: Held, wanted: Sequence[Held], in_order: bool = True) -> None:
    """Raises Fault."""
    if not in_order:
        found, *wanted = [None if numbers is None else sorted(numbers) for numbers in (found, *wanted)]
    if found not in wanted:
        counts = [None if numbers is None else len(numbers) for numbers in (found, *wanted)]
        raise Fault(f"{what} holds {counts[0]} samples, expected one of {counts[1:]}: {str(found)[:200]}")
