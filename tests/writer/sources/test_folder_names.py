"""Names of files: extensions, clutter, and what a folder knows of all its names at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis.strategies import binary, lists, sampled_from

from recordio.writer.sources import folder as folders, open_source
from recordio.writer.sources.file_table import FileTable
from recordio.writer.sources.files import scan_folder
from recordio.writer.sources.folder import Folder
from recordio.writer.sources.kinds import KINDS, endings, file_kind
from recordio.writer.sources.leftovers import is_clutter, may_hold_clutter
from recordio.writer.sources.media import PICTURES, TEXTS, extension, extensions
from recordio.writer.sources.plain_files import stamp

PARTS = sampled_from([b"a", b".", b"/", b"..", b".JPG", b"x.tar", b".gz", b"train", b" ", b"\xff"])


@given(lists(PARTS, max_size=6).map(b"".join) | binary(max_size=12))
def test_an_extension_is_that_of_splitext_in_lower_case(name: bytes) -> None:
    assert extension(name) == os.path.splitext(name)[1].lower()


def test_extensions_of_many_names_are_those_of_each() -> None:
    every = [b"a.b/c.JPG", b"a/b.c/README", b"x.jpg", b"noext", b"a/trailing.", b"d/e.tar.gz", b"q/\xff.\xfe"]
    assert extensions(every) == {extension(name) for name in every}
    assert extensions([]) == frozenset()
    assert extensions([b"x.geojson", b"y.geojson", b"d.e/zz"]) == {b".geojson", b""}


@pytest.mark.parametrize(
    "name",
    "README a/LICENSE.txt Thumbs.db x/__MACOSX/y.jpg checksums.md notice.html dataset_card.md SHA256SUMS".split(),
)
def test_no_clutter_is_missed_by_the_look_at_all_names(name: str) -> None:
    assert is_clutter(name.encode())
    assert may_hold_clutter(b"a.jpg" + name.encode() + b"b.jpg")


@pytest.mark.parametrize("name", "a.csv b.jsonl.gz c.tfrecord d.txt.ZST e.parquet f.tar.gz g.mds.zstd".split())
def test_endings_include_that_of_each_file_of_a_kind(name: str) -> None:
    kind = file_kind(name)
    assert kind is None or extension(name.encode()) in endings([kind])
    assert endings(KINDS) >= endings(["csv"]) > {b".csv"}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    for name in "a/1.jpg a/2.txt a/b/3.jpg a.txt b.JPG ab/4.txt a-b/5.jpg .hidden README.md".split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return Folder(os.fspath(tmp_path))


class TestFolder:
    def test_names_are_sorted_as_paths(self, folder: Folder) -> None:
        assert folder.names == sorted(b"a/1.jpg a/2.txt a/b/3.jpg a.txt b.JPG ab/4.txt a-b/5.jpg".split())
        assert (folder.hidden, folder.clutter) == ([b".hidden"], [b"README.md"])

    def test_names_by_extension(self, folder: Folder) -> None:
        assert folder.extensions == {b".jpg", b".txt"}
        assert folder.having(PICTURES) == [name for name in folder.names if name.lower().endswith(b".jpg")]
        assert folder.having(PICTURES | TEXTS) == folder.names
        assert folder.having(frozenset((b".png",))) == []

    def test_names_below_each_folder(self, folder: Folder) -> None:
        assert dict(folder.folders) == {"a-b": [b"5.jpg"], "a": [b"1.jpg", b"2.txt", b"b/3.jpg"], "ab": [b"4.txt"]}
        assert folder.own == [b"a.txt", b"b.JPG"]
        assert "b.JPG" not in folder.folders

    def test_a_name_is_found(self, folder: Folder) -> None:
        assert folder.has(b"a/b/3.jpg")
        assert not folder.has(b"a/b/4.jpg")
        assert not folder.has(b"z")


def test_each_file_of_a_large_folder_has_its_size_and_stamp(tmp_path: Path) -> None:
    inside = tmp_path / "a"
    inside.mkdir()
    for number in range(200):
        (inside / f"{number:03d}.txt").write_bytes(bytes(number))
    (inside / "link.txt").symlink_to("199.txt")
    (inside / "lost.txt").symlink_to("nowhere")
    os.mkfifo(inside / "pipe.txt")
    found = scan_folder(os.fsencode(tmp_path))
    stamps = dict(zip(found, found.stamps.tolist(), strict=True))
    assert found.sizes.tolist() == [*range(200), 199, -1, -1]
    assert all(stamps[b"a/%03d.txt" % k] == stamp((inside / f"{k:03d}.txt").stat()) for k in range(200))
    assert stamps[b"a/link.txt"] == stamps[b"a/199.txt"]
    assert stamps[b"a/lost.txt"] == stamp((inside / "lost.txt").lstat())


def test_class_folders_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "cat/1.txt dog/2.txt dog/readme.md".split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    roots: list[bytes] = []

    def scan(root: bytes, on_hidden: Callable[[bytes], None]) -> FileTable:
        roots.append(root)
        return scan_folder(root, on_hidden)

    monkeypatch.setattr(folders, "scan_folder", scan)
    source = open_source(os.fspath(tmp_path))
    assert [source.sample(k)["label"] for k in range(len(source))] == [0, 1]
    assert roots == [os.fsencode(tmp_path)]
