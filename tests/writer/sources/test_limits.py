"""Every length, count and depth of a source has a limit, and whatever is beyond it is refused with the way forward."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zstandard

from recordio import SourceError, kernels
from recordio.format.layout import MAX_FIELDS
from recordio.writer.sources import open_source
from recordio.writer.sources.archives.compression import unpacked
from recordio.writer.sources.files import read_file, scan_folder
from recordio.writer.sources.folders.boxes import named_classes, voc_annotation
from recordio.writer.sources.plain_files import MAX_VALUE, read_files


def test_folders_whose_links_double_with_each_level_are_refused(tmp_path: Path) -> None:
    levels = [tmp_path / f"{n}" for n in range(40)]
    for level in levels:
        level.mkdir()
    for level, below in pairwise(levels):
        for name in "ab":
            (level / name).symlink_to(below)
    with pytest.raises(SourceError, match="links lead into this folder in more than 1000 ways"):
        scan_folder(bytes(tmp_path))


def test_a_folder_that_several_links_lead_to_is_read_by_each(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats/1.txt").write_text("x")
    for name in ("a", "b"):
        (tmp_path / name).symlink_to("cats")
    assert list(scan_folder(bytes(tmp_path))) == [b"a/1.txt", b"b/1.txt", b"cats/1.txt"]


def read_in(folder: Path, *files: tuple[bytes, int]) -> list[bytes | None]:
    """What `read_files` gives for these names and sizes."""
    ends = np.cumsum(np.array([len(name) for name, _ in files], np.int64))
    sizes = np.array([nbytes for _, nbytes in files], np.int64)
    starts = np.append(np.int64(0), ends)[:-1]
    opened = os.open(folder, os.O_RDONLY)
    try:
        return read_files(opened, b"".join(name for name, _ in files), starts, ends, sizes)
    finally:
        os.close(opened)


@pytest.fixture(params=["in C", "in Python"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in Python":
        monkeypatch.setattr(kernels, "c", None)
    elif kernels.c is None:
        pytest.skip(f"kernels in C: {kernels.state}")


@pytest.mark.usefixtures("either_way")
def test_files_are_read_at_once_if_they_are_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/1").write_bytes(b"one")
    (tmp_path / "2").write_bytes(bytes(5_000_000))
    (tmp_path / "linked").symlink_to("deep/1")
    os.mkfifo(tmp_path / "pipe")
    same = [(b"deep/1", 3), (b"2", 5_000_000), (b"linked", 3), (b"deep/1", 3)]
    assert read_in(tmp_path, *same) == [b"one", bytes(5_000_000), b"one", b"one"]
    others = [
        (b"deep/1", 2),
        (b"deep/1", 4),
        (b"2", 1),
        (b"absent", 1),
        (b"pipe", 1),
        (b"deep", 4096),
        (b"x" * 5000, 1),
    ]
    assert read_in(tmp_path, *others, (b"deep/1", 3)) == [None] * len(others) + [b"one"]
    assert read_in(tmp_path) == []


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("nbytes", [0, MAX_VALUE + 1])
def test_what_is_empty_or_too_large_is_not_read_at_once(nbytes: int, tmp_path: Path) -> None:
    with open(tmp_path / "a.bin", "wb") as file:
        file.truncate(nbytes)  # all of it a hole
    assert read_in(tmp_path, (b"a.bin", nbytes), (b"a.bin", -1)) == [None, None]


def test_a_file_larger_than_any_value_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with open(tmp_path / "a.bin", "wb") as file:
        file.truncate(1 << 40)  # all of it a hole
    with pytest.raises(SourceError, match=r"it has 1,048,576 MiB, and at most 4,096 are read as one: cut it"):
        read_file(bytes(tmp_path / "a.bin"))
    with pytest.raises(SourceError, match="at most 1 are read"):
        read_file(bytes(tmp_path / "a.bin"), most=1 << 20)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_table_of_too_many_columns_is_refused(tmp_path: Path, name: str) -> None:
    mark = "," if name == "a.csv" else "\t"
    lines = [mark.join(f"c{n}" for n in range(MAX_FIELDS + 1)), mark.join("1" * (MAX_FIELDS + 1))]
    (tmp_path / name).write_text("\n".join([*lines, ""]))
    with pytest.raises(SourceError, match=r"a line has 4,097 cells.*at most 4,096 fields.*\.npy"):
        open_source(tmp_path / name)


def test_a_first_line_that_is_no_header_is_not_called_empty(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",".join(f"c{n}" for n in range(60_000)) + "\n1\n")
    with pytest.raises(SourceError, match="first line is longer than 256 KiB"):
        open_source(tmp_path / "a.csv")


def test_json_lines_of_too_many_keys_are_refused_at_the_line(tmp_path: Path) -> None:
    lines = [json.dumps({f"k{n}": 1}) for n in range(MAX_FIELDS + 5)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(SourceError, match=r"more than 4,096 different keys.*nest them in one object.*line 4097"):
        open_source(tmp_path / "a.jsonl")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_xml_that_declares_entities_is_refused_in_every_encoding(encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    text = mark + '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "cc"><!ENTITY c "&b;&b;">]><a>&c;</a>'
    with pytest.raises(SourceError, match="declares entities"):
        voc_annotation(text.encode(encoding))


def test_a_quote_left_open_in_a_list_of_names_takes_no_longer(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [" + "a" * 500_000 + "']\n")  # went on for an hour
    assert named_classes([str(tmp_path)])[0] == ["a" * 500_000 + "'"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[a, 'b, c', \"d\"]", ["a", "b, c", "d"]),
        ("[a, b,]", ["a", "b"]),
        ("{0: a, 1: 'b, c'}", ["a", "b, c"]),
        ("[don't, b]", ["don't", "b"]),
    ],
)
def test_names_in_brackets(tmp_path: Path, text: str, names: list[str]) -> None:
    (tmp_path / "data.yaml").write_text(f"names: {text}\n")
    assert named_classes([str(tmp_path)])[0] == names


def test_frames_that_unpack_to_nothing_are_not_collected(tmp_path: Path) -> None:
    empty = zstandard.ZstdCompressor().compress(b"")
    (tmp_path / "a.zst").write_bytes(empty * 20_000 + zstandard.ZstdCompressor().compress(b"text"))
    with open(tmp_path / "a.zst", "rb") as raw:
        assert list(unpacked(raw, "zstd")) == [b"text"]
