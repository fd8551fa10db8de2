"""recordio.append: samples are added once, behind those that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

import recordio
from recordio import DatasetError, Scalar, SchemaError, ShardDataset
from recordio.storage.atomic import FolderLock
from tests.recordio.edit.datasets import FIELDS, files, numbers, rows, sample, write


def test_the_samples_of_the_source_follow(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", range(20)), write(tmp_path / "b", range(20, 30))
    before, theirs = files(a), files(b)
    report = recordio.append(a, b)
    assert (report.samples, report.shards, report.copied) == (30, 5, 2)
    assert rows(a) == [sample(i) for i in range(30)]
    assert recordio.verify(a).ok
    assert files(b) == theirs
    assert {name: data for name, data in files(a).items() if name in before and name != "manifest.json"} == {
        name: data for name, data in before.items() if name != "manifest.json"
    }


def test_an_open_reader_goes_on_and_refresh_shows_the_rest(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", range(20)), write(tmp_path / "b", range(20, 30))
    ds = ShardDataset(a)
    recordio.append(a, b)
    assert ds.column("number").tolist() == list(range(20))
    assert ds.refresh().column("number").tolist() == list(range(30))


def test_the_same_append_again_adds_nothing(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", range(20)), write(tmp_path / "b", range(20, 30))
    recordio.append(a, b)
    before = files(a)
    report = recordio.append(a, b)
    assert report.done_before
    assert report.notes == ("2 of its shards were added before",)
    assert files(a) == before


def test_of_a_source_that_has_grown_the_new_shards_are_added(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", range(20)), write(tmp_path / "b", range(20, 30))
    recordio.append(a, b)
    write(b, range(30, 40), mode="append")
    assert recordio.append(a, b).copied == 2
    assert numbers(a) == list(range(40))
    assert [one["samples"] for one in ShardDataset(a).metadata["conversion"]["sources"]] == [10, 10]


def test_a_source_that_was_replaced_is_another_one(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", range(3)), write(tmp_path / "b", range(10))
    recordio.append(a, b)
    write(b, range(50, 55), mode="overwrite")
    recordio.append(a, b)
    assert numbers(a) == [*range(3), *range(10), *range(50, 55)]


def test_the_destination_keeps_its_fields_and_metadata(tmp_path: Path) -> None:
    a = write(tmp_path / "a", range(3), day=1)
    b = write(tmp_path / "b", range(3, 9), FIELDS | {"number": Scalar("int16")}, day=2)
    report = recordio.append(a, b)
    assert report.notes == ("b is written anew: number (int16 -> int64)",)
    assert rows(a) == [sample(i) for i in range(9)]
    metadata = ShardDataset(a).metadata
    assert metadata["day"] == 1
    assert metadata["conversion"]["sources"][0]["metadata"] == {"day": 2}


def test_a_wider_field_is_refused_by_name(tmp_path: Path) -> None:
    a = write(tmp_path / "a", range(3), FIELDS | {"number": Scalar("int16")})
    b = write(tmp_path / "b", range(3))
    before = files(a)
    with pytest.raises(SchemaError, match=r"cannot hold int64.*field 'number'"):
        recordio.append(a, b)
    assert files(a) == before


def test_other_classes_are_refused(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", range(3)), write(tmp_path / "b", range(3), classes=["dog", "cat"])
    with pytest.raises(SchemaError, match="label 0"):
        recordio.append(a, b)


def test_a_dataset_is_not_added_to_itself_or_to_nothing(tmp_path: Path) -> None:
    a = write(tmp_path / "a", range(3))
    with pytest.raises(DatasetError, match="the source itself"):
        recordio.append(a, a)
    with pytest.raises(DatasetError, match="not a recordio dataset"):
        recordio.append(tmp_path / "none", a)
    assert not (tmp_path / "none").exists()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", range(3)), write(tmp_path / "b", range(3))
    with FolderLock(a), pytest.raises(DatasetError, match="another writer"):
        recordio.append(a, b)


def test_a_writer_goes_on_where_an_append_ended(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", range(20)), write(tmp_path / "b", range(20, 30))
    recordio.append(a, b)
    write(a, range(30, 33), mode="append")
    assert rows(a) == [sample(i) for i in range(33)]
