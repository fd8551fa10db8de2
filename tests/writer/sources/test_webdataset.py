"""WebDataset: the samples, keys and values of the library, from one tar or many, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import Array, Bytes, Image, Object, Scalar, SourceError, Text, convert
from recordio.writer.sources import Source, find_sources
from recordio.writer.sources.archives.archive_paths import forget_archives
from tests.writer.sources.packing import END, member, packed, tar
from tests.writer.sources.test_folders import fill, picture, samples
from tests.writer.sources.test_layouts import GREY, JPEG, PNG, only, said, sources

WRITTEN = Path(__file__).parents[2] / "data/formats/webdataset"  # by the library; see make_webdataset.py
EXPECTED: dict[str, list[dict[str, Any]]] = json.loads((WRITTEN / "expected.json").read_text("utf-8"))


@pytest.fixture(autouse=True)
def _forget() -> None:
    forget_archives()


def plain(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample as `expected.json` has it."""
    found = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in sample.items()}
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in found.items()}


def read(tmp_path: Path, files: dict[str, bytes], name: str = "x.tar") -> Source:
    return only(packed(tmp_path, tar(files), name), "webdataset")


class TestTheLibrarysOwn:
    @pytest.mark.parametrize("name", EXPECTED)
    def test_samples_are_those_of_the_library(self, name: str) -> None:
        source = only(str(WRITTEN / name))
        again = pickle.loads(pickle.dumps(source))
        assert source.kind == "webdataset"
        assert [plain(sample) for sample in samples(source)] == EXPECTED[name]
        assert [plain(sample) for sample in samples(again)] == EXPECTED[name]

    def test_a_folder_of_tars_has_splits_by_their_names(self) -> None:
        found = sources(str(WRITTEN), "webdataset")
        assert [sample["key"][-1] for sample in samples(found["train"])] == ["0", "1", "2", "3"]
        assert [sample["key"][-1] for sample in samples(found["val"])] == ["4"]

    def test_fields_have_the_types_of_the_decoders(self) -> None:
        source = sources(str(WRITTEN), "webdataset")["train"]
        assert dict(source.schema) == {
            "key": Text(),
            "jpg": Image(),
            "seg.png": Image("L"),
            "cls": Scalar("int64"),
            "json": Object(),
            "npy": Array("int16", (2, 2)),
            "txt": Text(),
            "wav": Bytes(optional=True),
        }
        assert "kept as bytes: 'wav'" in said(source)
        assert "'seg.png' holds masks" in said(source)

    @pytest.mark.filterwarnings("ignore::ResourceWarning")  # the library leaves the file to the garbage collector
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_the_library_where_it_is_installed(self, tmp_path: Path) -> None:
        wds = pytest.importorskip("webdataset")
        path = packed(
            tmp_path,
            tar(
                {
                    "./a.x.jpg": b"1",
                    "./a.TXT": b"t",
                    "b": b"",
                    ".c.txt": b"",
                    "__m__/d.txt": b"",
                    "e/f.g/h.cls": b" 7",
                }
            ),
        )
        found = [plain(sample) for sample in samples(only(path, "webdataset"))]
        raw = list(wds.WebDataset(path, shardshuffle=False))
        assert [sample["key"] for sample in found] == [sample["__key__"] for sample in raw] == ["./a", "e/f.g/h"]
        assert [set(sample) - {"key"} for sample in found] == [{k for k in sample if k[:2] != "__"} for sample in raw]


