"""Cold: epochs over data of several times the memory that there may be, beside the device and peers."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contenders import ALL, installed_versions
from measuring import Row, in_process, say

from scaling import raw_device
from scaling.cold_data import PEERS, rows_of, write
from scaling.cold_runs import TOGETHER, WORKERS
from scaling.memory_limit import memory_limit
from scaling.section import Tables
from scaling.usage import device_read_bytes

MOST_GIGABYTES = 8
IN_ORDER = "in order"
RUNS = {
    "plain": ["raw", "shuffled", IN_ORDER, "take(64)", f"shuffled, {WORKERS} processes", "at once"],
    "zstd": ["raw", "shuffled", IN_ORDER],
    **{name: ["raw", "shuffled", IN_ORDER] for name in PEERS},
}
DEVICE, EPOCHS, TOGETHER_TABLE, CURVE = "device", "epochs", "at once", "curve"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gigabytes", type=float, default=3, help="of data; the disk needs no more")
    parser.add_argument("--memory", type=float, help="gigabytes of the limit; a sixth of the data if not given")
    parser.add_argument("--seconds", type=float, default=15, help="at most, for a cold run")
    parser.add_argument("--data-sets", nargs="+", choices=RUNS, default=list(RUNS), help="of the cold section")
    parser.add_argument(
        "--cold-runs", nargs="+", metavar="NAME", help=f"of {', '.join(RUNS['plain'])}; all if not given"
    )
    parser.add_argument("--ratios", nargs="*", type=float, default=[0.5, 1, 2, 4], help="data / memory of the curve")


def measure(request: Row) -> Row:
    if request["run"] == "write":
        write(request["data"], Path(request["folder"]), request["nbytes"])
        return {}
    from scaling import cold_runs

    return cold_runs.measure(request)


@dataclass
class Cold:
    """The rounds of all runs, by data and run."""

    script: str
    options: argparse.Namespace
    found: dict[tuple[str, str], list[Row]] = field(default_factory=dict)
    notes: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return int(self.options.gigabytes * 1e9)

    @property
    def limit(self) -> int:
        return int(self.options.memory * 1e9) if self.options.memory else self.nbytes // 6

    def run(self, key: tuple[str, str], request: Row, before: Sequence[str]) -> None:
        if key in self.notes:
            return
        say(f"  {', '.join(key)}")
        request = {"section": "cold", "seconds": self.options.seconds, "samples": 0} | request
        row = in_process(self.script, request, timeout=4 * self.options.seconds + 240, before=before)
        if "failed" in row:
            killed = "killed: it needs more memory than the limit" if row["failed"] == "exit code -9" else ""
            self.notes[key] = killed or f"failed: {row['failed']}"
        else:
            self.found.setdefault(key, []).append(row)

    def data_set(self, data: str, folder: Path) -> None:
        """All rounds over one data set, which is written before and deleted after."""
        runs = [run for run in RUNS[data] if run == "raw" or run in (self.options.cold_runs or RUNS[data])]
        if data in PEERS and not ALL[data].installed():
            self.notes |= {(data, run): "not installed" for run in runs if run != "raw"}
            return
        say(f"cold, {data}: writing {self.nbytes / 1e9:.1f} GB")
        request = {"folder": str(folder), "data": data, "samples": len(rows_of(data, self.nbytes))}
        written = {"section": "cold", "run": "write", "nbytes": self.nbytes}
        row = in_process(self.script, request | written, timeout=1800)
        if "failed" in row:
            self.notes |= {(data, run): f"failed to write: {row['failed']}" for run in runs}
            return
        with memory_limit(self.limit) as before:
            for _ in range(self.options.rounds):
                for run in runs:
                    self.run((data, run), request | {"run": run, "limit": self.limit}, before)
        for ratio in self.options.ratios if data == "plain" else []:
            self.under(ratio, request)
        shutil.rmtree(folder)

    def under(self, ratio: float, request: Row) -> None:
        """A point of the curve: all rounds of its epochs under a limit of data / ratio, the device once."""
        request = request | {"limit": int(self.nbytes / ratio)}
        label = f"{ratio:g}"
        with memory_limit(request["limit"]) as before:
            self.run((label, "raw"), request | {"run": "raw"}, before)
            for _ in range(self.options.rounds):
                for run in ("shuffled", IN_ORDER):
                    self.run((label, run), request | {"run": run}, before)

    def value(self, key: tuple[str, str], name: str) -> float | None:
        values = [row[name] for row in self.found.get(key, []) if row.get(name) is not None]
        return statistics.median(values) if values else None

    def raw(self, data: str) -> dict[str, float]:
        """Median rates of the device, measured beside a data set."""
        rounds = self.found[data, "raw"]
        return {name: statistics.median(row[name] for row in rounds) for name in rounds[0]}


def run(script: str, out: Path, options: argparse.Namespace) -> Tables:
    """The tables of the section. Raises NoLimitError where no limit can be set: then nothing is measured."""
    cold = Cold(script, options)
    if options.gigabytes > MOST_GIGABYTES or shutil.disk_usage(out).free < cold.nbytes * 1.1:
        raise SystemExit(f"{options.gigabytes:g} GB of data: at most {MOST_GIGABYTES}, and what is free in {out}")
    with memory_limit(cold.limit):  # before any work
        pass
    for data in options.data_sets:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(out / data)
        cold.data_set(data, out / data)
    with_device = [data for data in options.data_sets if (data, "raw") in cold.found]
    return {
        "limit": [
            {"data GB": cold.nbytes / 1e9, "memory GB": cold.limit / 1e9}
            | {"device counted": "no" if device_read_bytes(out) is None else "yes"}
            | {name: installed_versions(ALL[name]) for name in PEERS}
        ],
        DEVICE: [{"beside": data} | row for data in with_device for row in raw_device.rows(cold.raw(data))],
        EPOCHS: [row for data in options.data_sets for row in epochs(cold, data)],
        TOGETHER_TABLE: list(at_once(cold)),
        CURVE: list(curve(cold)),
    }


def epochs(cold: Cold, data: str) -> Iterator[Row]:
    for run in RUNS[data]:
        key = data, run
        if run == "raw" or (key not in cold.found and key not in cold.notes):
            continue
        rate, useful = cold.value(key, "bytes/s"), cold.value(key, "useful")
        row: Row = {"data": data, "run": run, "MB/s": _scaled(rate, 1e-6)}
        row |= {f"of best {kind}": _share(cold, data, run, kind, rate) for kind in raw_device.KINDS}
        process, device = cold.value(key, "process read"), cold.value(key, "device read")
        read = None if process is None else max(process, device or 0)
        row["read / useful"] = _ratio(read, useful)
        row["by the process"] = _ratio(process, useful)
        row |= {"major faults": cold.value(key, "faults"), "first batch s": cold.value(key, "first")}
        cpu = cold.value(key, "cpu")
        row |= {"CPU s/GB": None if cpu is None or not useful else cpu / useful * 1e9}
        row |= {"anonymous MB": cold.value(key, "anonymous"), "mapped MB": cold.value(key, "mapped")}
        yield row | {"note": cold.notes.get(key, ""), "rounds": {"all": cold.found.get(key, [])}}


def pattern_of(run: str) -> str:
    """The raw reads that a run is held against."""
    return "in order" if run in (IN_ORDER, "verify") else "random"


def _share(cold: Cold, data: str, run: str, kind: str, rate: float | None) -> float | None:
    if rate is None or (data, "raw") not in cold.found:
        return None
    return rate / raw_device.best(cold.raw(data), pattern_of(run), kind)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _ratio(value: float | None, by: float | None) -> float | None:
    return None if value is None or not by else value / by


def at_once(cold: Cold) -> Iterator[Row]:
    """Each of the three processes on the same files; what all of them read is in the table of epochs."""
    rounds = [row["members"] for row in cold.found.get(("plain", "at once"), [])]
    for member in TOGETHER if rounds else ():
        found = {
            name: statistics.median(row[member][name] for row in rounds) for name in ("bytes/s", "useful", "first")
        }
        read = statistics.median(row[member]["process read"] for row in rounds)
        faults = statistics.median(row[member]["faults"] for row in rounds)
        yield {"process": member, "MB/s": found["bytes/s"] / 1e6, "read / useful": read / found["useful"]} | {
            "major faults": faults,
            "first batch s": found["first"],
        }


def curve(cold: Cold) -> Iterator[Row]:
    """Epochs of the same data under one limit after the other."""
    own = cold.nbytes / cold.limit
    labels = [(ratio, f"{ratio:g}") for ratio in cold.options.ratios] + [(own, "plain")]
    for ratio, label in labels:
        if (label, "raw") not in cold.found:
            continue
        row: Row = {"data / memory": ratio}
        for run in ("shuffled", IN_ORDER):
            rate = cold.value((label, run), "bytes/s")
            row[f"{run} MB/s"] = _scaled(rate, 1e-6)
            row[f"{run} of best buffered"] = _share(cold, label, run, "buffered", rate)
        for pattern in raw_device.PATTERNS:
            row[f"device, {pattern} MB/s"] = raw_device.best(cold.raw(label), pattern, "buffered") / 1e6
        yield row
