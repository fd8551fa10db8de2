"""Finding the datasets at a path on the command line."""

from __future__ import annotations

from pathlib import Path

from recordio.storage.dataset_files import STAGING
from recordio.tools.splits import Split, find_splits


def put(root: Path, *names: str) -> str:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(root)


def names(path: str) -> list[str | None]:
    return [split.name for split in find_splits(path)]


def test_splits_come_in_the_order_of_use_then_by_name(tmp_path: Path) -> None:
    wild = ["b", "test", "a", "validation", "train", "valid", "val"]
    put(tmp_path, *(f"{name}/manifest.json" for name in wild))
    assert names(str(tmp_path)) == ["train", "val", "valid", "validation", "test", "a", "b"]


def test_dataset_hides_datasets_inside_it(tmp_path: Path) -> None:
    path = put(tmp_path, "manifest.json", "train/manifest.json")
    assert find_splits(path) == [Split(None, path)]


def test_single_split_is_found(tmp_path: Path) -> None:
    put(tmp_path, "train/manifest.json")
    assert find_splits(str(tmp_path / "train")) == [Split(None, str(tmp_path / "train"))]


def test_split_without_a_manifest_is_listed(tmp_path: Path) -> None:
    assert names(put(tmp_path, "train/shard-00000.rio", "test/manifest.json")) == ["train", "test"]


def test_unfinished_split_is_listed(tmp_path: Path) -> None:
    assert names(put(tmp_path, "train/manifest.json", f"test/{STAGING}/plan.json")) == ["train", "test"]


def test_other_and_hidden_folders_are_not_splits(tmp_path: Path) -> None:
    assert names(put(tmp_path, "train/manifest.json", "notes/a.txt", ".old/manifest.json", "b.txt")) == ["train"]


def test_path_without_a_dataset_is_returned_as_it_is(tmp_path: Path) -> None:
    for path in (str(tmp_path), str(tmp_path / "missing"), put(tmp_path / "x", "file.txt") + "/file.txt"):
        assert find_splits(path) == [Split(None, path)]