class TestWhatIsIt:
    def test_members_of_one_stem_in_a_row_are_webdataset(self, tmp_path: Path) -> None:
        path = packed(tmp_path, tar({"a/1.jpg": JPEG, "a/1.cls": b"1", "b/2.jpg": JPEG, "b/2.cls": b"2"}))
        source = only(path)
        assert source.kind == "webdataset"
        assert "so this is WebDataset; --kind file_groups" in said(source)
        assert only(path, "file_groups").kind == "file_groups"

    @pytest.mark.parametrize(
        ("names", "kind"),
        [
            (["a/1.jpg", "a/2.jpg", "b/3.jpg"], "image_folder"),
            (["1.jpg", "2.jpg", "1.json", "2.json"], "file_groups"),
            (["train/1.jpg", "train/1.json", "val/2.jpg", "val/2.json"], "file_groups"),
            (["images/1.jpg", "images/2.jpg", "masks/1.png", "masks/2.png"], "paired_folders"),
            (["1.jpg", "1.json", "LICENSE2", "noext"], "file_groups"),
        ],
    )
    def test_others_are_folders(self, tmp_path: Path, names: list[str], kind: str) -> None:
        files = {name: b"{}" if name.endswith("json") else GREY if name.endswith("png") else JPEG for name in names}
        assert next(iter(sources(packed(tmp_path, tar(files))).values())).kind == kind

    def test_a_pattern_names_files_in_order(self, tmp_path: Path) -> None:
        for number in range(12):
            packed(tmp_path, tar({f"{number}.txt": b"x", f"{number}.cls": b"1"}), f"s-{number:03d}.tar")
        source = only(f"{tmp_path}/s-{{009..011}}.tar")
        assert [sample["key"] for sample in samples(source)] == ["9", "10", "11"]
        assert source.key(1) == "s-010.tar record 0"

    def test_few_tars_beside_other_files_are_left_out(self, tmp_path: Path) -> None:
        fill(tmp_path, {f"{name}/{n}.jpg": JPEG for name in "ab" for n in range(3)})
        packed(tmp_path, tar({"1.jpg": JPEG, "1.cls": b"1"}))
        source = only(str(tmp_path))
        assert source.kind == "image_folder"
        assert "1 .tar (x.tar)" in said(source)

    def test_leftover_archives_do_not_decide(self, tmp_path: Path) -> None:
        fill(tmp_path, {f"{split}/{name}/{n}.jpg": JPEG for split in ("train", "val") for name in "ab" for n in (1, 2)})
        for name in ("train.tar.gz", "extra.tar"):
            packed(tmp_path, b"anything", name)
        found = sources(str(tmp_path))
        assert {split: source.kind for split, source in found.items()} == {
            "train": "image_folder",
            "val": "image_folder",
        }
        assert "extra.tar" in said(found["train"])

    def test_other_files_beside_the_tars_are_named(self, tmp_path: Path) -> None:
        for number in range(2):
            packed(tmp_path, tar({"1.jpg": JPEG, "1.cls": b"1"}), f"{number}.tar")
        fill(tmp_path, {"0_stats.json": "{}"})
        assert "left out: 1 .json (0_stats.json)" in said(only(str(tmp_path)))
        fill(tmp_path, {"1_stats.json": "{}", "2_stats.json": "{}"})
        with pytest.raises(SourceError, match=r"3 of 5 files would be left out.*--kind webdataset"):
            find_sources(str(tmp_path))
        fill(tmp_path, {"0.parquet": "PAR1"})
        source = only(str(tmp_path), "webdataset")
        assert len(source) == 2
        assert "left out: 3 .json (0_stats.json, 1_stats.json, 2_stats.json), 1 .parquet (0.parquet)" in said(source)

    def test_one_tar_of_a_folder_in_a_folder_is_to_be_given_itself(self, tmp_path: Path) -> None:
        packed(tmp_path, tar({"a/1.jpg": JPEG, "b/1.jpg": JPEG}))
        with pytest.raises(SourceError, match="a tar archive; give its path"):
            find_sources(str(tmp_path))


