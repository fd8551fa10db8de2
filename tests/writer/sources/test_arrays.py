"""NumPy and idx files: rows equal the arrays, and false headers are refused."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from recordio import Array, Bytes, Image, Scalar, SourceError, Text
from recordio.writer.sources import Source, SourceOptions, open_source, splits

PIXELS = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
LABELS = np.array([7, 0, 255], np.uint8)


def idx(array: npt.NDArray[Any], code: int = 8) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()


def rows(source: Source) -> list[Any]:
    return [item for _, item in source.read(range(len(source)))]


class TestNumPy:
    @pytest.mark.parametrize(
        ("array", "field"),
        [
            (np.arange(6, dtype=">i4").reshape(2, 3), Array("int32", (3,))),
            (np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)), Array("float64", (3, 4))),
            (np.array([True, False]), Scalar("bool")),
            (np.array([1 + 2j]), Scalar("complex128")),
            (np.array([1.5], "f2"), Scalar("float16")),
            (np.zeros((2, 0), "u1"), Array("uint8", (0,))),
            (np.array(["a", "bcd"]), Text()),
            (np.array([b"a", b"bcd"]), Bytes()),
        ],
    )
    def test_npy_rows_are_samples(self, tmp_path: Path, array: npt.NDArray[Any], field: Any) -> None:
        np.save(tmp_path / "a.npy", array)
        source = pickle.loads(pickle.dumps(open_source(tmp_path / "a.npy")))
        assert dict(source.schema) == {"data": field}
        assert np.array_equal([row["data"] for row in rows(source)], array)
        assert source.schema["data"].pack(rows(source)[0]["data"]) is not None
        assert source.key(0) == "a.npy row 0"

    def test_npz_arrays_are_fields(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=PIXELS, y=LABELS)
        source = pickle.loads(pickle.dumps(open_source(tmp_path / "a.npz")))
        assert dict(source.schema) == {"x": Array("uint8", (4, 5)), "y": Scalar("uint8")}
        ((_, sample),) = source.read([2])
        assert (sample["x"] == PIXELS[2]).all()
        assert sample["y"] == 255
        assert source.nbytes().tolist() == [21, 21, 21]

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.array(3), "no dimensions"),
            (np.zeros((0, 3)), "no rows"),
            (np.array([len, 1], object), "pickled|dtype"),
            (np.zeros(2, [("a", "i4")]), "not storable"),
            (np.zeros(2, "M8[s]"), "not storable"),
        ],
    )
    def test_arrays_without_rows_of_numbers_are_refused(self, tmp_path: Path, array: Any, message: str) -> None:
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
        np.savez(tmp_path / "a.npz", array)
        for name in ("a.npy", "a.npz"):
            with pytest.raises(SourceError, match=message if name == "a.npy" else None):
                open_source(tmp_path / name)

    @pytest.mark.parametrize("name", ["a.npy", "a.npz"])
    @pytest.mark.parametrize(
        "data",
        [b"", b"junk" * 50, b"\x93NUMPY\x01\x00v\x00{", b"PK\x03\x04" + bytes(40)],
        ids=["empty", "junk", "npy", "zip"],
    )
    def test_invalid_npy_file_is_refused(self, tmp_path: Path, name: str, data: bytes) -> None:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SourceError):
            open_source(tmp_path / name)

    def test_npz_arrays_of_different_lengths_are_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=np.zeros(2), y=np.zeros(3))
        with pytest.raises(SourceError, match=r"different lengths: \{'x': 2, 'y': 3\}"):
            open_source(tmp_path / "a.npz")


class TestMnist:
    @pytest.fixture(params=["", ".gz"])
    def folder(self, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
        pack = gzip.compress if request.param else bytes
        for part, count in (("train", 3), ("t10k", 2)):
            (tmp_path / f"{part}-images-idx3-ubyte{request.param}").write_bytes(pack(idx(PIXELS[:count])))
            (tmp_path / f"{part}-labels-idx1-ubyte{request.param}").write_bytes(pack(idx(LABELS[:count])))
        return tmp_path

    def test_mnist_folder_has_train_and_test_splits(self, folder: Path) -> None:
        found = splits(folder)
        sources = {name: open_source(spec.path, spec.kind, spec.options) for name, spec in found.items()}
        assert {name: len(source) for name, source in sources.items()} == {"train": 3, "test": 2}
        assert list(sources) == ["train", "test"]

    def test_mnist_samples_are_pixels_and_labels(self, folder: Path) -> None:
        source = pickle.loads(pickle.dumps(open_source(folder, "mnist", SourceOptions(part="train"))))
        assert dict(source.schema) == {"image": Image(shape=(4, 5)), "label": Scalar("int64")}
        assert np.array_equal([row["image"] for row in rows(source)], PIXELS)
        assert [row["label"] for row in rows(source)] == [7, 0, 255]

    def test_images_file_finds_its_labels(self, folder: Path) -> None:
        (path,) = folder.glob("t10k-images*")
        assert splits(path) == {}
        assert [row["label"] for row in rows(open_source(path))] == [7, 0]

    def test_images_file_without_labels_adds_a_note(self, folder: Path) -> None:
        (path,) = folder.glob("t10k-images*")
        next(folder.glob("t10k-labels*")).unlink()
        source = open_source(path)
        assert list(source.schema) == ["image"]
        assert source.notes == ("there is no labels file beside the images",)
        with pytest.raises(SourceError, match="no labels file"):
            open_source(folder, "mnist", SourceOptions(part="test"))

    @pytest.mark.parametrize("what", ["images", "labels"])
    def test_a_file_whose_link_leads_nowhere_is_an_error(self, folder: Path, what: str) -> None:
        for name in (f"{part}-{what}-idx{3 if what == 'images' else 1}-ubyte" for part in ("train", "t10k")):
            for path in folder.glob(f"{name}*"):
                path.unlink()
            (folder / name).symlink_to("gone")
        specs = splits(folder)
        assert list(specs) == ["train", "test"]
        for spec in specs.values():
            with pytest.raises(SourceError, match=f"No such file or directory - .*-{what}-"):
                open_source(spec.path, spec.kind, spec.options)

    def test_ambiguous_part_is_refused(self, folder: Path) -> None:
        with pytest.raises(SourceError, match="train and test"):
            open_source(folder)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "too short"),
            (idx(PIXELS)[:10], "too short"),
            (idx(PIXELS, code=9), "not an idx file of bytes in 3 dimensions: it begins with 0x00000903"),
            (idx(LABELS) + bytes(20), "it begins with 0x00000801"),
            (b"\1" + idx(PIXELS)[1:], "not an idx file"),
            (idx(PIXELS)[:-1], "promises 60 bytes of elements, there are 59"),
            (idx(PIXELS) + b"x", "there are more"),
            (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(9), "there are 9"),
            (idx(PIXELS[:0]), "3 labels for 0 images"),
            (idx(PIXELS[:2]), "3 labels for 2 images"),
        ],
    )
    def test_idx_header_that_contradicts_the_file_is_refused(self, folder: Path, data: bytes, message: str) -> None:
        (path,) = folder.glob("train-images*")
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
        with pytest.raises(SourceError, match=message) as caught:
            open_source(folder, "mnist", SourceOptions(part="train"))
        assert str(folder) in str(caught.value)

    def test_idx_file_without_images_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(PIXELS[:0]))
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:0]))
        with pytest.raises(SourceError, match="no images"):
            open_source(tmp_path)

    def test_truncated_gz_is_refused(self, folder: Path) -> None:
        data = gzip.compress(idx(PIXELS))
        (folder / "train-images-idx3-ubyte").unlink(missing_ok=True)
        for torn in (data[:20], data[:-4], data[:-8] + bytes(8), b"junk"):
            (folder / "train-images-idx3-ubyte.gz").write_bytes(torn)
            with pytest.raises(SourceError, match="train-images"):
                open_source(folder, "mnist", SourceOptions(part="train"))

    def test_two_mnist_sets_in_one_folder_are_refused(self, folder: Path) -> None:
        (folder / "emnist-train-images-idx3-ubyte").write_bytes(idx(PIXELS))
        with pytest.raises(SourceError, match="several sets of train images"):
            open_source(folder)
