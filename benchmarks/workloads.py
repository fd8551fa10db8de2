"""The workloads of the benchmarks: lists of samples, the same in every run.

    python benchmarks/workloads.py [--samples 2000] [--data FOLDER] [--json]

tabular  float32 (32,), int, an id of 16 characters
fashion  Fashion-MNIST: uint8 (28, 28), int. From idx files (plain or .gz) in --data, in the folder that BENCH_DATA
         names, or in /usr/share/datasets/fashion-mnist
tokens   int32 (1025,), Zipf
text     pieces of the standard library's source, 1.4 KB on average
jpeg     encoded photographs, int. From the JPEGs of a class folder below --data or BENCH_DATA
"""

from __future__ import annotations

import argparse
import gzip
import os
import pickle
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from measuring import say

Sample = dict[str, Any]

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
TEXT_FILES = 6000
MAX_TEXT = 8000


class MissingDataError(Exception):
    """The data of a workload is missing; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Kind:
    """The kind of a field of a workload; dtype and shape are set for arrays."""

    name: Literal["array", "int", "str", "bytes"]
    dtype: str = ""
    shape: tuple[int, ...] = ()

    @classmethod
    def of(cls, value: Any) -> Kind:
        if isinstance(value, np.ndarray):
            return cls("array", value.dtype.str, value.shape)
        names: dict[type, Literal["int", "str", "bytes"]] = {int: "int", str: "str", bytes: "bytes"}
        return cls(names[type(value)])


Kinds = Mapping[str, Kind]


def kinds_of(sample: Sample) -> dict[str, Kind]:
    return {name: Kind.of(value) for name, value in sample.items()}


def value_nbytes(value: Any) -> int:
    """The size of a value in bytes; an integer counts as 8."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, int):
        return 8
    return len(value.encode() if isinstance(value, str) else value)


def raw_nbytes(samples: Sequence[Sample]) -> int:
    return sum(value_nbytes(value) for sample in samples for value in sample.values())


def as_columns(samples: Sequence[Sample]) -> dict[str, Any]:
    """The same data as columns: arrays (n, *shape) of numbers, lists of the rest."""
    columns = {name: [sample[name] for sample in samples] for name in samples[0]}
    fixed = {name for name, kind in kinds_of(samples[0]).items() if kind.name in ("array", "int")}
    return {name: np.stack(values) if name in fixed else values for name, values in columns.items()}


def tabular(n: int, data: Path | None) -> list[Sample]:
    random = np.random.default_rng(1)
    x = random.standard_normal((n, 32)).astype(np.float32)
    y = random.integers(0, 10, n)
    return [{"x": x[i], "y": int(y[i]), "id": f"user-{i:011d}"} for i in range(n)]


def fashion(n: int, data: Path | None) -> list[Sample]:
    images = _idx_file("train-images-idx3-ubyte", data)[16:].reshape(-1, 28, 28)
    labels = _idx_file("train-labels-idx1-ubyte", data)[8:]
    return [{"image": images[i], "label": int(labels[i])} for i in range(min(n, len(labels)))]


def _idx_file(name: str, data: Path | None) -> Any:
    """uint8 (n,): the whole file, unpacked."""
    for folder in (*([data] if data else []), DEBIAN_FASHION):
        for path, opened in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
            if path.is_file():
                with opened(path, "rb") as file:
                    return np.frombuffer(file.read(), np.uint8)
    raise MissingDataError(
        f"no {name} or {name}.gz: install Debian's package dataset-fashion-mnist, or name a folder with --data"
    )


def tokens(n: int, data: Path | None) -> list[Sample]:
    table = np.minimum(np.random.default_rng(2).zipf(1.3, (n, 1025)), 50_000).astype(np.int32)
    return [{"tokens": row} for row in table]


def text(n: int, data: Path | None) -> list[Sample]:
    random = np.random.default_rng(3)
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(path for path in library.rglob("*.py") if path.stat().st_size > 2000)[:TEXT_FILES]
    blob = "\n".join(path.read_text("utf8", "ignore") for path in files)
    starts = random.integers(0, len(blob) - MAX_TEXT, n).tolist()
    lengths = (random.gamma(2.0, 700, n) + 40).astype(int).tolist()
    return [
        {"text": blob[start : start + min(length, MAX_TEXT)], "lang": "python"}
        for start, length in zip(starts, lengths, strict=True)
    ]


def jpeg(n: int, data: Path | None) -> list[Sample]:
    paths = sorted(path for path in data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[:n] if data else []
    if not paths:
        raise MissingDataError(
            f"no JPEGs {f'below {data}' if data else 'were named'}: give a class folder of photographs with --data or "
            "BENCH_DATA (imagenette2-320 of fast.ai will do)"
        )
    classes = {name: i for i, name in enumerate(sorted({path.parent.name for path in paths}))}
    return [{"image": path.read_bytes(), "label": classes[path.parent.name]} for path in paths]


ALL: dict[str, Callable[[int, Path | None], list[Sample]]] = {
    "tabular": tabular,
    "fashion": fashion,
    "tokens": tokens,
    "text": text,
    "jpeg": jpeg,
}
SAMPLES = {"tabular": 40_000, "fashion": 20_000, "tokens": 10_000, "text": 20_000, "jpeg": 4_000}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every benchmark over the workloads."""
    parser.add_argument("--workloads", nargs="+", choices=ALL, default=list(ALL), metavar="NAME", help=" ".join(ALL))
    parser.add_argument("--samples", type=int, help=f"of each workload; by default {SAMPLES}")
    folder = os.environ.get("BENCH_DATA")
    parser.add_argument("--data", type=Path, default=Path(folder) if folder else None, help="or BENCH_DATA")


def make(name: str, options: argparse.Namespace) -> list[Sample]:
    """The samples of a workload. Raises MissingDataError."""
    return ALL[name](options.samples or SAMPLES[name], options.data)


def available(options: argparse.Namespace) -> Iterator[tuple[str, list[Sample]]]:
    """The workloads that were asked for, with their samples. Those without data are said to be left out."""
    for name in options.workloads:
        try:
            yield name, make(name, options)
        except MissingDataError as error:
            say(f"{name} is left out: {error}")


def store(samples: list[Sample], path: Path) -> None:
    """Pickles the samples for the processes that write them."""
    path.write_bytes(pickle.dumps(samples, protocol=5))


def load(path: Path) -> list[Sample]:
    """Loads the samples of `store`; unpickling is safe, since the file is our own."""
    loaded: list[Sample] = pickle.loads(path.read_bytes())
    return loaded


def main() -> None:
    from measuring import show

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for name in options.workloads:
        try:
            samples = make(name, options)
        except MissingDataError as error:
            rows.append({"workload": name, "samples": None, "MB": None, "bytes/sample": None, "note": str(error)})
            continue
        nbytes = raw_nbytes(samples)
        row = {"workload": name, "samples": len(samples), "MB": nbytes / 1e6, "bytes/sample": nbytes / len(samples)}
        rows.append(row | {"note": ", ".join(f"{field}: {kind.name}" for field, kind in kinds_of(samples[0]).items())})
    show(rows, options.json)


if __name__ == "__main__":
    main()
