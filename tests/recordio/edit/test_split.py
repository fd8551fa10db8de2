"""recordio.split: every sample is in one part, by the seed alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import DatasetError, Scalar, SchemaError, ShardDataset, Text
from tests.recordio.edit.datasets import files, numbers, rows, sample, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "source", range(40))


def test_the_parts_are_disjoint_and_whole_and_in_order(tmp_path: Path, source: Path) -> None:
    reports = recordio.split(source, tmp_path / "it", {"train": 0.7, "val": 0.2, "test": 0.1}, shard_bytes=6000)
    assert [(name, report.samples) for name, report in reports.items()] == [("train", 28), ("val", 8), ("test", 4)]
    parts = [numbers(tmp_path / "it" / name) for name in reports]
    assert all(part == sorted(part) for part in parts)
    assert sorted(number for part in parts for number in part) == list(range(40))
    assert rows(tmp_path / "it" / "val") == [sample(i) for i in parts[1]]
    assert ShardDataset(tmp_path / "it" / "val").metadata["classes"] == ["cat", "dog"]


def test_the_parts_are_those_of_a_dataset_split_in_memory(tmp_path: Path, source: Path) -> None:
    recordio.split(source, tmp_path / "it", {"a": 0.5, "b": 0.5}, seed=9)
    views = ShardDataset(source).split([0.5, 0.5], seed=9)
    assert [numbers(tmp_path / "it" / name) for name in "ab"] == [view.column("number").tolist() for view in views]


def test_the_seed_decides(tmp_path: Path, source: Path) -> None:
    for name, seed in (("x", 1), ("y", 1), ("z", 2)):
        recordio.split(source, tmp_path / name, {"a": 0.5, "b": 0.5}, seed=seed)
    assert files(tmp_path / "x") == files(tmp_path / "y") != files(tmp_path / "z")


@pytest.mark.parametrize("field", ["label", "kind", "flag"])
def test_each_value_is_split_in_the_same_proportions(tmp_path: Path, field: str) -> None:
    fields = {"label": Scalar("int64", optional=True), "kind": Text(optional=True), "flag": Scalar("bool")}
    with recordio.DatasetWriter(tmp_path / "source", fields) as writer:
        for i in range(100):
            few = i % 10 == 3
            writer.write({"label": None if few else -5, "kind": "rare" if few else None, "flag": few})
    recordio.split(tmp_path / "source", tmp_path / "it", {"a": 0.8, "b": 0.2}, stratify=field)
    for name, many, few in (("a", 72, 8), ("b", 18, 2)):
        column = ShardDataset(tmp_path / "it" / name).column("flag")
        assert Counter(column.tolist()) == {False: many, True: few}


def test_what_is_in_no_part_is_said(tmp_path: Path, source: Path) -> None:
    report = recordio.split(source, tmp_path / "it", {"few": 0.1})["few"]
    assert report.notes == ("36 samples are in no part: the fractions add up to 0.1",)


def test_the_same_split_again_does_nothing(tmp_path: Path, source: Path) -> None:
    recordio.split(source, tmp_path / "it", {"a": 0.5, "b": 0.5})
    again = recordio.split(source, tmp_path / "it", {"a": 0.5, "b": 0.5})
    assert all(report.done_before for report in again.values())
    with pytest.raises(DatasetError, match="another dataset here"):
        recordio.split(source, tmp_path / "it", {"a": 0.4, "b": 0.6})


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, "parts is a dict"),
        ([0.5, 0.5], "parts is a dict"),
        ({"a": 0.8, "b": 0.3}, "sum of 1 at most"),
        ({"a": -0.1, "b": 0.3}, "fractions are a list from 0"),
        ({"../a": 1.0}, "begins with no dot"),
        ({"a/b": 1.0}, "name of a part"),
        ({"": 1.0}, "name of a part"),
        ({"a": 1.0, "b": 0.0}, "'b' is 0.0 of 40 samples, which is none"),
    ],
)
def test_parts_are_named_fractions(tmp_path: Path, source: Path, parts: Any, words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        recordio.split(source, tmp_path / "it", parts)
    assert not (tmp_path / "it").exists()


@pytest.mark.parametrize("field", ["picture", "run", "tree"])
def test_strata_are_numbers_or_text(tmp_path: Path, source: Path, field: str) -> None:
    with pytest.raises(SchemaError, match=f"stratify takes .* field '{field}'"):
        recordio.split(source, tmp_path / "it", {"a": 0.5, "b": 0.5}, stratify=field)


def test_a_dataset_does_not_hold_its_parts(tmp_path: Path, source: Path) -> None:
    with pytest.raises(DatasetError, match="there is a dataset here"):
        recordio.split(source, source, {"a": 0.5, "b": 0.5})
