"""Folders of files: their samples, their order, and refused input."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from recordio import Array, Bytes, Image, Object, Scalar, SourceError, Text
from recordio.writer.sources import Source, SourceOptions, detect, open_source, splits


def picture(shade: int = 0, form: str = "JPEG") -> bytes:
    out = BytesIO()
    Pillow.new("RGB", (6, 4), (shade, shade, shade)).save(out, form)
    return out.getvalue()


def fill(root: Path, files: Mapping[str, bytes | str]) -> str:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(root)


def samples(source: Source) -> list[Any]:
    return [item for _, item in source.read(range(len(source)))]


def keys(source: Source) -> list[str]:
    return [source.key(index) for index in range(len(source))]


def classes_of(root: Path) -> str:
    return fill(root, {"dog/b.png": picture(1, "PNG"), "dog/a.jpg": picture(2), "cat/x.jpeg": picture(3)})


class TestImageFolder:
    def test_labels_index_the_sorted_class_names(self, tmp_path: Path) -> None:
        source = open_source(classes_of(tmp_path))
        assert source.kind == "image_folder"
        assert source.metadata == {"classes": ["cat", "dog"]}
        assert dict(source.schema) == {"image": Image(), "label": Scalar("int64")}
        assert keys(source) == ["cat/x.jpeg", "dog/a.jpg", "dog/b.png"]
        assert samples(source) == [
            {"image": picture(3), "label": 0},
            {"image": picture(2), "label": 1},
            {"image": picture(1, "PNG"), "label": 1},
        ]

    def test_samples_are_sorted_by_path_bytes(self, tmp_path: Path) -> None:
        names = ["a/b.jpg", "a/b/c.jpg", "a/b-c.jpg", "a/B.jpg", "a/é.jpg", "a/z.jpg", "a-a/x.jpg"]
        source = open_source(fill(tmp_path, dict.fromkeys(names, picture())), "image_folder")
        assert keys(source) == sorted(names, key=os.fsencode)

    def test_pickled_source_reads_samples_by_number(self, tmp_path: Path) -> None:
        source = pickle.loads(pickle.dumps(open_source(classes_of(tmp_path))))
        ((key, sample),) = source.read([2])
        assert (key, sample["label"]) == ("dog/b.png", 1)

    def test_nbytes_estimates_sample_sizes(self, tmp_path: Path) -> None:
        source = open_source(classes_of(tmp_path))
        assert source.nbytes().tolist() == [len(picture(3)) + 8, len(picture(2)) + 8, len(picture(1, "PNG")) + 8]

    def test_other_files_in_an_image_folder_add_a_note(self, tmp_path: Path) -> None:
        fill(tmp_path, {"cat/notes.txt": "x", "notes.md": "y", "cat/.hidden.jpg": "z"})
        source = open_source(classes_of(tmp_path), "image_folder")
        assert len(source) == 3
        assert source.notes == ("left out: 1 .txt (cat/notes.txt)",)  # notes.md is clutter

    def test_pictures_of_all_formats_are_samples_and_their_bytes_are_handed_on(self, tmp_path: Path) -> None:
        fill(tmp_path, {"cat/scan.tiff": b"II*\0", "cat/none.JFIF": b""})
        found = dict(open_source(classes_of(tmp_path)).read(range(5)))
        assert found["cat/scan.tiff"] == {"image": b"II*\0", "label": 0}
        assert found["cat/none.JFIF"] == {"image": b"", "label": 0}

    def test_empty_class_folder_is_refused_by_name(self, tmp_path: Path) -> None:
        (tmp_path / "emu").mkdir()
        with pytest.raises(SourceError, match=r"1 class folders have no images \('emu'\)"):
            open_source(classes_of(tmp_path), "image_folder")

    def test_folder_without_images_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="no images"):
            open_source(fill(tmp_path, {"a/x.txt": "x"}), "image_folder")

    def test_vanished_or_grown_file_fails_its_sample(self, tmp_path: Path) -> None:
        source = open_source(classes_of(tmp_path))
        (tmp_path / "cat/x.jpeg").unlink()
        (tmp_path / "dog/a.jpg").write_bytes(picture() * 2)
        first, second, third = samples(source)
        assert isinstance(first, SourceError)
        assert "No such file" in str(first)
        assert "changed while it was converted" in str(second)
        assert third["label"] == 1

    def test_irregular_image_file_fails_its_sample(self, tmp_path: Path) -> None:
        root = classes_of(tmp_path)
        os.mkfifo(tmp_path / "cat/pipe.jpg")
        (tmp_path / "cat/gone.jpg").symlink_to("/annex/x.jpg")
        (tmp_path / "cat/circle.jpg").symlink_to("circle.jpg")
        found = dict(open_source(root).read(range(6)))
        assert str(found["cat/pipe.jpg"]) == "not a regular file - cat/pipe.jpg"
        assert "leads to no file that can be read: '/annex/x.jpg' - cat/gone.jpg" in str(found["cat/gone.jpg"])
        assert isinstance(found["cat/circle.jpg"], SourceError)
        assert found["cat/x.jpeg"] == {"image": picture(3), "label": 0}

    def test_other_irregular_entries_add_a_note(self, tmp_path: Path) -> None:
        root = classes_of(tmp_path)
        os.mkfifo(tmp_path / "cat/pipe")
        (tmp_path / "notes.md").symlink_to("gone.md")
        (tmp_path / "dog/a.txt").write_text("x")
        assert open_source(root, "image_folder").notes == (
            "left out: 1 without extension (cat/pipe), 1 .txt (dog/a.txt)",
        )

    def test_dangling_link_to_a_class_folder_is_refused(self, tmp_path: Path) -> None:
        root = classes_of(tmp_path)
        (tmp_path / "bird").symlink_to("/mnt/birds")
        with pytest.raises(SourceError, match=r"leads nowhere, and may stand for a class; .*/bird"):
            open_source(root)

    def test_links_are_followed_without_loops(self, tmp_path: Path) -> None:
        root = classes_of(tmp_path / "in")
        fill(tmp_path / "out", {"y.jpg": picture(9)})
        (tmp_path / "in/cat/link.jpg").symlink_to(tmp_path / "out/y.jpg")
        (tmp_path / "in/cat/up").symlink_to(tmp_path / "in")
        (tmp_path / "in/cat/more").symlink_to(tmp_path / "out")
        assert keys(open_source(root))[:3] == ["cat/link.jpg", "cat/more/y.jpg", "cat/x.jpeg"]

    def test_non_utf8_names_are_escaped(self, tmp_path: Path) -> None:
        root = classes_of(tmp_path)
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/cat/\xff.jpg"))).write_bytes(picture())
        assert "cat/\\xff.jpg" in keys(open_source(root))

    def test_non_utf8_class_name_is_refused(self, tmp_path: Path) -> None:
        root = classes_of(tmp_path)
        os.mkdir(os.fsencode(tmp_path) + b"/\xff")
        with pytest.raises(SourceError, match="not UTF-8"):
            open_source(root, "image_folder")


class TestFileGroups:
    def test_files_with_one_stem_are_one_sample(self, tmp_path: Path) -> None:
        array = BytesIO()
        np.save(array, np.arange(3, dtype="i4"))
        files: dict[str, bytes | str] = {
            "d/a.jpg": picture(1), "d/a.json": '{"x": [1, {"y": null}]}', "d/a.txt": "hällo", "d/a.cls": " 7\n",
            "d/a.npy": array.getvalue(), "d/a.pdf": b"\0\1",
        }  # fmt: skip
        source = open_source(fill(tmp_path, files))
        assert source.kind == "file_groups"
        assert dict(source.schema) == {
            "key": Text(), "image": Image(), "json": Object(), "label": Scalar("int64"), "pdf": Bytes(),
            "npy": Array("int32", (3,)), "text": Text(),
        }  # fmt: skip
        (sample,) = samples(source)
        assert sample.pop("npy").tolist() == [0, 1, 2]
        assert sample == {
            "key": "d/a", "image": picture(1), "json": json.loads(str(files["d/a.json"])), "text": "hällo", "label": 7,
            "pdf": b"\0\1",
        }  # fmt: skip

    def test_field_missing_from_some_groups_is_optional(self, tmp_path: Path) -> None:
        source = open_source(fill(tmp_path, {"a.jpg": picture(), "b.jpg": picture(), "b.txt": "x"}))
        assert source.schema["text"] == Text(optional=True)
        assert [sorted(sample) for sample in samples(source)] == [["image", "key"], ["image", "key", "text"]]

    def test_dot_in_a_stem_does_not_split_the_group(self, tmp_path: Path) -> None:
        source = open_source(fill(tmp_path, {"a.1.txt": "x", "a.txt": "y", "a.cls": "1", "a.1.cls": "2"}))
        assert [(s["key"], s["text"], s["label"]) for s in samples(source)] == [("a", "y", 1), ("a.1", "x", 2)]

    def test_npy_field_unifies_dtypes_and_frees_differing_dimensions(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.zeros((2, 3), "f4"))
        np.save(tmp_path / "b.npy", np.zeros((2, 5), "f8"))
        source = open_source(str(tmp_path))
        assert source.schema["npy"] == Array("float64", (2, None))
        assert {sample["npy"].dtype for sample in samples(source)} == {np.dtype("f8")}

    def test_npy_files_of_different_ranks_are_refused(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.zeros(2))
        np.save(tmp_path / "b.npy", np.zeros((2, 5)))
        with pytest.raises(SourceError, match="1 and 2 dimensions"):
            open_source(str(tmp_path))

    @pytest.mark.parametrize(
        ("name", "data", "message"),
        [
            ("b.json", "{", "the JSON cannot be read"),
            ("b.json", '{"a": 1e400}', "1e400 is too large for a float64"),
            ("b.json", '{"a": 1, "a": 2}', "the key 'a' stands twice"),
            ("b.json", "[" * 9999 + "]" * 9999, "nested deeper than 512"),
            ("b.json", "[" * 513 + "]" * 513, "nested deeper than 512"),
            ("b.cls", "cat", "one integer"),
            ("b.cls", "9" * 30, "one integer"),
            ("b.txt", b"\xff", "not UTF-8"),
            ("b.npy", b"junk", "not a NumPy array"),
        ],
    )
    def test_bad_file_in_a_group_is_named(self, tmp_path: Path, name: str, data: bytes | str, message: str) -> None:
        np.save(tmp_path / "a.npy", np.zeros(2))
        good, bad = samples(open_source(fill(tmp_path, {"a.txt": "x", name: data})))
        assert good["key"] == "a"
        assert message in bad.fault
        assert bad.place.file == name

    def test_two_files_for_one_field_fail_their_sample(self, tmp_path: Path) -> None:
        files = {"a.jpg": picture(), "a.png": picture(0, "PNG"), "b.jpg": picture()}
        bad, good = samples(open_source(fill(tmp_path, files)))
        assert "two files for the field 'image'" in str(bad)
        assert good["key"] == "b"

    def test_irregular_file_fails_its_sample(self, tmp_path: Path) -> None:
        root = fill(tmp_path, dict.fromkeys(["a.txt", "a.mp3", "b.txt", "c.txt"], "x"))
        np.save(tmp_path / "a.npy", np.zeros(2))
        (tmp_path / "b.mp3").symlink_to("/annex/b.mp3")
        (tmp_path / "c.npy").symlink_to("/annex/c.npy")
        os.mkfifo(tmp_path / "d.txt")
        source = open_source(root)
        assert source.kind == "file_groups"
        assert source.nbytes().min() > 0
        found = dict(source.read(range(4)))
        assert found["a.mp3"]["audio"] == b"x"
        assert {key: error.place.file for key, error in found.items() if isinstance(error, SourceError)} == {
            "b.mp3": "b.mp3", "c.npy": "c.npy", "d.txt": "d.txt",
        }  # fmt: skip

    def test_folder_of_dangling_links_is_not_empty(self, tmp_path: Path) -> None:
        for n in range(2):
            (tmp_path / f"{n}.jpg").symlink_to(f"/annex/{n}.jpg")
        assert all(isinstance(found, SourceError) for found in samples(open_source(tmp_path)))

    def test_object_array_is_never_unpickled(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.array([print], object), allow_pickle=True)
        with pytest.raises(SourceError):
            open_source(str(tmp_path))


class TestDetection:
    @pytest.mark.parametrize(
        ("files", "kind"),
        [
            (["a/x.jpg", "b/y.png"], "image_folder"),
            (["a/x.jpg", "a/readme.txt"], "image_folder"),
            (["a/x.jpg", "a/x.json"], "file_groups"),
            (["x.jpg", "y.jpg"], "file_groups"),
            (["x.txt"], "file_groups"),
            (["train-images-idx3-ubyte"], "mnist"),
            (["data_batch_1"], "cifar10"),
            (["cifar-100-python/train"], "cifar100"),
        ],
    )
    def test_folder_kind_is_detected_by_names(self, tmp_path: Path, files: list[str], kind: str) -> None:
        assert detect(fill(tmp_path, dict.fromkeys(files, "x"))) == kind

    @pytest.mark.parametrize(
        ("name", "kind"),
        [("a.csv", "csv"), ("a.TSV", "tsv"), ("a.jsonl", "jsonl"), ("a.ndjson", "jsonl"), ("a.npy", "npy"),
         ("a.npz", "npz"), ("t10k-images-idx3-ubyte.gz", "mnist"), ("train-images.idx3-ubyte", "mnist")],
    )  # fmt: skip
    def test_file_kind_is_detected_by_name(self, tmp_path: Path, name: str, kind: str) -> None:
        fill(tmp_path, {name: "x"})
        assert detect(tmp_path / name) == kind

    def test_missing_empty_or_unknown_path_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        for path, message in [
            (tmp_path / "no", "no such file"),
            (tmp_path / "empty", "the folder is empty"),
            (Path(fill(tmp_path / "x", {"a.docx": "x"})) / "a.docx", "not recognised"),
            (Path(fill(tmp_path / "y", {"a.csv": "x", "b.csv": "x"})), "holds tables"),
        ]:
            with pytest.raises(SourceError, match=message):
                detect(path)

    def test_pipe_is_refused_without_opening_it(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.csv")
        with pytest.raises(SourceError, match="regular file"):
            open_source(tmp_path / "a.csv")

    def test_given_kind_must_fit_the_path(self, tmp_path: Path) -> None:
        fill(tmp_path, {"a.csv": "x\n1\n"})
        with pytest.raises(ValueError, match="unknown kind 'cvs'"):
            open_source(tmp_path / "a.csv", "cvs")
        with pytest.raises(SourceError, match="this is a folder"):
            open_source(tmp_path, "csv")
        with pytest.raises(SourceError, match="this is a file"):
            open_source(tmp_path / "a.csv", "file_groups")
        with pytest.raises(ValueError, match="columns of a table"):
            open_source(tmp_path, "file_groups", SourceOptions(embed=("x",)))


class TestSplits:
    def test_folders_named_as_splits_are_splits(self, tmp_path: Path) -> None:
        root = fill(tmp_path, dict.fromkeys(["test/a/x.jpg", "train/a/y.jpg", "val/a/z.jpg", "readme.md"], picture()))
        found = splits(root)
        assert list(found) == ["train", "val", "test"]
        assert {spec.kind for spec in found.values()} == {"image_folder"}
        assert "readme.md" in found["train"].notes[0]

    def test_labels_agree_across_splits(self, tmp_path: Path) -> None:
        names = ["train/a/x.jpg", "train/c/x.jpg", "val/b/y.jpg", "val/c/y.jpg"]
        root = fill(tmp_path, dict.fromkeys(names, picture()))
        spec = splits(root)["val"]
        source = open_source(spec.path, spec.kind, spec.options)
        assert source.metadata["classes"] == ["a", "b", "c"]
        assert [sample["label"] for sample in samples(source)] == [1, 2]

    def test_single_class_named_as_a_split_is_a_class(self, tmp_path: Path) -> None:
        root = fill(tmp_path, dict.fromkeys(["bus/x.jpg", "train/x.jpg"], picture()))
        assert splits(root) == {}
        assert open_source(root).metadata == {"classes": ["bus", "train"]}

    def test_each_split_has_its_own_kind(self, tmp_path: Path) -> None:
        root = fill(tmp_path, dict.fromkeys(["train/a/x.jpg", "test/1.jpg"], picture()))
        kinds = {name: spec.kind for name, spec in splits(root).items()}
        assert kinds == {"train": "image_folder", "test": "file_groups"}

    @pytest.mark.parametrize("gone", ["val", "train.csv"])
    def test_dangling_link_to_a_split_is_an_error(self, tmp_path: Path, gone: str) -> None:
        kept = "train/a/x.jpg" if gone == "val" else "test.csv"
        root = fill(tmp_path, {kept: picture() if gone == "val" else "x\n1\n"})
        (tmp_path / gone).symlink_to("/mnt/gone")
        with pytest.raises(SourceError, match=f"the symbolic link leads nowhere - .*{gone}"):
            splits(root)

    def test_tables_named_as_splits_are_splits(self, tmp_path: Path) -> None:
        found = splits(fill(tmp_path, {"test.csv": "x\n1\n", "train.csv": "x\n1\n"}))
        assert {name: (Path(spec.path).name, spec.kind) for name, spec in found.items()} == {
            "train": ("train.csv", "csv"),
            "test": ("test.csv", "csv"),
        }
