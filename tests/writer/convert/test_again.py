"""Repeated `convert`: a no-op for an unchanged source, an error for a replaced one that looks the same."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import DatasetError, DatasetWriter, ShardDataset, convert, verify
from recordio.writer.convert.convert import ConvertReport

LONG_AGO = (1_700_000_000, 1_700_000_000)


def made(*args: Any, **options: Any) -> ConvertReport:
    report = convert(*args, **options)
    assert isinstance(report, ConvertReport)
    return report


def tick() -> None:
    """Waits for the next tick of the clock behind file times: changes within one tick have equal times."""
    time.sleep(0.03)


def text(path: Path, what: str) -> Path:
    """A file with an old modification time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(what)
    os.utime(path, LONG_AGO)
    return path


def array(path: Path, value: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.full((3, 4), value))
    os.utime(path, LONG_AGO)
    return path


# Each makes a source and returns its path, the options, and a function that replaces a part by one of equal size.
Case = tuple[Path, dict[str, Any], Callable[[], Any]]


def csv_file(root: Path) -> Case:
    source, other = text(root / "t.csv", "x\n1\n"), text(root / "old.csv", "x\n2\n")
    return source, {}, lambda: os.replace(other, source)


def npy_file(root: Path) -> Case:
    source, other = array(root / "a.npy", 1), array(root / "old.npy", 2)
    return source, {}, lambda: shutil.copy2(other, source)


def file_of_a_folder(root: Path) -> Case:
    source, other = text(root / "in/a.txt", "1"), text(root / "a.txt", "2")
    return root / "in", {}, lambda: os.replace(other, source)


def folder(root: Path) -> Case:
    text(root / "in/a.txt", "1"), text(root / "other/a.txt", "2")

    def replace() -> None:
        os.rename(root / "in", root / "before")
        os.rename(root / "other", root / "in")

    return root / "in", {}, replace


def folder_above(root: Path) -> Case:
    _, _, replace = folder(root)
    text(root / "in/t.csv", "x\n1\n"), text(root / "other/t.csv", "x\n2\n")
    return root / "in/t.csv", {}, replace


def folder_inside(root: Path) -> Case:
    text(root / "top/in/a.txt", "1"), text(root / "other/a.txt", "2")

    def replace() -> None:
        os.rename(root / "top/in", root / "before")
        os.rename(root / "other", root / "top/in")

    return root / "top", {}, replace


def link_to_a_file(root: Path) -> Case:
    text(root / "1.csv", "x\n1\n"), text(root / "2.csv", "x\n2\n")
    (root / "t.csv").symlink_to("1.csv")
    (root / "new").symlink_to("2.csv")
    return root / "t.csv", {}, lambda: os.replace(root / "new", root / "t.csv")


def link_above(root: Path) -> Case:
    text(root / "v1/t.csv", "x\n1\n"), text(root / "v2/t.csv", "x\n2\n")
    (root / "latest").symlink_to("v1")
    (root / "current").symlink_to("latest")
    (root / "new").symlink_to("v2")
    return root / "current/t.csv", {}, lambda: os.replace(root / "new", root / "latest")


def link_inside(root: Path) -> Case:
    text(root / "v1/a.txt", "1"), text(root / "v2/a.txt", "2"), text(root / "in/b.txt", "3")
    (root / "in/x").symlink_to(root / "v1")
    (root / "new").symlink_to(root / "v2")
    return root / "in", {}, lambda: os.replace(root / "new", root / "in/x")


def embedded_file(root: Path) -> Case:
    text(root / "t.csv", "f\na/x.bin\n"), text(root / "a/x.bin", "1")
    other = text(root / "x.bin", "2")
    return root / "t.csv", {"embed": "f"}, lambda: os.replace(other, root / "a/x.bin")


def embedded_folder(root: Path) -> Case:
    text(root / "t.csv", "f\nin/a.txt\n")
    return root / "t.csv", {"embed": "f"}, folder(root)[2]


def embedded_link(root: Path) -> Case:
    text(root / "t.csv", "f\nx.bin\n"), text(root / "1.bin", "1"), text(root / "2.bin", "2")
    (root / "x.bin").symlink_to("1.bin")
    (root / "new").symlink_to("2.bin")
    return root / "t.csv", {"embed": "f"}, lambda: os.replace(root / "new", root / "x.bin")


def folder_of_cifar(root: Path) -> Case:
    for name in ("cifar-10-batches-bin", "other"):
        (root / "top" / name).mkdir(parents=True)
        (root / "top" / name / "test_batch.bin").write_bytes(bytes(2 * 3073) if name == "other" else b"\1" * 2 * 3073)

    def replace() -> None:
        os.rename(root / "top/cifar-10-batches-bin", root / "before")
        os.rename(root / "top/other", root / "top/cifar-10-batches-bin")

    return root / "top", {"split": "test"}, replace


