"""Exports as their own libraries read them, value by value; each test needs its library."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import ShardDataset
from tests.recordio.exports.values import FIELDS, expected, plain, sample, write

# The libraries warn of much that is no matter of ours: old options, files left open, forks.
pytestmark = pytest.mark.filterwarnings("default")


def pixels(data: Any) -> Any:
    """What Pillow decodes."""
    from io import BytesIO

    from PIL import Image

    with Image.open(BytesIO(data)) as picture:
        return np.asarray(picture).tolist()


def test_webdataset_decodes_every_field(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    write(tmp_path / "source")
    recordio.export(tmp_path / "source", tmp_path / "out", to="webdataset", shard_bytes=3000)
    urls = sorted(str(path) for path in (tmp_path / "out").iterdir())
    found = list(wds.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    for got, row in zip(found, expected(), strict=True):
        picture = got["jpg"] if "jpg" in got else got["png"]
        assert np.asarray(picture).tolist() == pixels(row["image"])
        assert (got["cls"], got["txt"], got["data.bin"], got["count.cls"]) == (
            row["label"],
            row["text"],
            row["data"],
            row["count"],
        )
        for name in ("score", "flag", "tree"):
            assert got[f"{name}.json"] == row[name]
        for name in ("grid", "run", "pixels"):
            assert got[f"{name}.npy"].tolist() == row[name]


def test_streaming_decodes_every_field(tmp_path: Path) -> None:
    streaming = pytest.importorskip("streaming")
    write(tmp_path / "source")
    recordio.export(tmp_path / "source", tmp_path / "out", to="mds", shard_bytes=3000)
    found = streaming.LocalDataset(str(tmp_path / "out"))
    assert len(found) == 12
    for i, row in enumerate(expected()):
        got = dict(found[i])
        assert np.asarray(got.pop("image")).tolist() == pixels(row["image"])
        assert plain(got) == {name: value for name, value in row.items() if name != "image"}
        assert got["grid"].dtype == np.float32
        assert got["run"].dtype == np.int16


def test_datasets_loads_parquet_with_pictures_and_classes(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    write(tmp_path / "source")
    report = recordio.export(tmp_path / "source", tmp_path / "out", to="parquet", shard_bytes=3000)
    assert report.files == 2
    found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))["train"]
    assert found.features["label"].names == ["cat", "dog"]
    for got, row in zip(found, expected(), strict=True):
        assert np.asarray(got.pop("image")).tolist() == pixels(row["image"])
        tree = got.pop("tree")
        assert tree == '{"a": [%s, null, "ü"], "b": {}}' % row["tree"]["a"][0]  # noqa: UP031
        assert got == {name: value for name, value in row.items() if name not in ("image", "tree")}


def test_polars_and_pyarrow_read_parquet(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "source", fields={name: FIELDS[name] for name in ("label", "text", "grid", "run")})
    recordio.export(tmp_path / "source", tmp_path / "out", to="parquet", shard_bytes=300)
    rows = expected(names=["label", "text", "grid", "run"])
    assert parquet.read_table(tmp_path / "out").to_pylist() == rows
    assert polars.read_parquet(tmp_path / "out" / "*.parquet")["text"].to_list() == [row["text"] for row in rows]


def test_image_folder_of_torchvision_and_of_datasets(tmp_path: Path) -> None:
    folder = pytest.importorskip("torchvision.datasets").ImageFolder
    datasets = pytest.importorskip("datasets")
    ds = write(tmp_path / "source", fields={name: FIELDS[name] for name in ("image", "label")})
    recordio.export(ds, tmp_path / "out", to="folder")
    order = [*range(0, 12, 2), *range(1, 12, 2)]
    found = folder(str(tmp_path / "out"))
    assert found.classes == ["cat", "dog"]
    assert [label for _, label in found] == [i % 2 for i in order]
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "c"))
    assert [plain(np.asarray(one["image"])) for one in loaded["train"]] == [pixels(sample(i)["image"]) for i in order]


def test_image_folder_of_datasets_reads_the_table(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    write(tmp_path / "source", fields={name: FIELDS[name] for name in ("image", "text", "count")})
    recordio.export(tmp_path / "source", tmp_path / "out", to="folder")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "c"))
    for got, row in zip(found["train"], expected(), strict=True):
        assert (got["text"], got["count"]) == (row["text"], row["count"])
        assert np.asarray(got["image"]).tolist() == pixels(row["image"])


def test_a_view_goes_to_parquet_and_back(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "source")
    view = ShardDataset(tmp_path / "source", fields=["count"]).select([3, 1])
    recordio.export(view, tmp_path / "out", to="parquet")
    assert parquet.read_table(tmp_path / "out")["count"].to_pylist() == [row["count"] for row in expected([3, 1])]
