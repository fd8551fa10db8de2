"""Labels of YOLO beside pictures, tables in a folder of their own, and numbers with commas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recordio import Array, Image, SourceError, Text
from recordio.writer.sources import open_source
from tests.writer.convert.test_convert import contents, made, picture
from tests.writer.sources.test_folders import fill, samples
from tests.writer.sources.test_layouts import JPEG, only, said, sources

LABEL = "1 .5 .5 .2 .1\n0 .1 .2 .3 .4\n"


class TestYolo:
    def test_labels_in_the_folder_of_the_pictures(self, tmp_path: Path) -> None:
        files: dict[str, bytes | str] = {"a.jpg": JPEG, "a.txt": LABEL, "b.jpg": JPEG, "b.txt": "", "c.jpg": JPEG}
        source = only(fill(tmp_path, files | {"classes.txt": "cat\ndog\n", "notes.txt": "about"}))
        assert source.kind == "yolo"
        assert dict(source.schema) == {
            "key": Text(),
            "image": Image(),
            "boxes": Array("float64", (None, 4)),
            "labels": Array("int64", (None,)),
        }
        first, *others = samples(source)
        assert first["boxes"].tolist() == [[0.5, 0.5, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]]
        assert first["labels"].tolist() == [1, 0]
        assert [len(row["boxes"]) for row in others] == [0, 0]
        assert source.metadata == {"classes": ["cat", "dog"]}
        assert "left out: 1 .txt (notes.txt)" in said(source)
        assert "1 picture without a label file" in said(source)

    def test_folders_of_darknet(self, tmp_path: Path) -> None:
        files: dict[str, Any] = {f"obj_train_data/{n}.jpg": JPEG for n in "ab"}
        files |= {f"obj_train_data/{n}.txt": LABEL for n in "ab"}
        source = only(fill(tmp_path, files | {"obj.names": "cat\ndog\n", "train.txt": "data/obj_train_data/a.jpg\n"}))
        assert (source.kind, len(source)) == ("yolo", 2)
        assert samples(source)[0]["key"] == "obj_train_data/a"
        assert source.metadata == {"classes": ["cat", "dog"]}
        assert "train.txt" in said(source)

    @pytest.mark.parametrize("names", [("train", "valid"), ("obj_train_data", "obj_valid_data")])
    def test_folders_of_splits(self, tmp_path: Path, names: tuple[str, str]) -> None:
        files: dict[str, Any] = {f"{name}/{n}.jpg": JPEG for name in names for n in "ab"}
        files |= {f"{name}/{n}.txt": LABEL for name in names for n in "ab"}
        found = sources(fill(tmp_path, files | {"data.yaml": "names: [cat, dog]\n"}))
        assert list(found) == ["train", "valid"]
        assert {source.kind for source in found.values()} == {"yolo"}
        assert all(source.metadata == {"classes": ["cat", "dog"]} for source in found.values())

    @pytest.mark.parametrize("text", ["a caption", "12 34 56 78 90", "", "3"])
    def test_other_texts_beside_pictures_are_texts(self, tmp_path: Path, text: str) -> None:
        source = only(fill(tmp_path, {f"{n}.{e}": v for n in "ab" for e, v in (("jpg", JPEG), ("txt", text))}))
        assert source.kind == "file_groups"
        assert samples(source)[0]["text"] == text

    def test_a_bad_label_is_named(self, tmp_path: Path) -> None:
        files: dict[str, Any] = {f"{n}.jpg": JPEG for n in "abcd"} | {f"{n}.txt": LABEL for n in "abc"}
        source = only(fill(tmp_path, files | {"d.txt": "0 1 2\n"}))
        bad = samples(source)[3]
        assert isinstance(bad, SourceError)
        assert (bad.place.file, bad.fault) == ("d.txt", "object 1 has 3 values; a class and a box are 5")

    @pytest.mark.slow
    def test_any_number_of_workers_makes_the_same_bytes(self, tmp_path: Path) -> None:
        files: dict[str, Any] = {f"{n}.jpg": picture(n) for n in range(12)} | {f"{n}.txt": LABEL for n in range(12)}
        source = Path(fill(tmp_path / "in", files))
        for workers in (1, 2, 5):
            made(source, tmp_path / f"{workers}", workers=workers, shard_bytes=4000)
        assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "5")


class TestTables:
    def test_a_table_in_a_folder_of_its_own(self, tmp_path: Path) -> None:
        """As in ESC-50: meta/esc50.csv names the sounds of audio/."""
        files: dict[str, Any] = {f"audio/1-{n}-A-0.wav": b"RIFF%d" % n for n in range(6)}
        rows = "filename,fold,target,category\n" + "".join(f"1-{n}-A-0.wav,{n % 5},{n},dog\n" for n in range(6))
        root = fill(tmp_path, files | {"meta/esc50.csv": rows, "meta/human.xlsx": b"PK", "README.md": "x"})
        source = only(root)
        assert (source.kind, len(source)) == ("indexed_files", 6)
        assert samples(source)[3] == {
            "audio": b"RIFF3",
            "filename": "1-3-A-0.wav",
            "fold": 3,
            "target": 3,
            "category": "dog",
        }
        assert "the column 'filename' of esc50.csv names the files in audio/" in said(source)
        made(root, tmp_path.parent / f"{tmp_path.name}-out")

    def test_names_in_folds_below(self, tmp_path: Path) -> None:
        """As in UrbanSound8K: names without the folder that each file is in."""
        files: dict[str, Any] = {f"audio/fold{n % 3}/{n}.wav": b"RIFF%d" % n for n in range(9)}
        rows = "slice_file_name,fold\n" + "".join(f"{n}.wav,{n % 3}\n" for n in range(9))
        source = only(fill(tmp_path, files | {"metadata/UrbanSound8K.csv": rows}))
        assert [row["audio"] for row in samples(source)] == [b"RIFF%d" % n for n in range(9)]

    def test_tables_of_splits_in_a_folder_of_their_own(self, tmp_path: Path) -> None:
        files: dict[str, Any] = {f"images/{n}.jpg": JPEG for n in range(6)}
        tables = {
            f"lists/{split}.csv": "file,y\n" + "".join(f"{n}.jpg,{n}\n" for n in numbers)
            for split, numbers in (("train", range(4)), ("test", range(4, 6)))
        }
        found = sources(fill(tmp_path, files | tables))
        assert {split: len(source) for split, source in found.items()} == {"train": 4, "test": 2}

    def test_a_table_in_the_folder_itself_comes_first(self, tmp_path: Path) -> None:
        rows = "file,y\n" + "".join(f"{n}.jpg,{n}\n" for n in range(3))
        files: dict[str, Any] = {f"images/{n}.jpg": JPEG for n in range(3)}
        source = only(fill(tmp_path, files | {"labels.csv": rows, "old/labels.csv": rows.replace(",y", ",z")}))
        assert set(source.schema) == {"image", "file", "y"}


class TestCommas:
    @pytest.mark.parametrize("cell", ["3,14", "-1.234,5", "1,5e3", "1 000,25"])
    def test_numbers_with_commas_are_told(self, tmp_path: Path, cell: str) -> None:
        source = open_source(fill(tmp_path, {"a.csv": f"x;y\n1;{cell}\n2;7\n3;\n"}) + "/a.csv")
        assert source.schema["y"] == Text()
        assert f"'y' is text: its numbers have commas, such as {cell!r}, for decimals or thousands" in said(source)
        assert "no number that is kept exactly" not in said(source)

    @pytest.mark.parametrize("cells", [["a,b", "1,2"], ["3.5", "4"], ["1,", "2"], ["Berlin, 5", "1"]])
    def test_other_cells_are_not(self, tmp_path: Path, cells: list[str]) -> None:
        rows = "".join(f"{n};{cell}\n" for n, cell in enumerate(cells))
        assert "commas" not in said(open_source(fill(tmp_path, {"a.csv": f"x;y\n{rows}"}) + "/a.csv"))

    def test_a_later_word_takes_the_note_back(self, tmp_path: Path) -> None:
        rows = "".join(f"{n};{n},5\n" for n in range(5000)) + "5000;none of it\n"
        assert "commas" not in said(open_source(fill(tmp_path, {"a.csv": f"x;y\n{rows}"}) + "/a.csv"))