CASES = [
    csv_file, npy_file, file_of_a_folder, folder, folder_above, folder_inside, link_to_a_file, link_above, link_inside,
    embedded_file, embedded_folder, embedded_link, folder_of_cifar,
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_replacing_a_file_by_an_older_one_of_its_size_is_noticed(tmp_path: Path, case: Callable[[Path], Case]) -> None:
    source, options, replace = case(tmp_path / "sources")
    out = tmp_path / "out"
    tick()
    made(source, out, **options)
    assert made(source, out, **options).done_before
    before = (out / "shard-00000.rio").read_bytes()
    tick()
    replace()
    with pytest.raises(DatasetError, match=r"the source was changed, moved or replaced after this .* overwrite=True"):
        made(source, out, **options)
    assert not made(source, out, overwrite=True, **options).done_before
    assert (out / "shard-00001.rio").read_bytes() != before
    assert made(source, out, **options).done_before


def test_replacement_during_a_conversion_is_noticed_by_the_next_run(tmp_path: Path) -> None:
    source, _, replace = csv_file(tmp_path)
    tick()

    def progress(done: int, total: int) -> None:
        tick()
        if os.path.exists(tmp_path / "old.csv"):
            replace()

    made(source, tmp_path / "out", progress=progress)
    assert ShardDataset(tmp_path / "out").column("x").tolist() == [1]
    with pytest.raises(DatasetError, match="changed, moved or replaced"):
        made(source, tmp_path / "out")


def test_finished_shards_of_a_replaced_file_are_not_reused(tmp_path: Path) -> None:
    source = text(tmp_path / "t.csv", "x\n" + "1\n" * 1000)
    other = text(tmp_path / "old.csv", "x\n" + "2\n" * 1000)

    def stop(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(source, tmp_path / "out", shard_bytes=500, progress=stop)
    tick()
    os.replace(other, source)
    assert made(source, tmp_path / "out", shard_bytes=500).reused == 0
    assert set(ShardDataset(tmp_path / "out").column("x").tolist()) == {2}


def test_unchanged_source_stays_done_despite_changes_nearby(tmp_path: Path) -> None:
    text(tmp_path / "in/a/1.txt", "1")
    os.utime(tmp_path / "in/a/1.txt", (4_000_000_000, 4_000_000_000))  # set by a wrong clock
    made(tmp_path / "in", tmp_path / "out")
    tick()
    text(tmp_path / "in/.DS_Store", "x"), text(tmp_path / "in/a/.hidden", "x"), text(tmp_path / "beside.txt", "x")
    (tmp_path / "in/a/1.txt").read_bytes()
    assert made(tmp_path / "in", tmp_path / "out").done_before


def test_renaming_a_folder_above_source_and_dataset_changes_nothing(tmp_path: Path) -> None:
    text(tmp_path / "project/t.csv", "x\n1\n")
    made(tmp_path / "project/t.csv", tmp_path / "project/out")
    tick()
    os.rename(tmp_path / "project", tmp_path / "renamed")
    assert made(tmp_path / "renamed/t.csv", tmp_path / "renamed/out").done_before


def test_samples_added_to_the_dataset_are_noticed(tmp_path: Path) -> None:
    made(text(tmp_path / "t.csv", "x\n1\n"), tmp_path / "out")
    with DatasetWriter(tmp_path / "out", mode="append") as writer:
        writer.write({"x": 2})
    with pytest.raises(DatasetError, match="samples were added to the dataset here"):
        made(tmp_path / "t.csv", tmp_path / "out")


def test_no_clock_decides_whether_a_conversion_is_done(tmp_path: Path) -> None:
    source, manifest = text(tmp_path / "t.csv", "x\n1\n"), tmp_path / "out/manifest.json"
    made(source, tmp_path / "out")
    for time_of in (0, 4_000_000_000):
        os.utime(manifest, (time_of, time_of))
        assert made(source, tmp_path / "out").done_before


def test_another_link_to_the_same_files_and_a_folder_renamed_back_change_nothing(tmp_path: Path) -> None:
    text(tmp_path / "v1/a.txt", "1"), text(tmp_path / "in/b.txt", "2")
    (tmp_path / "in/x").symlink_to(tmp_path / "v1")
    made(tmp_path / "in", tmp_path / "out")
    (tmp_path / "new").symlink_to("../v1")
    os.replace(tmp_path / "new", tmp_path / "in/x")
    os.rename(tmp_path / "v1", tmp_path / "v2")
    os.rename(tmp_path / "v2", tmp_path / "v1")
    assert made(tmp_path / "in", tmp_path / "out").done_before


@pytest.mark.parametrize("found", [None, "", "no digest\n", "00" * 16])
def test_a_dataset_without_the_digest_of_its_source_is_not_taken_for_done(tmp_path: Path, found: str | None) -> None:
    source, digest = text(tmp_path / "t.csv", "x\n1\n"), tmp_path / "out/.source"
    made(source, tmp_path / "out")
    digest.unlink() if found is None else digest.write_text(found)
    with pytest.raises(DatasetError, match="changed, moved or replaced after this dataset was made from it; overwrite"):
        made(source, tmp_path / "out")
    assert not made(source, tmp_path / "out", overwrite=True).done_before
    assert made(source, tmp_path / "out").done_before


def test_readers_copies_and_archives_do_without_the_digest(tmp_path: Path) -> None:
    made(text(tmp_path / "t.csv", "x\n1\n"), tmp_path / "out")
    (tmp_path / "out/.source").write_bytes(b"\0")
    assert verify(tmp_path / "out").ok
    assert ShardDataset(tmp_path / "out").column("x").tolist() == [1]
    (tmp_path / "out/.source").unlink()
    assert verify(tmp_path / "out").ok
    assert ShardDataset(tmp_path / "out").column("x").tolist() == [1]


def test_only_the_digest_of_the_source_depends_on_its_times(tmp_path: Path) -> None:
    source = text(tmp_path / "t.csv", "x\n1\n")
    made(source, tmp_path / "a")
    tick()
    os.utime(source)
    made(source, tmp_path / "b")
    a, b = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab")
    assert a.pop(".source") != b.pop(".source")
    assert a == b
