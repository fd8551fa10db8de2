"""Files that datasets, pandas and polars have written: what they were given comes back. See tests/data/formats."""

from __future__ import annotations

import json
import shutil
from datetime import UTC
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.errors import SourceError
from recordio.format.fields import Object, Text
from recordio.format.image_field import Image
from recordio.format.numeric import Array, Scalar
from recordio.format.schema import Schema
from recordio.writer.sources import detect, find_sources, open_source

pytest.importorskip("pyarrow")

FORMATS = Path(__file__).parents[2] / "data" / "formats"
FILES = FORMATS / "arrow"
_spec = spec_from_file_location("make_arrow", FORMATS / "make_arrow.py")
assert _spec is not None
assert _spec.loader is not None
make_arrow = module_from_spec(_spec)
_spec.loader.exec_module(make_arrow)

FIELDS: dict[str, Any] = {
    "image": Image("RGB"),
    "label": Scalar("int64"),
    "coarse": Scalar("int64"),
    "text": Text(optional=True),
    "matrix": Array("float32", (2, 3)),
    "track": Array("int32", (None, 2)),
    "tokens": Array("int32", (None,)),
    "point": Array("float32", (2,)),
    "tags": Array("int64", (None,)),
    "objects": Object(),
    "when": Scalar("int64"),
}
CLASSES = {"classes": ["cat", "dog"], "coarse_classes": ["x", "y"], "tags_classes": ["p", "q"]}


def rows_of(source: Any) -> list[dict[str, Any]]:
    """The samples, arrays as lists."""
    return [
        {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in sample.items()}
        for _, sample in source.read(range(len(source)))
    ]


def expected(*numbers: int, seconds: int = 1) -> list[dict[str, Any]]:
    rows = make_arrow.expected()
    return [
        rows[number] | {"image": make_arrow.png(rows[number]["image"][0]), "when": rows[number]["when"] * seconds}
        for number in numbers
    ]


def by_split(path: Path) -> dict[str, Any]:
    return {split: open_source(one.path, one.kind, one.options) for split, one in find_sources(path).items()}


class TestSavedToDisk:
    def test_a_dataset_dict(self) -> None:
        found = by_split(FILES / "saved")
        assert list(found) == ["train", "validation"]
        assert {source.kind for source in found.values()} == {"hf_dataset"}
        assert rows_of(found["train"]) == expected(0, 1, 2, 3)
        assert rows_of(found["validation"]) == expected(3, 1)
        assert found["train"].schema == Schema(FIELDS)
        assert found["validation"].schema == Schema(FIELDS | {"text": Text()})
        assert found["train"].metadata.items() >= CLASSES.items()
        assert find_sources(FILES / "saved")["train"].notes == ()

    def test_a_dataset_alone(self) -> None:
        assert detect(FILES / "saved" / "train") == "hf_dataset"
        assert len(open_source(FILES / "saved" / "train")) == 4

    def test_a_split_of_any_name(self, tmp_path: Path) -> None:
        shutil.copytree(FILES / "saved" / "train", tmp_path / "unsupervised")
        (tmp_path / "dataset_dict.json").write_text('{"splits": ["unsupervised"]}')
        assert list(by_split(tmp_path)) == ["unsupervised"]

    def test_files_beside_it_are_named(self, tmp_path: Path) -> None:
        root = shutil.copytree(FILES / "saved" / "train", tmp_path / "d")
        (root / "more.txt").write_text("x")
        assert find_sources(root)[""].notes == ("left out: 1 .txt (more.txt)",)

    @pytest.mark.parametrize("name", ["../x.arrow", "/etc/passwd", "", "a/b.arrow", None, 1])
    def test_a_name_that_leads_elsewhere_is_refused(self, tmp_path: Path, name: Any) -> None:
        root = shutil.copytree(FILES / "saved" / "train", tmp_path / "d")
        (root / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
        with pytest.raises(SourceError, match=r"does not name the files as save_to_disk does - .*state\.json"):
            find_sources(root)

    @pytest.mark.parametrize(
        "text", ["", "[]", '{"splits": []}', '{"splits": [".."]}', '{"splits": ["a", "a"]}', "{" * 99]
    )
    def test_splits_that_are_none_are_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "dataset_dict.json").write_text(text)
        with pytest.raises(SourceError, match=r"dataset_dict\.json"):
            find_sources(tmp_path)

    def test_rows_chosen_by_an_index_are_refused(self, tmp_path: Path) -> None:
        root = shutil.copytree(FILES / "saved" / "train", tmp_path / "d")
        state = json.loads((root / "state.json").read_text())
        (root / "state.json").write_text(json.dumps(state | {"_indices_data_files": [{"filename": "i.arrow"}]}))
        with pytest.raises(SourceError, match="flatten_indices"):
            find_sources(root)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        root = shutil.copytree(FILES / "saved" / "train", tmp_path / "d")
        (root / "data-00001-of-00002.arrow").unlink()
        with pytest.raises(SourceError, match="data-00001-of-00002.arrow".replace(".", r"\.")):
            open_source(root)

    def test_features_that_cannot_be_read_leave_the_types(self, tmp_path: Path) -> None:
        root = shutil.copytree(FILES / "saved" / "train", tmp_path / "d")
        (root / "dataset_info.json").write_text('{"features": {"label": 3, "matrix": {"_type": ["Array2D"]}}}')
        source = open_source(root)
        assert (source.schema["label"], source.schema["matrix"]) == (Scalar("int64"), Object())


