"""Writes the files of tests/data/formats/arrow with the libraries that people write them with.

Run with datasets, pandas, polars, pyarrow and Pillow: `python tests/data/formats/make_arrow.py`. The tests read the
files and compare them with `expected` here, value by value.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "arrow"
CLASSES = ["cat", "dog"]


def expected() -> list[dict[str, Any]]:
    """The rows that `datasets` was given; pictures as (shade, name)."""
    return [
        {
            "image": (10 * number, f"{number}.png"),
            "label": number % 2,
            "coarse": number % 3 - 1,
            "text": None if number == 2 else f"text {number} é",
            "matrix": [[number, number + 0.5, -1.0]] * 2,
            "track": [[number, number]] * number,
            "tokens": list(range(number)),
            "point": [number, 1.5],
            "tags": [0, 1],
            "objects": {"bbox": [[1.0, 2.0, 3.0, 4.0]], "name": ["a"]},
            "when": 1_600_000_000 + number,
        }
        for number in range(4)
    ]


def png(shade: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (3, 2), (shade, 0, 255)).save(file, "PNG")
    return file.getvalue()


def write_datasets() -> None:
    """A DatasetDict saved to disk, and its splits as the hub stores them."""
    import datasets
    from datasets import Array2D, ClassLabel, Dataset, DatasetDict, Features, Image, List, Value

    datasets.disable_progress_bars()
    features = Features(
        {
            "image": Image(),
            "label": ClassLabel(names=CLASSES),
            "coarse": ClassLabel(names=["x", "y"]),
            "text": Value("string"),
            "matrix": Array2D((2, 3), "float32"),
            "track": Array2D((None, 2), "int32"),
            "tokens": List(Value("int32")),
            "point": List(Value("float32"), length=2),
            "tags": List(ClassLabel(names=["p", "q"])),
            "objects": {"bbox": List(List(Value("float32"), length=4)), "name": List(Value("string"))},
            "when": Value("timestamp[s]"),
        }
    )
    rows = [{**row, "image": {"bytes": png(row["image"][0]), "path": row["image"][1]}} for row in expected()]
    train = Dataset.from_list(rows, features=features)
    DatasetDict({"train": train, "validation": train.select([3, 1])}).save_to_disk(
        HERE / "saved", num_shards={"train": 2, "validation": 1}
    )
    (HERE / "hub" / "data").mkdir(parents=True)
    for number in range(2):
        part = train.shard(2, number, contiguous=True)
        part.to_parquet(HERE / "hub" / "data" / f"train-{number:05}-of-00002.parquet")
    train.select([0]).to_parquet(HERE / "hub" / "data" / "test-00000-of-00001.parquet")


def write_tables() -> None:
    """The same small table by pandas, with categories and an index, and by polars."""
    import pandas
    import polars

    columns: dict[str, Any] = {"word": ["b", "a", None], "number": [1.5, None, 3.0], "whole": [1, 2, 3]}
    frame = pandas.DataFrame(columns, index=["r1", "r2", "r3"])
    frame["kind"] = pandas.Categorical(["low", "high", "low"], categories=["low", "middle", "high"], ordered=True)
    frame.to_parquet(HERE / "pandas.parquet")
    frame.to_feather(HERE / "pandas.feather")
    table = polars.DataFrame({**columns, "list": [[1, 2], [], [3]]}).with_columns(
        polars.col("word").cast(polars.Categorical).alias("kind")
    )
    table.write_parquet(HERE / "polars.parquet")
    table.write_ipc(HERE / "polars.arrow", compression="lz4")
    table.write_ipc_stream(HERE / "polars_stream.arrow")


if __name__ == "__main__":
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    write_datasets()
    write_tables()
