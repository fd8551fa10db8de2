"""Folders as people have them: what each is taken for, what its samples hold, and what is said of the rest."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from recordio import Array, Image, Object, Scalar, SourceError, Text
from recordio.writer.sources import Source, find_sources, open_source
from tests.writer.sources.test_folders import fill, picture, samples


def grey() -> bytes:
    out = BytesIO()
    Pillow.new("L", (6, 4), 3).save(out, "PNG")
    return out.getvalue()


JPEG = picture()
PNG = picture(7, "PNG")
GREY = grey()


def sources(root: str, kind: str | None = None) -> dict[str, Source]:
    """The opened sources at a path by split, with all that is said of each in `notes`."""
    found = {}
    for split, spec in find_sources(root, kind).items():
        source = open_source(spec.path, spec.kind, spec.options)
        source.notes = (*spec.notes, *source.notes)
        found[split] = source
    return found


def only(root: str, kind: str | None = None) -> Source:
    found = sources(root, kind)
    assert list(found) == [""]
    return found[""]


def said(source: Source) -> str:
    return "\n".join(source.notes)


def classes(tmp_path: Path) -> str:
    return fill(tmp_path, {f"{name}/{n}.jpg": JPEG for name in ("cat", "dog") for n in range(4)})


class TestClassFolders:
    @pytest.mark.parametrize(
        "stray", ["preview.png", "cat/0.txt", "cat/scan.pdf", "labels.csv", "notes.json", "cat/extra.zip"]
    )
    def test_labels_stay_and_a_stray_file_is_named(self, tmp_path: Path, stray: str) -> None:
        source = only(fill(tmp_path, {stray: PNG}) and classes(tmp_path))
        assert (source.kind, source.metadata) == ("image_folder", {"classes": ["cat", "dog"]})
        assert len(source) == 8
        assert f"({stray})" in said(source)

    def test_clutter_and_hidden_files_are_named_once(self, tmp_path: Path) -> None:
        fill(
            tmp_path,
            dict.fromkeys(["README.md", "cat/Thumbs.db", "__MACOSX/cat/._0.jpg", ".git/x", "cat/.DS_Store"], "x"),
        )
        source = only(classes(tmp_path))
        assert source.notes == (
            "hidden, left out: .git, __MACOSX/cat/._0.jpg, cat/.DS_Store (3 in all)",
            "left out: 1 .db (cat/Thumbs.db), 1 .md (README.md)",
        )
        assert source.metadata == {"classes": ["cat", "dog"]}

    def test_one_folder_too_many_is_passed_through(self, tmp_path: Path) -> None:
        source = only(str(Path(classes(tmp_path / "in/photos")).parent))
        assert source.metadata == {"classes": ["cat", "dog"]}
        assert "everything lies in photos/" in said(source)

    def test_folders_in_the_class_folders_are_told(self, tmp_path: Path) -> None:
        source = only(fill(tmp_path, dict.fromkeys(["animal/cat/1.jpg", "animal/dog/2.jpg", "plant/rose/3.jpg"], JPEG)))
        assert source.metadata == {"classes": ["animal", "plant"]}
        assert "3 folders inside them count as the same class: animal/cat, animal/dog, plant/rose" in said(source)

    def test_a_single_folder_whose_name_is_no_class_makes_no_labels(self, tmp_path: Path) -> None:
        assert only(fill(tmp_path / "a", {"Images/1.jpg": JPEG})).kind == "file_groups"
        assert only(fill(tmp_path / "b", {"cat/1.jpg": JPEG})).kind == "image_folder"

    def test_many_pictures_beside_the_folders_make_no_classes(self, tmp_path: Path) -> None:
        source = only(fill(tmp_path, dict.fromkeys(["a/1.jpg", "b/1.jpg", "1.jpg", "2.jpg"], JPEG)))
        assert source.kind == "file_groups"
        assert [sample["key"] for sample in samples(source)] == ["1", "2", "a/1", "b/1"]
        assert "--kind image_folder" in said(source)

    def test_texts_and_sounds_have_labels_too(self, tmp_path: Path) -> None:
        texts = only(fill(tmp_path / "t", {"neg/1.txt": "bad", "pos/1.txt": b"\xef\xbb\xbfgood", "pos/2.txt": "fine"}))
        assert (texts.kind, texts.metadata) == ("text_folder", {"classes": ["neg", "pos"]})
        assert samples(texts)[:2] == [{"text": "bad", "label": 0}, {"text": "good", "label": 1}]
        sounds = only(fill(tmp_path / "s", {"no/1.wav": b"RIFF1", "yes/1.flac": b"fLaC"}))
        assert (sounds.kind, dict(samples(sounds)[0])) == ("audio_folder", {"audio": b"RIFF1", "label": 0})


class TestSplitNames:
    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["Training", "Testing"], ["train", "test"]),
            (["TRAIN", "Dev"], ["train", "val"]),
            (["train2017", "val2017"], ["train", "val"]),
            (["seg_train", "seg_test", "seg_pred"], ["train", "test"]),
            (["images-train", "images-valid"], ["train", "valid"]),
            (["train", "validation", "test"], ["train", "validation", "test"]),
        ],
    )
    def test_spellings_of_splits(self, tmp_path: Path, names: list[str], expected: list[str]) -> None:
        found = sources(fill(tmp_path, {f"{name}/{c}/1.jpg": JPEG for name in names for c in ("a", "b")}))
        assert list(found) == expected
        assert [source.metadata for source in found.values()] == [{"classes": ["a", "b"]}] * len(expected)
        for name, split in zip(names, expected, strict=False):
            assert name == split or f"{name!r} is {split!r}" in said(found[expected[0]])
        assert len(names) == len(expected) or "seg_pred/a/1.jpg" in said(found["train"])

    def test_words_in_class_names_are_no_splits(self, tmp_path: Path) -> None:
        names = ["test_tube", "train_station", "dev_board"]
        assert only(fill(tmp_path, {f"{name}/1.jpg": JPEG for name in names})).metadata == {"classes": sorted(names)}

    def test_two_names_for_one_split_are_refused(self, tmp_path: Path) -> None:
        root = fill(tmp_path, dict.fromkeys(["val/a/1.jpg", "dev/a/1.jpg", "train/a/1.jpg"], JPEG))
        with pytest.raises(SourceError, match="both stand for the split 'val'"):
            find_sources(root)


class TestIndexedFiles:
    def test_metadata_of_hugging_face_keeps_the_captions(self, tmp_path: Path) -> None:
        rows = "".join(json.dumps({"file_name": f"{n}.jpg", "text": f"caption {n}"}) + "\n" for n in (2, 1))
        source = only(fill(tmp_path, {"metadata.jsonl": rows, "1.jpg": JPEG, "2.jpg": PNG, "3.jpg": JPEG}))
        assert source.kind == "indexed_files"
        assert samples(source) == [
            {"image": PNG, "file_name": "2.jpg", "text": "caption 2"},
            {"image": JPEG, "file_name": "1.jpg", "text": "caption 1"},
        ]
        assert "no row names these files; left out: 1 .jpg (3.jpg)" in said(source)

    def test_names_without_extension_in_a_folder_of_the_tables_split(self, tmp_path: Path) -> None:
        files = {f"{split}_images/{n}.jpg": JPEG for split in ("train", "test") for n in ("a", "b")}
        source = only(fill(tmp_path, files | {"train.csv": "id_code,diagnosis\na,3\nb,0\n"}))
        assert dict(source.schema) == {"image": Image(), "id_code": Text(), "diagnosis": Scalar("int64")}
        assert source.key(0) == "train.csv line 2"
        assert "names the files in train_images/" in said(source)
        assert "2 .jpg (test_images/a.jpg, test_images/b.jpg)" in said(source)

    def test_tables_of_splits_are_splits(self, tmp_path: Path) -> None:
        files = {f"{split}/{n}.jpg": JPEG for split in ("train", "test") for n in (1, 2)}
        tables = {f"{split}.csv": f"path,y\n{split}/1.jpg,5\n{split}/2.jpg,6\n" for split in ("train", "test")}
        found = sources(fill(tmp_path, files | tables))
        assert {split: [sample["path"] for sample in samples(source)] for split, source in found.items()} == {
            "train": ["train/1.jpg", "train/2.jpg"],
            "test": ["test/1.jpg", "test/2.jpg"],
        }

    def test_a_row_without_its_file_fails_by_name(self, tmp_path: Path) -> None:
        files = {f"img/{n}.png": PNG for n in range(9)}
        rows = "file,y\n" + "".join(f"{n}.png,0\n" for n in range(10))
        found = dict(only(fill(tmp_path, files | {"list.csv": rows})).read(range(10)))
        error = found["list.csv line 11"]
        assert str(error) == "there is no file '9.png' in img/ - list.csv line 11"

    def test_a_column_called_image_keeps_its_names(self, tmp_path: Path) -> None:
        source = only(fill(tmp_path, {"a.jpg": JPEG, "b.jpg": PNG, "t.csv": "image,y\na.jpg,1\nb.jpg,2\n"}))
        assert samples(source)[1] == {"image": PNG, "file_name": "b.jpg", "y": 2}

    def test_sounds_with_a_transcript(self, tmp_path: Path) -> None:
        rows = "id,text\nLJ1,hello\nLJ2,world\n"
        source = only(fill(tmp_path, {"wavs/LJ1.wav": b"RIFF", "wavs/LJ2.wav": b"RIFF2", "metadata.csv": rows}))
        assert samples(source)[1] == {"audio": b"RIFF2", "id": "LJ2", "text": "world"}

    def test_names_never_lead_out_of_the_folder(self, tmp_path: Path) -> None:
        fill(tmp_path, {"secret.jpg": JPEG})
        rows = "file,y\na.jpg,1\nb.jpg,2\n../secret.jpg,3\n"
        found = samples(only(fill(tmp_path / "in", {"a.jpg": JPEG, "b.jpg": JPEG, "t.csv": rows})))
        assert "there is no file '../secret.jpg'" in str(found[2])

    def test_two_tables_that_name_the_same_files_are_refused(self, tmp_path: Path) -> None:
        root = fill(tmp_path, {"1.jpg": JPEG, "a.csv": "f,y\n1.jpg,1\n", "b.csv": "f,y\n1.jpg,2\n"})
        with pytest.raises(SourceError, match=r"several tables here name the files \('a.csv', 'b.csv'\)"):
            find_sources(root)
        assert samples(open_source(f"{root}/b.csv", "indexed_files"))[0]["y"] == 2

    def test_a_table_that_names_nothing_is_left_out(self, tmp_path: Path) -> None:
        source = only(fill(tmp_path, {"names.csv": "label,name\n0,felis\n1,canis\n"}) and classes(tmp_path))
        assert source.kind == "image_folder"
        assert "1 .csv (names.csv)" in said(source)


class TestPairedFolders:
    def test_masks_of_the_same_name_or_with_an_ending(self, tmp_path: Path) -> None:
        files = {f"images/{n}.jpg": JPEG for n in range(3)} | {f"masks/{n}_mask.png": GREY for n in range(2)}
        source = only(fill(tmp_path, files))
        assert source.kind == "paired_folders"
        assert dict(source.schema) == {"key": Text(), "image": Image(), "mask": Image("L", optional=True)}
        assert samples(source)[0] == {"key": "0", "image": JPEG, "mask": GREY}
        assert "1 picture without a mask" in said(source)

    def test_captions_in_a_folder_of_their_own(self, tmp_path: Path) -> None:
        source = only(fill(tmp_path, {"imgs/a.jpg": JPEG, "captions/a.txt": "a car", "captions/z.txt": "lost"}))
        assert samples(source) == [{"key": "a", "image": JPEG, "text": "a car"}]
        assert "left out: 1 .txt (captions/z.txt)" in said(source)

    def test_yolo_with_splits_and_names(self, tmp_path: Path) -> None:
        files = {f"images/{s}/{n}.jpg": JPEG for s in ("train", "val") for n in "ab"}
        labels = {"labels/train/a.txt": "1 .5 .5 .2 .1\n0 .1 .2 .3 .4\n", "labels/val/a.txt": "0 0 0 1 1\n",
                  "labels/val/b.txt": ""}  # fmt: skip
        found = sources(fill(tmp_path, files | labels | {"data.yaml": "nc: 2\nnames: ['cat', \"dog\"]\n"}))
        assert list(found) == ["train", "val"]
        first, second = samples(found["train"])
        assert first["boxes"].tolist() == [[0.5, 0.5, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]]
        assert first["labels"].tolist() == [1, 0]
        assert second["boxes"].shape == (0, 4)
        assert found["val"].metadata == {"classes": ["cat", "dog"]}
        assert "1 picture without a label file" in said(found["train"])

    def test_yolo_in_folders_of_splits(self, tmp_path: Path) -> None:
        files = {
            f"{s}/{d}": v
            for s in ("train", "valid")
            for d, v in (("images/a.jpg", JPEG), ("labels/a.txt", b"0 0 0 1 1"))
        }
        names = "names:\n  0: cat  # furry\n  1: 'dog'\n"
        found = sources(fill(tmp_path, files | {"data.yaml": names.encode()}))
        assert {split: source.metadata["classes"] for split, source in found.items()} == {
            "train": ["cat", "dog"],
            "valid": ["cat", "dog"],
        }

    def test_outlines_of_yolo_stay_lists(self, tmp_path: Path) -> None:
        root = fill(tmp_path, {"images/a.jpg": JPEG, "labels/a.txt": "3 .1 .2 .3 .4 .5 .6\n"})
        source = only(root)
        assert source.schema["polygons"] == Object()
        assert samples(source)[0]["polygons"] == [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]]
        assert "no data.yaml or classes.txt names the classes" in said(source)

    @pytest.mark.parametrize(
        ("label", "message"),
        [
            ("0 .1 .2 .3\n", "4 values"),
            ("cat 0 0 1 1\n", "no class and coordinates"),
            ("9 0 0 1 1", "class 9 has no name"),
        ],
    )
    def test_a_bad_label_of_yolo_is_named(self, tmp_path: Path, label: str, message: str) -> None:
        good = {
            f"{d}/{n}.{e}": v
            for n in range(70)
            for d, e, v in (("images", "jpg", JPEG), ("labels", "txt", b"0 0 0 1 1"))
        }
        source = only(fill(tmp_path, good | {"images/z.jpg": JPEG, "labels/z.txt": label, "classes.txt": "cat\n"}))
        error = samples(source)[70]
        assert message in error.fault
        assert error.place.file == "labels/z.txt"

    def test_voc_with_its_lists(self, tmp_path: Path) -> None:
        def xml(name: str) -> str:
            box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3.5</xmax><ymax>4</ymax></bndbox>"
            return f"<annotation><object><name>{name}</name>{box}<difficult>1</difficult></object></annotation>"

        files = {f"VOC2007/JPEGImages/{n}.jpg": JPEG for n in "abc"}
        names = {"a": "dog", "b": "cat", "c": "dog"}
        files |= {f"VOC2007/Annotations/{n}.xml": xml(name).encode() for n, name in names.items()}
        lists = {"VOC2007/ImageSets/Main/train.txt": b"a\nb\n", "VOC2007/ImageSets/Main/val.txt": b"c\n"}
        found = sources(fill(tmp_path, files | lists))
        assert {split: len(source) for split, source in found.items()} == {"train": 2, "val": 1}
        sample = samples(found["val"])[0]
        assert found["val"].metadata == {"classes": ["cat", "dog"]}
        assert (sample["boxes"].tolist(), sample["labels"].tolist()) == ([[1, 2, 3.5, 4]], [1])
        assert sample["annotation"]["object"][0]["difficult"] == "1"

    @pytest.mark.parametrize(
        "bad",
        ["<a", "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", "<a>" * 5000 + "</a>" * 5000,
         "<annotation><object><name>cat</name></object></annotation>"],
    )  # fmt: skip
    def test_hostile_xml_fails_its_sample(self, tmp_path: Path, bad: str) -> None:
        files = {
            "JPEGImages/a.jpg": JPEG,
            "Annotations/a.xml": bad.encode(),
            "JPEGImages/b.jpg": JPEG,
            "Annotations/b.xml": b"<a/>",
        }
        first, second = samples(only(fill(tmp_path, files)))
        assert isinstance(first, SourceError)
        assert len(second["labels"]) == 0


def coco(names: list[str], **more: object) -> str:
    images = [{"id": 7 + n, "file_name": name, "width": 6} for n, name in enumerate(names)]
    found = [{"id": 1, "image_id": 7, "category_id": 18, "bbox": [1, 2, 3, 4], "area": 12.5}]
    return json.dumps(
        {"info": {}, "images": images, "annotations": found, "categories": [{"id": 18, "name": "dog"}]} | more
    )


class TestCoco:
    def test_splits_boxes_and_what_is_left(self, tmp_path: Path) -> None:
        files = {"train2017/1.jpg": JPEG, "train2017/2.jpg": JPEG, "val2017/3.jpg": PNG, "test2017/4.jpg": JPEG}
        tables = {
            "annotations/instances_train2017.json": coco(["1.jpg", "2.jpg"]),
            "annotations/instances_val2017.json": coco(["3.jpg"]),
            "annotations/captions_val2017.json": coco(["3.jpg"]),
        }
        found = sources(fill(tmp_path, files | tables))
        assert list(found) == ["train", "val"]
        first, second = samples(found["train"])
        assert first["boxes"].tolist() == [[1, 2, 3, 4]]
        assert (first["labels"].tolist(), first["image_id"], first["annotations"]) == (
            [0],
            7,
            [{"id": 1, "area": 12.5}],
        )
        assert second["boxes"].shape == (0, 4)
        assert found["train"].metadata == {"classes": ["dog"], "category_ids": [18]}
        assert "captions_val2017.json" in said(found["val"])
        assert "width" in said(found["train"])
        assert "test2017/4.jpg" in said(found["train"])

    def test_a_missing_picture_fails_by_name(self, tmp_path: Path) -> None:
        source = only(fill(tmp_path, {"images/1.jpg": JPEG, "coco.json": coco(["1.jpg", "../../etc/passwd"])}))
        good, bad = samples(source)
        assert good["file_name"] == "1.jpg"
        assert "there is no file '../../etc/passwd' in images/" in str(bad)

    @pytest.mark.parametrize(
        "more",
        [{"images": [{"id": 1}]}, {"annotations": [{"id": 1}]}, {"categories": [{"id": 1}]}, {"images": 3},
         {"images": [{"id": "x", "file_name": "1.jpg"}]}],
    )  # fmt: skip
    def test_half_of_a_file_is_refused(self, tmp_path: Path, more: dict[str, object]) -> None:
        with pytest.raises(SourceError, match="not COCO"):
            only(fill(tmp_path, {"images/1.jpg": JPEG, "coco.json": coco(["1.jpg"], **more)}))

    def test_captions_have_no_boxes(self, tmp_path: Path) -> None:
        captions = [{"id": 1, "image_id": 7, "caption": "a dog"}]
        source = only(fill(tmp_path, {"1.jpg": JPEG, "c.json": coco(["1.jpg"], annotations=captions, categories=[])}))
        assert samples(source)[0]["annotations"] == [{"id": 1, "caption": "a dog"}]
        assert "boxes" not in source.schema.fields


class TestFileGroups:
    def test_second_extensions_come_together(self, tmp_path: Path) -> None:
        source = only(fill(tmp_path, {"a.jpg": JPEG, "a.seg.png": PNG, "b.jpg": JPEG, "b.seg.png": PNG}))
        assert samples(source)[1] == {"key": "b", "image": JPEG, "seg.png": PNG}
        assert source.schema["seg.png"] == Image()
        assert "cut at the first dot" in said(source)

    def test_two_views_without_a_common_file_are_told(self, tmp_path: Path) -> None:
        source = only(fill(tmp_path, {"1.left.png": PNG, "1.right.png": PNG}))
        assert len(source) == 2
        assert "names are cut at the last dot: '1.left.png' belongs to '1.left'" in said(source)

    @pytest.mark.parametrize(
        "names", [["2020.01.02.jpg", "2020.01.03.jpg"], ["v1.0-a.jpg", "v1.0-b.jpg"], ["mr.a.jpg", "b.jpg"]]
    )
    def test_other_dots_stay_in_the_key(self, tmp_path: Path, names: list[str]) -> None:
        found = samples(only(fill(tmp_path, dict.fromkeys(names, JPEG))))
        assert sorted(sample["key"] for sample in found) == sorted(name[:-4] for name in names)

    def test_compressed_files_have_both_extensions(self, tmp_path: Path) -> None:
        source = only(fill(tmp_path, {"a.nii.gz": b"1", "a.json": "{}", "b.nii.gz": b"2", "b.json": "{}"}))
        assert samples(source)[1] == {"key": "b", "json": {}, "nii.gz": b"2"}
        assert "kept as bytes, not understood: 'nii.gz'" in said(source)

    def test_flat_pictures_leave_others_out_by_name(self, tmp_path: Path) -> None:
        files = dict.fromkeys(["1.jpg", "2.jpg"], JPEG) | dict.fromkeys(["Thumbs.db", "a.docx"], b"x")
        source = only(fill(tmp_path, files))
        assert dict(source.schema) == {"key": Text(), "image": Image()}
        assert "1 .db (Thumbs.db)" in said(source)
        assert "1 .docx (a.docx)" in said(source)
        assert set(only(str(tmp_path), "file_groups").schema) == {"key", "image", "docx", "db"}

    def test_texts_may_begin_with_a_mark(self, tmp_path: Path) -> None:
        files = {
            "1.txt": b"\xef\xbb\xbfcar",
            "1.json": b'\xef\xbb\xbf{"a": 1}',
            "1.cls": b"\xef\xbb\xbf3",
            "2.txt": "über".encode("utf-16"),
        }
        first, second = samples(only(fill(tmp_path, files)))
        assert (first["text"], first["json"], first["label"]) == ("car", {"a": 1}, 3)
        assert second["text"] == "über"


class TestRefused:
    @pytest.mark.parametrize(
        ("files", "message"),
        [
            (["a.xyz", "b.xyz"], r"no rule explains the files here: 2 .xyz \(a.xyz, b.xyz\); --kind file_groups"),
            (["a.orc"], "an ORC table; read it with pandas or pyarrow"),
            (["0.zip", "1.zip"], "a zip archive; give its path: it is read as the folder in it"),
            (["a.beton"], "an FFCV file; read it with its own library"),
            (["a.jpg", *(f"{n}.dcm" for n in range(5))], "taken for 'file_groups', 5 of 6 files would be left out"),
        ],
    )
    def test_what_is_not_understood_is_never_bytes(self, tmp_path: Path, files: list[str], message: str) -> None:
        root = fill(tmp_path, dict.fromkeys(files, JPEG))
        with pytest.raises(SourceError, match=message):
            find_sources(root)
        assert len(only(root, "file_groups")) == len(files)

    @pytest.mark.parametrize(
        ("name", "data", "message"),
        [
            ("x.zip", b"PK\3\4", "not a readable zip archive"),
            ("x", b"PK\3\4", "a zip archive, which is not read by itself: give its path"),
            ("x", b"PAR1", "a Parquet table"),
            ("x.csvx", b"SQLite format 3\0", "an SQLite database"),
            ("x.json", b"[]", "save it as JSON Lines"),
            ("x.text", b"hi", "a text"),
            ("x.jpg", JPEG, "this is one picture; give the folder"),
            ("x.pkl", b"\x80\x04.", "could run any program"),
            ("x.what", b"?", r"not recognised; files that are read: \.csv"),
        ],
    )
    def test_a_file_is_refused_by_what_it_is(self, tmp_path: Path, name: str, data: bytes, message: str) -> None:
        with pytest.raises(SourceError, match=message):
            find_sources(fill(tmp_path, {name: data}) + "/" + name)

    def test_a_dataset_of_ours_is_told_so(self, tmp_path: Path) -> None:
        import recordio

        for split in ("train", "test"):
            with recordio.DatasetWriter(tmp_path / "ds" / split) as writer:
                writer.write({"x": np.arange(3)})
        for path in (tmp_path / "ds/train", tmp_path / "ds"):
            with pytest.raises(SourceError, match=r"a recordio dataset already; open it with recordio\.ShardDataset"):
                find_sources(path)

    def test_a_manifest_of_something_else_is_no_dataset(self, tmp_path: Path) -> None:
        fill(tmp_path, {"manifest.json": "{}"})
        assert only(classes(tmp_path)).kind == "image_folder"

    def test_arrays_unify_by_field(self, tmp_path: Path) -> None:
        for n in range(2):
            np.save(tmp_path / f"{n}.feat.npy", np.zeros(3 + n, "f4"))
            fill(tmp_path, {f"{n}.txt": "x"})
        assert only(str(tmp_path)).schema["feat.npy"] == Array("float32", (None,))


def test_masks_beside_their_pictures_are_a_field(tmp_path: Path) -> None:
    files = {f"{n}.jpg": JPEG for n in range(3)} | {f"{n}_mask.png": GREY for n in range(3)}
    source = only(fill(tmp_path, files))
    assert dict(source.schema) == {"key": Text(), "image": Image(), "mask": Image("L")}
    assert samples(source)[2] == {"key": "2", "image": JPEG, "mask": GREY}
    assert "'mask' of those without" in said(source)
    assert (source.file(2, "mask"), source.file(2, "image")) == ("2_mask.png", "2.jpg")


def test_pictures_that_end_alike_are_no_masks_without_others(tmp_path: Path) -> None:
    source = only(fill(tmp_path, dict.fromkeys(["a_mask.png", "b_mask.png", "c.jpg"], GREY)))
    assert sorted(sample["key"] for sample in samples(source)) == ["a_mask", "b_mask", "c"]


def test_masks_in_colour_are_told(tmp_path: Path) -> None:
    source = only(fill(tmp_path, {"images/1.jpg": JPEG, "masks/1.png": PNG}))
    assert source.schema["mask"] == Image()
    assert "'mask' holds colours" in said(source)
