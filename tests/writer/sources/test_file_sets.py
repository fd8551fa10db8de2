from __future__ import annotations

from pathlib import Path

import pytest

from recordio.errors import SourceError
from recordio.writer.sources import find_sources
from recordio.writer.sources.file_sets import by_split, is_pattern, matching


class TestBySplit:
    def test_names_as_the_hub_writes_them(self) -> None:
        names = [
            "data/test-00000-of-00001.parquet",
            "data/train-00000-of-00002.parquet",
            "data/train-00001-of-00002.parquet",
        ]
        assert by_split(names, "folder") == {"train": names[1:], "test": names[:1]}

    def test_folders_name_splits_where_files_do_not(self) -> None:
        assert by_split(["validation/0000.parquet"], "folder") == {"validation": ["validation/0000.parquet"]}

    def test_without_splits_all_files_are_one_source(self) -> None:
        assert by_split(["a-000.tar", "a-001.tar"], "folder") == {"": ["a-000.tar", "a-001.tar"]}

    def test_a_file_without_a_split_beside_others_is_refused(self) -> None:
        with pytest.raises(SourceError, match=r"'extra\.tar' belongs to no split, others do \(train\)"):
            by_split(["train-000.tar", "extra.tar"], "folder")


def test_files_of_several_folders_are_noted(tmp_path: Path) -> None:
    for name in ("en/train-0.tfrecord", "fr/train-0.tfrecord", "fr/test-0.tfrecord"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    notes = {split: spec.notes for split, spec in find_sources(tmp_path).items()}
    assert notes["test"] == ()
    assert notes["train"][0].startswith("the files of 2 folders are one dataset: en/, fr/; give one of them")


class TestPatterns:
    @pytest.mark.parametrize("path", ["a-{000..009}.tar", "{train,test}.tar", "a-*.tar", "a-??.tar"])
    def test_is_one(self, path: str) -> None:
        assert is_pattern(path)

    def test_is_none(self) -> None:
        assert not is_pattern("a-{000}.tar")

    def test_absent_files_are_named(self) -> None:
        with pytest.raises(SourceError, match=r"3 of 3 files do not exist, the first is nowhere/a-08\.tar"):
            matching("nowhere/a-{08..10}.tar")

    def test_a_pattern_of_too_many_is_refused(self) -> None:
        with pytest.raises(SourceError, match="more than 1,000,000 files"):
            matching("a-{0..999999999999}.tar")
