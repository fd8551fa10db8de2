"""What parity costs: its arithmetic beside libraries for erasure codes, writing with it, giving a lost shard back.

    python benchmarks/parity.py [--rounds 5] [--json]

Needs 5 GB of disk. The contenders take turns; of the arithmetic the table shows the best round, else medians. Shards
are of 64 MiB, plain pages of noise, which is the worst case: nothing else takes long. A contender that is not installed
is left out: zfec, pyeclib.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import numpy as np
from measuring import Row, folder_nbytes, machine, say, scratch, show

import recordio
from recordio.storage.local import LocalFile
from recordio.storage.parity_files import Span, Xor
from recordio.writer.parity import with_parity

T = TypeVar("T")
PIECE = 1 << 18
ARITHMETIC_NBYTES = 32 << 20
SHARD_NBYTES = 64 << 20
SHARDS = 32
SAMPLES, SAMPLE_NBYTES = 16384, SHARD_NBYTES // 16384


def in_turn(runs: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """What each run gives, round after round."""
    found: dict[str, list[T]] = defaultdict(list)
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(run())
    return dict(found)


def seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def xored(folder: Path, names: list[str]) -> None:
    """As it is done for a file of parity, which is not written."""
    files = [LocalFile(str(folder), name) for name in names]
    xor, room = Xor([Span(file, 0, file.nbytes) for file in files]), np.empty(PIECE, np.uint8)
    for offset in range(0, ARITHMETIC_NBYTES, PIECE):
        xor.read_into(room, offset)
    for file in files:
        file.close()


def encoded(folder: Path, names: list[str], encode: Callable[[list[bytes]], object]) -> None:
    files = [(folder / name).open("rb") for name in names]
    for _ in range(0, ARITHMETIC_NBYTES, PIECE):
        encode([file.read(PIECE) for file in files])
    for file in files:
        file.close()


def codes(group: int) -> dict[str, Callable[[list[bytes]], object]]:
    """The erasure codes that are installed, for a group of so many shards."""
    found: dict[str, Callable[[list[bytes]], object]] = {}
    try:
        zfec = importlib.import_module("zfec")
        for extra in (1, 2):
            coder = zfec.Encoder(group, group + extra)
            numbers = list(range(group, group + extra))
            found[f"zfec, {extra} lost"] = lambda parts, coder=coder, numbers=numbers: coder.encode(parts, numbers)
    except ImportError:
        pass
    try:
        driver = importlib.import_module("pyeclib.ec_iface").ECDriver
        coder = driver(k=group, m=1, ec_type="liberasurecode_rs_vand")
        found["pyeclib, 1 lost"] = lambda parts, coder=coder: coder.encode(b"".join(parts))
    except Exception as error:  # noqa: BLE001 not installed, or more shards than it takes
        say(f"pyeclib with {group} shards is left out: {error}")
    return found


def arithmetic(rounds: int) -> list[Row]:
    rows = []
    with scratch(None) as folder:
        names = [f"{k}" for k in range(64)]
        for name in names:
            (folder / name).write_bytes(np.random.default_rng(int(name)).bytes(ARITHMETIC_NBYTES))
        for group in (8, 16, 32, 64):
            some = names[:group]
            runs = {"XOR by NumPy": lambda some=some: seconds(lambda: xored(folder, some))}
            for name, code in codes(group).items():
                runs[name] = lambda some=some, code=code: seconds(lambda: encoded(folder, some, code))
            for name, found in in_turn(runs, rounds).items():
                speed = group * ARITHMETIC_NBYTES / min(found) / 1e9
                rows.append(
                    {
                        "shards a group": group,
                        "code": name,
                        "GB of shards/s": speed,
                        "bytes more %": (200 if "2 lost" in name else 100) / group,
                    }
                )
    return rows


def write(folder: Path, parity: int | None) -> tuple[float, float]:
    """Makes the dataset anew: the seconds, and those of them that parity took."""
    shutil.rmtree(folder, ignore_errors=True)
    noise = np.random.default_rng(0).integers(0, 256, (SAMPLES // 16, SAMPLE_NBYTES), np.uint8)
    own = []

    def made(*given: Any) -> Any:
        begun = time.perf_counter()
        found = with_parity(*given)
        own.append(time.perf_counter() - begun)
        return found

    def run() -> None:
        with recordio.DatasetWriter(
            folder, compression=None, shard_bytes=1 << 40, shard_samples=SAMPLES, parity=parity
        ) as writer:
            for k in range(SHARDS * 16):
                writer.write_batch({"x": noise ^ np.uint8(k % 256)})

    with mock.patch("recordio.writer.destination.with_parity", made):
        return seconds(run), own[0]


def writing(rounds: int) -> list[Row]:
    rows = []
    with scratch(None) as folder:
        groups = (None, 32, 16, 8, 4)
        sizes: dict[int | None, int] = {}

        def measured(group: int | None) -> tuple[float, float]:
            took = write(folder / "it", group)
            sizes[group] = folder_nbytes(folder / "it")
            return took

        measured(None)
        found = in_turn({str(group): lambda group=group: measured(group) for group in groups}, rounds)
        for group in groups:
            took = found[str(group)]
            whole = statistics.median(one for one, _ in took)
            own = statistics.median(one for _, one in took)
            rows.append(
                {
                    "parity": "none" if group is None else str(group),
                    "seconds": whole,
                    "of these, for parity": own,
                    "time more %": statistics.median(100 * own / (one - own) for one, own in took),
                    "bytes more %": (sizes[group] / sizes[None] - 1) * 100,
                }
            )
    return rows


def giving_back(rounds: int) -> list[Row]:
    rows = []
    with scratch(None) as folder:
        for group in (16, 8):
            write(folder / "it", group)
            lost = folder / "it" / "shard-00003.rio"
            kept = lost.rename(folder / "kept")

            def repaired(level: str, lost: Path = lost) -> float:
                lost.unlink(missing_ok=True)
                return seconds(lambda: recordio.repair(lost.parent, in_place=True, level=level))  # type: ignore[arg-type]

            def copied(lost: Path = lost, kept: Path = kept) -> float:
                """The same from another copy of the dataset would take at least this."""
                lost.unlink(missing_ok=True)
                return seconds(lambda: shutil.copyfile(kept, lost))

            runs = {
                "repair --in-place --quick": lambda: repaired("quick"),
                "repair --in-place, which reads every page": lambda: repaired("full"),
                "verify": lambda lost=lost: seconds(lambda: recordio.verify(lost.parent)),
                "copying the shard": copied,
            }
            for name, took in in_turn(runs, rounds).items():
                rows.append({"parity": group, "what": name, "seconds": statistics.median(took)})
            assert lost.read_bytes() == kept.read_bytes()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row")
    options = parser.parse_args()
    if not options.json:
        print(f"{machine()}; {options.rounds} rounds")
    show(arithmetic(options.rounds), options.json, "arithmetic")
    show(writing(options.rounds), options.json, f"writing {SHARDS} shards of 64 MiB")
    show(giving_back(options.rounds), options.json, "giving a shard of 64 MiB back")


if __name__ == "__main__":
    main()
