"""Writers against writers and readers against writers, in separate processes."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import recordio
from recordio import DatasetError, RecordIOError, ShardDataset
from tests.faults.crashing import MEMORY, child, contents, prepare, rows

WRITERS = 8


def write_as(folder: Path, who: int, mode: Any, meet: Any) -> int:
    """Exit code 0: published; 3: refused. No writer publishes before all have tried to begin."""
    try:
        with recordio.DatasetWriter(folder, mode=mode, shard_samples=4) as writer:
            for i in range(10):
                writer.write({"number": who * 100 + i, "text": f"old {who}"})
            meet()
    except DatasetError:
        meet()
        return 3
    return 0


class Meeting:
    """A barrier between processes, made of pipes."""

    def __init__(self, count: int) -> None:
        self.come, self.came = os.pipe()
        self.go, self.gone = os.pipe()
        self.count = count

    def __call__(self) -> None:
        os.write(self.came, b"x")
        os.read(self.go, 1)

    def hold(self) -> None:
        left = self.count
        while left:
            left -= len(os.read(self.come, left))
        os.write(self.gone, b"x" * self.count)


def eight_at_once() -> list[str]:
    out: list[str] = []
    for mode in ("create", "append", "overwrite") * 3:
        with TemporaryDirectory(dir=MEMORY) as name:
            folder = Path(name) / "it"
            prepare(folder, mode)
            before, start, end = rows(folder) or [], Meeting(WRITERS), Meeting(WRITERS)
            pids = []
            for who in range(1, WRITERS + 1):

                def action(
                    who: int = who, mode: str = mode, folder: Path = folder, a: Any = start, b: Any = end
                ) -> None:
                    a()
                    os._exit(write_as(folder, who, mode, b))

                pids.append(child(action))
            start.hold()
            end.hold()
            exits = Counter(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)
            if exits != {0: 1, 3: WRITERS - 1}:
                out.append(f"{mode}: {exits}")
            found = rows(folder) or []
            new = found[len(before) :] if mode == "append" else found
            who = new[0][0] // 100 if new else 0
            if new != [(who * 100 + i, f"old {who}") for i in range(10)] or (
                mode == "append" and found[: len(before)] != before
            ):
                out.append(f"{mode}: mixed")
            listed = {entry.name for entry in ShardDataset(folder).store.manifest.shards}
            if set(contents(folder)) != {"manifest.json", *listed}:
                out.append(f"{mode}: {sorted(contents(folder))}")
    return out


def _generations(folder: Path, mode: Any, count: int) -> None:
    for generation in range(1, count + 1):
        with recordio.DatasetWriter(folder, mode=mode, shard_samples=5) as writer:
            for i in range(10):
                writer.write({"number": i, "text": f"{generation}"})


def _wrong(found: list[tuple[int, str]], mode: str) -> bool:
    generations = [int(text) for _, text in found]
    if [number for number, _ in found] != [i % 10 for i in range(len(found))] or not found or len(found) % 10:
        return True
    if mode == "append":
        return generations != [i // 10 for i in range(len(found))]
    return len(found) != 10 or len(set(generations)) != 1


def reading_while(mode: str, count: int = 60) -> tuple[list[str], Counter[str]]:
    """Opens and reads during writes; the faults, and the datasets seen."""
    out: list[str] = []
    seen: Counter[str] = Counter()
    with TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name) / "it"
        with recordio.DatasetWriter(folder, shard_samples=5) as writer:
            for i in range(10):
                writer.write({"number": i, "text": "0"})
        held = ShardDataset(folder)
        kept = held.take(range(10))["text"]  # opens its shards
        pid = child(lambda: _generations(folder, mode, count))
        done = False
        while not done:
            done = os.waitpid(pid, os.WNOHANG)[0] == pid
            try:
                found = rows(folder)
            except RecordIOError as error:
                seen[f"{type(error).__name__}: {error.fault}"] += 1
                continue
            except Exception as error:  # noqa: BLE001
                out.append(f"{type(error).__name__}: {error}")
                continue
            if found is None or _wrong(found, mode):
                out.append(f"between: {found}")
            else:
                seen[f"{len(found)} {found[-1][1]}"] += 1
        if held.take(range(10))["text"] != kept:
            out.append("a dataset that was open has changed")
    return out, seen


def reading_during_appends() -> list[str]:
    out, seen = reading_while("append")
    out += [error for error in seen if "Error" in error]
    return out if len(seen) > 2 else [*out, f"saw only {seen}"]


def reading_during_overwrites() -> list[str]:
    """A reader may raise because the dataset changed, but never calls a good dataset corrupt."""
    out, seen = reading_while("overwrite")
    out += [error for error in seen if "Corrupt" in error]
    return out if len(seen) > 2 else [*out, f"saw only {seen}"]


def locked_out() -> list[str]:
    """Killing the holder releases the lock at once."""
    with TemporaryDirectory(dir=MEMORY) as name:
        folder, meeting = Path(name) / "it", Meeting(1)

        def hold() -> None:
            with recordio.DatasetWriter(folder):
                os.write(meeting.came, b"x")
                time.sleep(600)

        pid = child(hold)
        os.read(meeting.come, 1)
        try:
            recordio.DatasetWriter(folder)
            return ["two writers at once"]
        except DatasetError:
            pass
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        prepare(folder, "append")
        return [] if len(rows(folder) or []) == 10 else ["the lock stayed"]
