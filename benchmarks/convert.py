"""Converting: pictures beside tar, the bare codecs, LitData and Streaming; tables and tars beside their own libraries.

    python benchmarks/convert.py --data photos/ [--sections pictures cores resized ...] [--rounds 5] [--json]

`photos/` is a class folder of JPEGs. All sides of a section take turns, each in a process of its own, on a warm page
cache; the tables show medians over the rounds. One side of each section is a limit: what has to be done in any case.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Row, answer, in_process, machine, median, memory_nbytes, say, scratch, show
from sample_streams import import_with_torchvision

ROWS = 1_000_000
SHARDS_OF_TARS = 4
SMALL_FILES = 200_000
MANY_FILES = 1_000_000
MEMORY = 3 << 30  # of a run, with what it writes
Medians = dict[str, list[float | None]]  # of each side, over the rounds
Side = Callable[[Path, Path], int]  # (input, a folder for output) -> how many were done


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))


def recordio_convert(source: Path, out: Path, **options: Any) -> int:
    import recordio

    return recordio.convert(source, out / "ds", **options).samples  # type: ignore[union-attr]


def tar_cf(source: Path, out: Path) -> int:
    subprocess.run(["tar", "cf", out / "all.tar", "."], cwd=source, check=True)
    return sum(len(names) for *_, names in os.walk(source))  # far quicker than finding the pictures


def decode_all(source: Path, out: Path) -> int:
    """Decodes every picture with libjpeg-turbo, on all cores."""
    import simplejpeg

    paths = _pictures(source)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(lambda path: simplejpeg.decode_jpeg(path.read_bytes()).shape, paths))
    return len(paths)


def decode_resize_encode(source: Path, out: Path) -> int:
    """The three steps of --resize 256 with the libraries alone, on all cores; the results are written to one file."""
    import cv2
    import simplejpeg

    cv2.setNumThreads(0)

    def resized(path: Path) -> bytes:
        pixels = simplejpeg.decode_jpeg(path.read_bytes())
        height, width = pixels.shape[:2]
        scale = 256 / min(height, width)
        small = cv2.resize(pixels, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        return simplejpeg.encode_jpeg(np.ascontiguousarray(small), quality=95)  # type: ignore[no-any-return]

    paths = _pictures(source)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool, open(out / "all", "wb") as file:
        for data in pool.map(resized, paths):
            file.write(data)
    return len(paths)


def litdata_sample(item: tuple[str, int]) -> dict[str, Any]:
    return {"image": Path(item[0]).read_bytes(), "label": item[1]}


def _labelled(source: Path) -> list[tuple[str, int]]:
    labels: dict[str, int] = {}
    return [(str(path), labels.setdefault(path.parent.name, len(labels))) for path in _pictures(source)]


def litdata_optimize(source: Path, out: Path) -> int:
    import litdata

    items = _labelled(source)
    workers = len(os.sched_getaffinity(0))
    litdata.optimize(litdata_sample, items, str(out / "ds"), chunk_bytes="64MB", num_workers=workers)
    return len(items)


def mds_writer(source: Path, out: Path) -> int:
    items, writing = _labelled(source), import_with_torchvision("streaming").MDSWriter
    with writing(out=str(out / "ds"), columns={"image": "bytes", "label": "int"}, size_limit=1 << 26) as writer:
        for path, label in items:
            writer.write({"image": Path(path).read_bytes(), "label": label})
    return len(items)


def read_and_write_batch(source: Path, out: Path) -> int:
    """pyarrow.parquet.read_table, and write_batch of its columns."""
    import pyarrow.parquet

    import recordio

    table = pyarrow.parquet.read_table(source)
    with recordio.DatasetWriter(out / "ds") as writer:
        for batch in table.to_batches(65_536):
            columns = {
                name: column.to_pylist() if column.type == "string" else column.to_numpy(zero_copy_only=False)
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            }
            writer.write_batch(columns)
    return int(table.num_rows)


def read_tars(source: Path, out: Path) -> int:
    """Every member of every tar, read by Python's tarfile."""
    members = 0
    for path in sorted(source.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                members += bool(file.read())
    return members // 2  # a picture and its class


def find_and_sort(source: Path, out: Path) -> int:
    command = "find . -type f -printf '%P %s %T@ %i\\n' | LC_ALL=C sort | wc -l"
    return int(subprocess.run(command, shell=True, cwd=source, check=True, capture_output=True).stdout)


def list_source(source: Path, out: Path) -> int:
    from recordio.writer.sources import open_source

    return len(open_source(source))


SIDES: dict[str, dict[str, Side]] = {
    "pictures as they are, one worker": {
        "tar cf": tar_cf,
        "ours, check=False": lambda source, out: recordio_convert(source, out, check=False, workers=1),
        "ours": lambda source, out: recordio_convert(source, out, workers=1),
    },
    "pictures as they are, all cores": {
        "decoding alone": decode_all,
        "ours": recordio_convert,
        "ours, check=False": lambda source, out: recordio_convert(source, out, check=False),
        "LitData optimize": litdata_optimize,
        "MDSWriter": mds_writer,
    },
    "pictures, resized to 256": {
        "decode + resize + encode": decode_resize_encode,
        "ours": lambda source, out: recordio_convert(source, out, resize=256, quality=95),
    },
    "a table of 3 numbers and 2 strings": {
        "read_table + write_batch": read_and_write_batch,
        "ours, one worker": lambda source, out: recordio_convert(source, out, workers=1),
        "ours": recordio_convert,
    },
    "tars of WebDataset": {
        "tarfile, reading alone": read_tars,
        "ours, check=False, one worker": lambda source, out: recordio_convert(source, out, check=False, workers=1),
        "ours": recordio_convert,
    },
    "listing 200,000 small files": {"find + sort": find_and_sort, "ours": list_source},
}
SECTIONS = {
    "pictures": ["pictures as they are, one worker"],
    "cores": ["pictures as they are, all cores"],
    "resized": ["pictures, resized to 256"],
    "tables": ["a table of 3 numbers and 2 strings"],
    "tars": ["tars of WebDataset"],
    "listing": ["listing 200,000 small files"],
    "memory": [],
}
OF_PICTURES = ("pictures", "cores", "resized")
NEEDS = {"LitData optimize": "litdata", "MDSWriter": "streaming"}


def write_table(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    rng = np.random.default_rng(0)
    words = np.array("the quick brown fox jumps over a lazy dog and runs away".split())
    columns: dict[str, Any] = {
        "id": np.arange(ROWS),
        "x": rng.standard_normal(ROWS),
        "y": rng.standard_normal(ROWS).astype(np.float32),
        "word": words[rng.integers(0, len(words), ROWS)].tolist(),
        "text": [" ".join(words[row]) for row in rng.integers(0, len(words), (ROWS, 8))],
    }
    pyarrow.parquet.write_table(pa.table(columns), path, row_group_size=100_000)


def write_tars(pictures: list[Path], folder: Path) -> None:
    folder.mkdir()
    for number in range(SHARDS_OF_TARS):
        with tarfile.open(folder / f"photos-{number:03d}.tar", "w") as tar:
            for index, path in list(enumerate(pictures))[number::SHARDS_OF_TARS]:
                tar.add(path, f"{index:06d}.jpg")
                label = folder / "label"
                label.write_text(str(index % 10))
                tar.add(label, f"{index:06d}.cls")
    (folder / "label").unlink()


def write_small_files(folder: Path, count: int) -> None:
    for start in range(0, count, 1_000):
        inside = folder / f"class_{start // 1_000 % 100:03d}"
        inside.mkdir(parents=True, exist_ok=True)
        for number in range(start, start + 1_000):
            (inside / f"{number:07d}.txt").write_bytes(b"text %d" % number)


def measured(request: Row) -> Row:
    """In a process of its own: one side of a section, once."""
    source, out = Path(request["source"]), Path(request["out"])
    out.mkdir(parents=True)
    begun, used = time.perf_counter(), cpu_seconds()
    done = SIDES[request["section"]][request["side"]](source, out)
    seconds = time.perf_counter() - begun
    return {"done": done, "seconds": seconds, "cpu": cpu_seconds() - used, "peak": memory_nbytes("VmHWM")}


def cpu_seconds() -> float:
    """The CPU time of this process and of those that it started and that ended."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def section(name: str, source: Path, folder: Path, rounds: int) -> list[Row]:
    rates: Medians = {}
    costs: Medians = {}
    failures: dict[str, str] = {}
    for round_number in range(rounds):
        for side in SIDES[name]:
            if side in NEEDS and find_spec(NEEDS[side]) is None:
                failures[side] = "not installed"
                continue
            out = folder / f"out-{round_number}-{len(rates)}-{side.replace(' ', '-')}"
            request = {"section": name, "side": side, "source": str(source), "out": str(out)}
            row = in_process(__file__, request, timeout=900, memory=MEMORY)
            subprocess.run(["rm", "-rf", out], check=True)
            if "failed" in row:
                failures[side] = row["failed"]
                continue
            rates.setdefault(side, []).append(row["done"] / row["seconds"])
            costs.setdefault(side, []).append(1e6 * row["cpu"] / row["done"])
            say(f"{name}, {side}: {row['done'] / row['seconds']:,.0f} a second, peak {row['peak'] >> 20} MiB")
    for side, reason in failures.items():
        say(f"{name}, {side}: {reason}")
    return [table_row(side, name, rates, costs) for side in SIDES[name]]


def table_row(side: str, name: str, rates: Medians, costs: Medians) -> Row:
    """Rate and CPU time of a side, and both beside the first side's: 1 is as good as that."""
    first = next(iter(SIDES[name]))
    rate, limit = median(rates.get(side, [])), median(rates.get(first, []))
    cost, least = median(costs.get(side, [])), median(costs.get(first, []))
    return {
        "": side,
        "a second": None if rate is None else round(rate),
        "of the first": rate / limit if rate and limit else None,
        "CPU us each": None if cost is None else round(cost, 1),
        "of the first, by CPU": least / cost if cost and least else None,
    }


def memory(folder: Path) -> list[Row]:
    """The peak memory of a conversion of 10^5 and of 10^6 small files, in one process."""
    rows = []
    for count in (MANY_FILES // 10, MANY_FILES):
        source = folder / f"files-{count}"
        write_small_files(source, count)
        script = (
            "import resource, sys, recordio; recordio.convert(sys.argv[1], sys.argv[2], workers=1); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
        )
        out = folder / f"ds-{count}"
        done = subprocess.run([sys.executable, "-c", script, source, out], capture_output=True, text=True, check=True)
        rows.append({"files": count, "peak, MiB": int(done.stdout) >> 20})
        subprocess.run(["rm", "-rf", source, out], check=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a class folder of JPEGs, for pictures and tars")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return answer(measured(options.one))
    if options.data is None and {*OF_PICTURES, "tars"} & {*options.sections}:
        parser.error("--data is needed: a class folder of JPEGs")
    with scratch(None) as folder:
        sources = {**dict.fromkeys(OF_PICTURES, options.data), "tables": folder / "t.parquet", "tars": folder / "tars"}
        sources["listing"] = folder / "small"
        for name in options.sections:
            if name == "tables":
                write_table(sources[name])
            elif name == "tars":
                write_tars(_pictures(options.data), sources[name])
            elif name == "listing":
                write_small_files(sources[name], SMALL_FILES)
            for title in SECTIONS[name]:
                show(section(title, sources[name], folder, options.rounds), options.json, title)
            if name == "memory":
                show(memory(folder), options.json, "memory")
    if not options.json:
        print(f"\n{machine(('numpy', 'pyarrow', 'litdata', 'mosaicml-streaming', 'simplejpeg'))}")
    return None


if __name__ == "__main__":
    main()
