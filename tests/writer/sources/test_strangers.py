"""Folders of strangers that once came out wrong without a word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recordio import SchemaError, SourceError, convert
from recordio.writer.sources import SourceOptions, TableOptions, find_sources, open_source
from tests.writer.sources.test_folders import fill, samples
from tests.writer.sources.test_layouts import GREY, JPEG, PNG, coco, only, said, sources


class TestTables:
    def test_many_names_without_extension(self, tmp_path: Path) -> None:
        rows = "id,breed\n" + "".join(f"{n:06x},{n % 3}\n" for n in range(800))
        source = only(fill(tmp_path, {f"train/{n:06x}.jpg": JPEG for n in range(800)} | {"labels.csv": rows}))
        assert (source.kind, len(source)) == ("indexed_files", 800)
        assert samples(source)[700] == {"image": JPEG, "id": f"{700:06x}", "breed": 700 % 3}

    def test_masks_are_not_taken_for_the_pictures(self, tmp_path: Path) -> None:
        files = {f"images/{n}a.png": PNG for n in range(3)} | {f"masks/{n}a.png": GREY for n in range(3)}
        rows = "id,depth\n" + "".join(f"{n}a,{n}\n" for n in range(3))
        root = fill(tmp_path, files | {"train.csv": rows})
        assert samples(only(root))[0]["image"] == PNG

    def test_two_folders_with_the_same_names_are_refused(self, tmp_path: Path) -> None:
        files = {f"{split}/{n}.jpg": JPEG for split in ("one", "two") for n in range(3)}
        root = fill(tmp_path, files | {"labels.csv": "f,y\n0.jpg,1\n1.jpg,2\n2.jpg,3\n"})
        with pytest.raises(SourceError, match=r"fit the files of one/ and two/.*--root"):
            find_sources(root)
        options = SourceOptions(root=f"{root}/two")
        assert samples(open_source(f"{root}/labels.csv", "indexed_files", options))[1]["y"] == 2

    def test_a_second_column_of_files_is_taken_in(self, tmp_path: Path) -> None:
        files = {f"images/{n}.png": PNG for n in range(3)} | {f"masks/{n}.png": GREY for n in range(3)}
        rows = "mask,picture,y\n" + "".join(f"masks/{n}.png,images/{n}.png,{n}\n" for n in range(3))
        source = open_source(fill(tmp_path, files | {"pairs.csv": rows}) + "/pairs.csv", "indexed_files")
        assert samples(source)[1] == {"image": PNG, "mask": GREY, "picture": "images/1.png", "y": 1}
        assert "no row names" not in said(source)

    def test_a_table_that_names_few_leaves_the_class_folders(self, tmp_path: Path) -> None:
        files = {f"{name}/{n}.jpg": JPEG for name in ("cat", "dog") for n in range(20)}
        source = only(fill(tmp_path, files | {"bad.csv": "file,why\ncat/1.jpg,blurred\ncat/2.jpg,dark\n"}))
        assert (source.kind, len(source)) == ("image_folder", 40)
        assert "1 .csv (bad.csv)" in said(source)

    def test_a_first_row_that_names_a_file_is_no_header(self, tmp_path: Path) -> None:
        source = only(fill(tmp_path, {"a.jpg": JPEG, "b.jpg": PNG, "t.csv": "a.jpg,c1\nb.jpg,c0\n"}))
        assert [sample["image"] for sample in samples(source)] == [JPEG, PNG]
        assert "the first line names a file, and is a row" in said(source)

    def test_how_a_table_is_read_reaches_the_table_beside_pictures(self, tmp_path: Path) -> None:
        root = fill(tmp_path, {"a.jpg": JPEG, "t.csv": "file,word\na.jpg,café\n".encode("cp1252")})
        options = SourceOptions(table=TableOptions(encoding="cp1252"))
        (spec,) = find_sources(root, None, options).values()
        assert samples(open_source(spec.path, spec.kind, spec.options)) == [
            {"image": JPEG, "file": "a.jpg", "word": "café"}
        ]

    def test_metadata_that_cannot_be_read_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"metadata\.jsonl"):
            find_sources(fill(tmp_path, {"a/1.jpg": JPEG, "metadata.jsonl": '[{"file_name": "a/1.jpg"}]'}))

    def test_names_with_the_slashes_of_windows(self, tmp_path: Path) -> None:
        assert len(only(fill(tmp_path, {"img/x/1.jpg": JPEG, "t.csv": "file,y\nimg\\x\\1.jpg,1\n"}))) == 1

    def test_two_files_of_one_name_are_told_apart(self, tmp_path: Path) -> None:
        files = {f"{folder}/{n}.jpg": JPEG for folder in ("x", "y") for n in (1, 2)} | {"x/3.jpg": PNG, "x/4.jpg": PNG}
        rows = "file,y\nx/1.jpg,1\ny/1.jpg,1\nx/3.jpg,1\nx/4.jpg,1\nx/2.jpg,1\n2.jpg,1\n"
        found = samples(open_source(fill(tmp_path, files | {"t.csv": rows}) + "/t.csv", "indexed_files"))
        assert "several files called '2.jpg'" in str(found[5])

    def test_another_column_called_image_keeps_its_values(self, tmp_path: Path) -> None:
        source = only(fill(tmp_path, {"a.jpg": JPEG, "t.csv": "file,image\na.jpg,100\n"}))
        assert samples(source) == [{"image": JPEG, "file": "a.jpg", "file_name": 100}]
        assert "the column 'image' is the field 'file_name'" in said(source)


class TestFolders:
    def test_data_named_like_a_document_is_data(self, tmp_path: Path) -> None:
        names = ["car", "license_plate", "notice_board"]
        source = only(fill(tmp_path, {f"{name}/{name}_{n}.jpg": JPEG for name in names for n in range(2)}))
        assert (source.metadata, len(source)) == ({"classes": names}, 6)

    def test_a_stray_file_beside_the_only_folder(self, tmp_path: Path) -> None:
        files = {f"data/{split}/{name}/0.jpg": JPEG for split in ("train", "test") for name in "ab"}
        found = sources(fill(tmp_path, files | {"requirements.txt": "torch"}))
        assert list(found) == ["train", "test"]
        assert "requirements.txt" in said(found["train"])

    @pytest.mark.parametrize(
        "names",
        [["images", "masks", "depth"], ["train", "train_masks"], ["leftImg8bit", "gtFine"], ["images", "annotations"]],
    )
    def test_folders_that_say_what_is_in_them_are_no_classes(self, tmp_path: Path, names: list[str]) -> None:
        files = {f"{name}/{name}{n}.png": GREY for name in names for n in range(3)}
        assert {source.kind for source in sources(fill(tmp_path, files)).values()} == {"file_groups"}

    def test_masks_beside_pictures_in_class_folders_are_no_samples(self, tmp_path: Path) -> None:
        files = {
            f"{name}/{name} ({n}){end}.png": GREY
            for name in ("benign", "normal")
            for n in range(2)
            for end in ("", "_mask")
        }
        source = only(fill(tmp_path, files))
        assert (source.kind, len(source)) == ("file_groups", 4)
        assert set(source.schema) == {"key", "image", "mask"}

    def test_a_split_without_classes_gives_no_class_to_the_others(self, tmp_path: Path) -> None:
        files = {f"train/{name}/images/0.jpg": JPEG for name in ("n01", "n02")} | {"val/images/0.jpg": JPEG}
        found = sources(fill(tmp_path, files))
        assert found["train"].metadata == {"classes": ["n01", "n02"]}
        assert found["val"].kind == "file_groups"

    def test_most_pictures_are_never_left_beside_splits(self, tmp_path: Path) -> None:
        files = {f"{split}/a/0.jpg": JPEG for split in ("train", "val")} | {
            f"holdout/a/{n}.jpg": JPEG for n in range(9)
        }
        with pytest.raises(SourceError, match=r"most files would be left out: 9 \.jpg"):
            find_sources(fill(tmp_path, files))

    def test_classes_named_like_splits_beside_another(self, tmp_path: Path) -> None:
        source = only(fill(tmp_path, {f"{name}/{n}.jpg": JPEG for name in ("bus", "test", "train") for n in range(2)}))
        assert source.metadata == {"classes": ["bus", "test", "train"]}

    def test_texts_with_a_stray_picture(self, tmp_path: Path) -> None:
        files = {f"{name}/{n}.txt": b"x" for name in ("neg", "pos") for n in range(3)}
        source = only(fill(tmp_path, files | {"pos/cover.jpg": JPEG}))
        assert (source.kind, len(source)) == ("text_folder", 6)

    @pytest.mark.parametrize("kind", ["cifar10", "cifar100"])
    def test_a_kind_that_does_not_fit_is_refused(self, tmp_path: Path, kind: str) -> None:
        with pytest.raises(SourceError, match="is a folder, or an archive"):
            find_sources(fill(tmp_path, {"a.csv": "x\n1\n"}) + "/a.csv", kind)

    def test_a_kind_can_be_forced_where_another_cannot_decide(self, tmp_path: Path) -> None:
        files = {"x/1.jpg": JPEG, "y/2.jpg": JPEG, "a.csv": "f\nx/1.jpg\ny/2.jpg\n", "b.csv": "f\nx/1.jpg\ny/2.jpg\n"}
        root = fill(tmp_path, files)
        with pytest.raises(SourceError, match="several tables"):
            find_sources(root)
        assert only(root, "image_folder").metadata == {"classes": ["x", "y"]}


class TestBoxes:
    def test_labels_of_yolo_and_voc_are_not_mixed(self, tmp_path: Path) -> None:
        files = {"images/0.jpg": JPEG, "labels/0.txt": "0 0 0 1 1", "annotations/0.xml": "<annotation></annotation>"}
        with pytest.raises(SourceError, match="of YOLO and of Pascal VOC"):
            find_sources(fill(tmp_path, files))

    def test_boxes_and_pixels_are_moved_together_or_not_at_all(self, tmp_path: Path) -> None:
        root = fill(tmp_path / "in", {"1.jpg": JPEG, "c.json": coco(["1.jpg"])})
        for option in ({"resize": 4}, {"quality": 80}, {"upright": True}):
            with pytest.raises(SchemaError, match="leave the boxes where they are"):
                convert(root, tmp_path / "out", **option)  # type: ignore[arg-type]

    def test_pictures_in_no_list_are_told(self, tmp_path: Path) -> None:
        files = {f"JPEGImages/{n}.jpg": JPEG for n in range(4)} | {f"Annotations/{n}.xml": b"<a/>" for n in range(4)}
        lists = {"ImageSets/Main/train.txt": b"0\n1\n77\n", "ImageSets/Main/val.txt": b"2\n"}
        found = sources(fill(tmp_path, files | lists))
        assert "JPEGImages/3.jpg" in said(found["train"])
        assert "not there, though listed: 1 picture (77)" in said(found["train"])

    def test_what_lies_beside_is_told(self, tmp_path: Path) -> None:
        files = {"images/0.jpg": JPEG, "masks/0.png": GREY, "1st_manual/0.gif": GREY, "meta.json": b"{}"}
        source = only(fill(tmp_path, files))
        assert "1 .gif (1st_manual/0.gif), 1 .json (meta.json)" in said(source)

    def test_splits_with_years(self, tmp_path: Path) -> None:
        files = {f"images/{split}2017/0.jpg": JPEG for split in ("train", "val")}
        files |= {f"labels/{split}2017/0.txt": b"0 0 0 1 1" for split in ("train", "val")}
        assert list(sources(fill(tmp_path, files))) == ["train", "val"]

    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("names: [\n 'a',\n \"b, c\",\n d\n]\n", ["a", "b, c", "d"]),
            ("names: ['', 'cat', 'dog']", ["", "cat", "dog"]),
            ("names:\n  '0': a\n  '1': b\n", ["a", "b"]),
            ("nc: 2\nnames:\n- a # first\n- 'b'\nval: x", ["a", "b"]),
            ("names: {0: a, 1: b}", ["a", "b"]),
        ],
    )
    def test_names_in_yaml(self, tmp_path: Path, text: str, names: list[str]) -> None:
        source = only(fill(tmp_path, {"images/0.jpg": JPEG, "labels/0.txt": "1 0 0 1 1", "data.yaml": text}))
        assert source.metadata == {"classes": names}

    def test_names_that_are_no_names_are_looked_for_elsewhere(self, tmp_path: Path) -> None:
        files = {"images/0.jpg": JPEG, "labels/0.txt": "1 0 0 1 1", "data.yaml": "names: coco.names"}
        with pytest.raises(SourceError, match=r"write one a line to classes\.txt"):
            only(fill(tmp_path, files))
        assert only(fill(tmp_path, {"classes.txt": "a\n\nc\n"})).metadata == {"classes": ["a", "", "c"]}

    @pytest.mark.parametrize("label", [f"{1 << 64} 0 0 1 1", "0 nan 0 1 1", "0 0 0 1 1 .9"])
    def test_impossible_labels_fail_their_sample(self, tmp_path: Path, label: str) -> None:
        good = {f"images/{n}.jpg": JPEG for n in range(3)} | {f"labels/{n}.txt": b"0 0 0 1 1" for n in range(2)}
        assert isinstance(samples(only(fill(tmp_path, good | {"labels/2.txt": label}), "yolo"))[2], SourceError)

    def test_ids_of_coco_are_integers_and_unlike(self, tmp_path: Path) -> None:
        for number, ids in enumerate([(7, 7), (1.2, 1.4), ("a", "b")]):
            images = [{"id": name, "file_name": f"{n}.jpg"} for n, name in enumerate(ids)]
            files = {"0.jpg": JPEG, "1.jpg": JPEG, "c.json": coco([], images=images)}
            with pytest.raises(SourceError, match=r"two images have one id|not an integer"):
                only(fill(tmp_path / str(number), files))

    def test_one_annotation_without_box_fails_its_sample_alone(self, tmp_path: Path) -> None:
        found = [{"id": 1, "image_id": 7, "category_id": 18, "bbox": [1, 2, 3, 4]}, {"id": 2, "image_id": 8}]
        good, bad = samples(
            only(fill(tmp_path, {"0.jpg": JPEG, "1.jpg": JPEG, "c.json": coco(["0.jpg", "1.jpg"], annotations=found)}))
        )
        assert good["boxes"].tolist() == [[1, 2, 3, 4]]
        assert isinstance(bad, SourceError)

    def test_a_file_of_coco_is_known_by_its_content(self, tmp_path: Path) -> None:
        root = fill(tmp_path, {"0.jpg": JPEG, "a.json": coco(["0.jpg"]), "b.json": json.dumps([1])})
        assert next(iter(find_sources(f"{root}/a.json").values())).kind == "coco"
        with pytest.raises(SourceError, match="JSON Lines"):
            find_sources(f"{root}/b.json")


@pytest.mark.parametrize("cell", ["9007199254740993.0", "12345678901234567.25", "1e-400"])
def test_numbers_that_a_float_rounds_stay_text(tmp_path: Path, cell: str) -> None:
    source = open_source(fill(tmp_path, {"t.csv": f"x,y\n{cell},1\n0.5,2\n"}) + "/t.csv")
    assert samples(source)[0]["x"] == cell