class TestSamples:
    def test_a_key_in_two_places_makes_two_samples(self, tmp_path: Path) -> None:
        source = read(tmp_path, {"1.txt": b"a", "2.txt": b"b", "1.cls": b"3"})
        assert samples(source) == [{"key": "1", "txt": "a"}, {"key": "2", "txt": "b"}, {"key": "1", "cls": 3}]
        assert "a key in several places makes a sample in each, as in WebDataset, such as '1' in x.tar" in said(source)

    def test_what_is_passed_over_is_told(self, tmp_path: Path) -> None:
        data = member(b"1.txt", b"a") + member(b"._1.txt", b"x") + member(b"noext", b"x") + member(b"1.cls", b"2")
        data += member(b"__meta__/x.json", b"{}") + member(b"2.txt", b"", b"2", b"1.txt") + member(b"d/", b"", b"5")
        source = only(packed(tmp_path, data + END), "webdataset")
        assert samples(source) == [{"key": "1", "txt": "a", "cls": 2}]
        assert "hidden, or without an extension, such as ._1.txt (2 in all)" in said(source)
        assert "about the archive (__NAME__), such as __meta__/x.json (1 in all)" in said(source)
        assert "no regular files, such as 2.txt (1 in all)" in said(source)

    def test_long_names_and_large_members(self, tmp_path: Path) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, data in (
                ("d/" * 60 + "k" * 120 + ".bin", bytes(3 << 20)),
                ("d/" * 60 + "k" * 120 + ".cls", b"5"),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        ((sample),) = samples(only(packed(tmp_path, out.getvalue())))
        assert (sample["key"], len(sample["bin"]), sample["cls"]) == ("d/" * 60 + "k" * 120, 3 << 20, 5)

    def test_pictures_of_other_formats_and_arrays_of_other_shapes(self, tmp_path: Path) -> None:
        arrays = {}
        for number, array in enumerate((np.zeros((2, 3), "f4"), np.zeros((4, 3), "f8"))):
            out = io.BytesIO()
            np.save(out, array)
            arrays |= {f"{number}.npy": out.getvalue(), f"{number}.ppm": b"P6 1 1 255 abc", f"{number}.webp": PNG}
        source = read(tmp_path, arrays)
        assert dict(source.schema) == {
            "key": Text(),
            "ppm": Image(),
            "webp": Image(),
            "npy": Array("float64", (None, 3)),
        }

    @pytest.mark.parametrize(
        ("name", "data", "message"),
        [
            ("1.cls", b"one", "one integer of 64 bits is expected"),
            ("1.index", b"9" * 30, "one integer of 64 bits is expected"),
            ("1.txt", b"\xff\xfe\xfd", "not UTF-16"),
            ("1.json", b"{", "JSON cannot be read"),
            ("1.npy", b"\x93NUMPY", "not a NumPy array"),
        ],
    )
    def test_a_value_that_cannot_be_read_is_an_error_of_its_sample(
        self, tmp_path: Path, name: str, data: bytes, message: str
    ) -> None:
        out = io.BytesIO()
        np.save(out, np.arange(2))
        good = {"2.cls": b"1", "2.index": b"1", "2.txt": b"x", "2.json": b"1", "2.npy": out.getvalue()}
        first, second = samples(read(tmp_path, {name: data} | good))
        assert second["key"] == "2"
        with pytest.raises(SourceError, match=message) as found:
            raise first
        assert f"x.tar/{name}" in str(found.value)


class TestRefused:
    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({"1.pyd": b"x"}, "the field 'pyd' holds a pickle: it could run"),
            ({"1.meta.pth": b"x"}, "could run any program"),
            ({"1.npz": b"x"}, "holds several arrays each"),
            ({"1.key": b"x"}, "clash with the field 'key'"),
            ({"1.txt": b"x", "1.TXT": b"y"}, "the sample '1' has two members for the field 'txt'"),
            ({"noext": b"x"}, "there are no records"),
            ({"1.npy": b"x"}, "none of the arrays can be read"),
        ],
    )
    def test_by_name(self, tmp_path: Path, files: dict[str, bytes], message: str) -> None:
        with pytest.raises(SourceError, match=message) as found:
            read(tmp_path, files)
        assert "x.tar" in str(found.value) or "npy" in str(found.value)

    def test_a_damaged_tar(self, tmp_path: Path) -> None:
        packed(tmp_path, tar({"1.txt": b"x"}), "a.tar")
        packed(tmp_path, tar({"1.txt": b"x"})[:512], "b.tar")
        with pytest.raises(SourceError, match=r"cut off.*b\.tar"):
            only(str(tmp_path))


@pytest.mark.slow
def test_shards_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, ending in enumerate((".tar", ".tar.gz")):
        files = {f"{n}.{end}": picture(n) if end == "jpg" else b"1" for n in range(4) for end in ("jpg", "cls")}
        data = tar(files)
        packed(tmp_path / "in", data if ending == ".tar" else gzip.compress(data), f"{number}{ending}")
    shards = []
    for workers in (1, 2):
        convert(tmp_path / "in", tmp_path / f"out{workers}", shard_bytes=4096, workers=workers)
        shards.append([path.read_bytes() for path in sorted((tmp_path / f"out{workers}").glob("*.rio"))])
    assert len(shards[0]) > 2
    assert shards[0] == shards[1]
