"""Converts real CSV files and compares every value with what pandas.read_csv makes of them.

    python benchmarks/real_data/tables.py sklearn statsmodels vega_datasets FOLDER ...

Needs pandas, and the packages named. Prints a row for each file: rows, columns, what became of it, and the differences
from pandas, whose kinds are explained at the end. Exits with 1 if a difference has no explanation.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import recordio

ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.bz2", ".csv.xz")
EXPLAINED = {
    "header": "pandas takes a first row of numbers for names; here it is a row",
    "separator": "pandas expects commas; here the separator is found, or pandas is told",
    "encoding": "pandas expects UTF-8; here the encoding is found",
    "names": "names are without the spaces around them",
    "spaces": "the space after each comma, in the whole file, is no part of the text",
    "empty column": "without a name and with nothing in it; left out here",
    "empty text": "'' and words such as 'NA' stay text in a column of text; NaN in pandas",
    "zeros": "numbers with leading zeros stay text; pandas drops the zeros",
    "exact": "integers that neither int64 nor a float64 holds exactly stay text; pandas rounds them",
    "last bit": "pandas' quick parser is off by a bit; float_precision='round_trip' agrees",
    "all missing": "nothing but missing cells: optional text; float64 in pandas",
    "index": "pandas makes an index of the first column, which has no name",
}


def tables(where: list[str]) -> Iterator[tuple[str, Path]]:
    """The tables below folders and in packages, each with a short name."""
    for name in where:
        spec = None if Path(name).is_dir() else find_spec(name)
        root = Path(name) if spec is None else Path(spec.submodule_search_locations[0])  # type: ignore[index]
        for path in sorted(root.rglob("*")):
            if path.name.lower().endswith(ENDINGS) and path.is_file():
                yield f"{root.name}/{path.relative_to(root)}", path


def frames(path: Path) -> Iterator[tuple[list[str], pd.DataFrame]]:
    """What pandas makes of a file: first as it is, then told what it does not find out by itself."""
    usual = "\t" if ".tsv" in path.name else ","
    for header, mark, encoding in itertools.product(
        (0, None), (usual, ";", "\t", "|", r"\s+"), ("utf-8", "cp1252", "utf-16")
    ):
        told = [name for name, new in (("header", header is None), ("separator", mark != usual)) if new]
        told += ["encoding"] if encoding != "utf-8" else []
        try:
            yield told, pd.read_csv(path, header=header, sep=mark, encoding=encoding, low_memory=False)
        except (ValueError, UnicodeError, pd.errors.ParserError):
            continue


def ours(path: Path) -> tuple[dict[str, Any], recordio.Schema, tuple[str, ...]]:
    """The columns of a file after a conversion, its schema, and the notes."""
    with tempfile.TemporaryDirectory() as folder:
        report = recordio.convert(path, folder + "/out", workers=1)
        assert not isinstance(report, dict)
        dataset = recordio.ShardDataset(folder + "/out")
        samples = [dataset[i] for i in range(len(dataset))]
        return {name: [s[name] for s in samples] for name in dataset.schema}, dataset.schema, report.notes


def compare(path: Path, columns: dict[str, Any], schema: recordio.Schema) -> Counter[str]:
    """The kinds of difference from pandas, with the number of columns of each."""
    rows = len(next(iter(columns.values())))
    for told, frame in frames(path):
        kinds = Counter(told)
        if frame.shape[1] < len(columns) and (not isinstance(frame.index, pd.RangeIndex) or frame.index.start):
            frame = frame.reset_index(names=[f"Unnamed: {k}" for k in range(frame.index.nlevels)])
            kinds["index"] += 1
        for name in [name for name in frame.columns if str(name).startswith("Unnamed: ")]:
            if name not in columns and frame[name].isna().all():
                frame = frame.drop(columns=name)
                kinds["empty column"] += 1
        if frame.shape != (rows, len(columns)):
            continue
        for ours_name, theirs_name in zip(columns, frame.columns, strict=True):
            if str(theirs_name) != ours_name and "header" not in told:
                kinds["names" if str(theirs_name).strip() == ours_name else f"NAME {theirs_name!r}"] += 1
            kind = difference(columns[ours_name], schema[ours_name], frame[theirs_name], path)
            kinds.update([kind] if kind else [])
        return kinds
    return Counter({"UNLIKE pandas in shape": 1})


def difference(values: list[Any], field: Any, theirs: pd.Series[Any], path: Path) -> str | None:
    """The kind of difference between two columns, None where all values are equal."""
    absent = theirs.isna().to_numpy()
    if isinstance(field, recordio.Text):
        return text_difference(values, theirs, absent)
    dtype = np.dtype(field.dtype)
    missing = np.array([value is None or value != value for value in values])
    if (missing != absent).any():
        return "MISSING cells"
    full = [value for value, no in zip(values, missing, strict=True) if not no]
    them = theirs[~absent].to_numpy()
    if dtype.kind == "b":
        return None if [bool(value) for value in them] == [bool(value) for value in full] else "VALUES"
    if np.array_equal(np.array(full, dtype), them):
        return None
    close = dtype.kind == "f" and np.allclose(np.array(full, float), them.astype(float), rtol=1e-14, atol=0)
    return "last bit" if close else "VALUES"


def text_difference(values: list[Any], theirs: pd.Series[Any], absent: np.ndarray[Any, Any]) -> str | None:
    if all(value is None for value in values):
        return "all missing" if absent.all() else "MISSING cells"
    them = theirs.tolist()
    unlike = [(a, b, no) for a, b, no in zip(values, them, absent.tolist(), strict=True) if a != b]
    if not unlike:
        return None
    if all(no for _, _, no in unlike):
        return "empty text"
    if all(no or a == str(b).strip() for a, b, no in unlike):
        return "spaces"
    numbers = [a.strip() for a, b, no in unlike if not no and not isinstance(b, str)]
    if any(a.lstrip("+-").startswith("0") and a.lstrip("+-")[1:2].isdigit() for a in numbers):
        return "zeros"
    if any(len(a.lstrip("+-")) > 15 and a.lstrip("+-").isdigit() for a in numbers):
        return "exact"
    return f"TEXT {unlike[0][:2]!r}"


def row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "&#124;") for cell in cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("where", nargs="+", help="folders, and packages that are installed")
    warnings.simplefilter("ignore")
    results, kinds = Counter(), Counter()  # type: ignore[var-annotated]
    print("| file | rows | columns | result | differences from pandas |\n| --- | --- | --- | --- | --- |")
    for name, path in tables(parser.parse_args().where):
        try:
            columns, schema, notes = ours(path)
        except recordio.RecordIOError as error:
            results["refused"] += 1
            print(row(name, "", "", "refused: " + str(error).replace(str(path), path.name), ""))
            continue
        found = compare(path, columns, schema)
        results["equal" if not found else "read, with differences"] += 1
        kinds.update(found.keys())
        listed = ", ".join(f"{kind} ({count})" for kind, count in sorted(found.items()))
        said = "read" + "".join(f"; note: {note}" for note in notes)
        print(row(name, len(next(iter(columns.values()))), len(columns), said, listed))
    print("\n" + ", ".join(f"{count} {result}" for result, count in results.items()))
    for kind, count in kinds.most_common():
        print(f"- {kind}: {count} files. {EXPLAINED.get(kind, 'NOT EXPLAINED')}")
    return int(any(kind not in EXPLAINED for kind in kinds))


if __name__ == "__main__":
    sys.exit(main())
