"""Texts with a document a line: every line is a sample, and folders of them are splits."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import pytest

from recordio import SchemaError, SourceError, Text
from recordio.writer.sources import SourceOptions, TableOptions, find_sources, open_source
from recordio.writer.sources.tables.text_file import TextFile
from tests.writer.sources.test_folders import fill, keys, samples


def test_each_line_is_a_document(tmp_path: Path) -> None:
    data = '\ufefffirst\r\n\n  indented "quoted", with commas\n \t \n\rünïcode\n\nlast'
    source = pickle.loads(pickle.dumps(open_source(fill(tmp_path, {"corpus.txt": data}) + "/corpus.txt")))
    assert (source.kind, dict(source.schema)) == ("text_lines", {"text": Text()})
    assert [row["text"] for row in samples(source)] == [
        "first",
        '  indented "quoted", with commas',
        "ünïcode",
        "last",
    ]
    assert keys(source) == [f"corpus.txt line {line}" for line in (1, 3, 6, 8)]
    assert source.notes == ("left out: 4 blank lines",)


def test_a_compressed_file_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"a\nb\n"))
    source = open_source(tmp_path / "c.txt.gz")
    assert (source.kind, samples(source)) == ("text_lines", [{"text": "a"}, {"text": "b"}])


def test_a_line_that_is_not_utf8_is_an_error_of_its_own(tmp_path: Path) -> None:
    path = fill(tmp_path, {"c.txt": "ünï\n".encode() + b"\xff\xfe\xfa\ngood\n"}) + "/c.txt"
    first, bad, good = samples(open_source(path))
    assert (first, good) == ({"text": "ünï"}, {"text": "good"})
    assert isinstance(bad, SourceError)
    assert bad.place.file == "c.txt line 2"


def test_an_encoding_may_be_given_and_nothing_else_of_tables(tmp_path: Path) -> None:
    path = fill(tmp_path, {"c.txt": "\u0441\u043b\u043e\u0432\u043e\n".encode("cp1251")}) + "/c.txt"
    options = SourceOptions(table=TableOptions(encoding="cp1251"))
    assert samples(open_source(path, None, options)) == [{"text": "\u0441\u043b\u043e\u0432\u043e"}]
    with pytest.raises(SchemaError, match="are for CSV and TSV"):
        open_source(path, None, SourceOptions(table=TableOptions(delimiter=";")))


@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_a_file_without_a_document_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SourceError, match="no rows"):
        open_source(fill(tmp_path, {"c.txt": data}) + "/c.txt")


def test_a_line_that_memory_would_not_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recordio.writer.sources.tables.text_file._MAX_LINE_CHUNKS", 2)
    path = tmp_path / "c.txt"
    path.write_bytes(b"x" * (4 << 20))
    with pytest.raises(SourceError, match="a line is longer than"):
        list(TextFile(str(path)).lines())


class TestFolders:
    def test_texts_named_as_splits_are_splits(self, tmp_path: Path) -> None:
        root = fill(tmp_path, {"train.txt": "a\nb\n", "valid.txt": "c\n", "README.txt": "about"})
        found = find_sources(root)
        assert {split: spec.kind for split, spec in found.items()} == {"train": "text_lines", "valid": "text_lines"}

    @pytest.mark.parametrize(
        "files",
        [
            {"train.txt": "0.npy\n", "val.txt": "1.npy\n", "0.txt": "x"},
            {"a.txt": "x\ny\n", "b.txt": "z\n"},
        ],
    )
    def test_other_texts_are_a_document_each(self, tmp_path: Path, files: dict[str, str]) -> None:
        (spec,) = find_sources(fill(tmp_path, files)).values()
        source = open_source(spec.path, spec.kind, spec.options)
        assert source.kind == "file_groups"
        assert samples(source) == [{"key": name[:-4], "text": files[name]} for name in sorted(files)]

    def test_texts_in_folders_of_other_folders_keep_their_paths(self, tmp_path: Path) -> None:
        files = {"book/one/1.txt": "x", "book/one/2.txt": "y", "book/top.txt": "z"}
        (spec,) = find_sources(fill(tmp_path, files)).values()
        assert len(open_source(spec.path, spec.kind, spec.options)) == 3

    def test_tables_beside_a_text_are_splits_still(self, tmp_path: Path) -> None:
        root = fill(tmp_path, {"train.csv": "a\n1\n", "test.csv": "a\n2\n", "notes.txt": "x"})
        assert {split: spec.kind for split, spec in find_sources(root).items()} == {"train": "csv", "test": "csv"}