class TestHub:
    def test_files_of_splits_below_a_folder(self) -> None:
        found = by_split(FILES / "hub")
        assert list(found) == ["train", "test"]
        assert {source.kind for source in found.values()} == {"parquet"}
        assert rows_of(found["train"]) == expected(0, 1, 2, 3, seconds=1000)
        assert rows_of(found["test"]) == expected(0, seconds=1000)
        assert found["train"].schema == Schema(FIELDS)
        assert found["train"].metadata.items() >= CLASSES.items()

    @pytest.mark.parametrize("pattern", ["train-*.parquet", "train-{00000..00001}-of-00002.parquet"])
    def test_a_pattern(self, pattern: str) -> None:
        (source,) = by_split(FILES / "hub" / "data" / pattern).values()
        assert len(source) == 4

    def test_pictures_are_read_and_their_names_kept_aside(self, tmp_path: Path) -> None:
        recordio.convert(FILES / "hub", tmp_path / "d", split="train")
        dataset = recordio.ShardDataset(tmp_path / "d")
        assert list(dataset.schema) == list(FIELDS)
        assert dataset[1]["image"][0, 0].tolist() == [10, 0, 255]
        assert dataset.column("image_file") == ["0.png", "1.png", "2.png", "3.png"]


class TestTables:
    @pytest.mark.parametrize("name", ["pandas.parquet", "pandas.feather"])
    def test_pandas(self, name: str) -> None:
        source = open_source(FILES / name)
        words, numbers = ["b", "a", None], [1.5, None, 3.0]
        assert rows_of(source) == [
            {"word": word, "number": number, "whole": k + 1, "kind": kind, "__index_level_0__": f"r{k + 1}"}
            for k, (word, number, kind) in enumerate(zip(words, numbers, ["low", "high", "low"], strict=True))
        ]
        assert "the index of a pandas table is kept as a column: '__index_level_0__'" in source.notes
        categories = {"kind_categories": ["low", "middle", "high"]} if name.endswith("feather") else {}
        assert source.metadata == categories

    @pytest.mark.parametrize("name", ["polars.parquet", "polars.arrow", "polars_stream.arrow"])
    def test_polars(self, name: str) -> None:
        assert rows_of(open_source(FILES / name)) == [
            {"word": "b", "number": 1.5, "whole": 1, "list": [1, 2], "kind": "b"},
            {"word": "a", "number": None, "whole": 2, "list": [], "kind": "a"},
            {"word": None, "number": 3.0, "whole": 3, "list": [3], "kind": None},
        ]


def test_datasets_gives_the_same(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    theirs = datasets.load_from_disk(str(FILES / "saved"))["train"].cast_column("image", datasets.Image(decode=False))
    for row, mine in zip(theirs, rows_of(open_source(FILES / "saved" / "train")), strict=True):
        assert row.pop("image")["bytes"] == mine.pop("image")
        assert int(row.pop("when").replace(tzinfo=UTC).timestamp()) == mine.pop("when")
        assert row == mine
