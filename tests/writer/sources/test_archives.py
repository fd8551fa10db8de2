"""Archives give the samples, keys and bytes of the folder that they were made of; hostile ones are refused by name."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from recordio import RecordIOError, SourceError, convert
from recordio.writer.sources import SourceOptions, find_sources, open_source
from recordio.writer.sources.archives import unpacked_file
from recordio.writer.sources.archives.archive_paths import forget_archives, keep_archives, listed_archives
from recordio.writer.sources.files import exists, is_file, is_folder, open_regular, read_file, scan_folder
from tests.writer.sources.packing import ENDINGS, pack, tar, zipped
from tests.writer.sources.test_folders import fill, picture, samples
from tests.writer.sources.test_layouts import GREY, JPEG, PNG, coco, only, said, sources


def npy(value: int) -> bytes:
    out = io.BytesIO()
    np.save(out, np.arange(6).reshape(3, 2) + value)
    return out.getvalue()


BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
VOC = f"<annotation><object><name>cat</name>{BOX}</object></annotation>"
PICTURES = {f"img/{n}.jpg": picture(n) for n in range(3)}
LAYOUTS: dict[str, dict[str, bytes | str]] = {
    "image_folder": {f"{split}/{name}/1.jpg": picture(3) for split in ("train", "val") for name in "ab"},
    "text_folder": {f"{name}/{n}.txt": name for name in ("neg", "pos") for n in range(3)},
    "paired_folders": {f"images/{n}.png": PNG for n in range(3)} | {f"masks/{n}.png": GREY for n in range(3)},
    "yolo": {f"images/{n}.jpg": JPEG for n in range(3)}
    | {f"labels/{n}.txt": "0 .5 .5 .1 .1" for n in range(3)}
    | {"data.yaml": "names: [cat]"},
    "voc": {f"JPEGImages/{n}.jpg": JPEG for n in range(3)} | {f"Annotations/{n}.xml": VOC for n in range(3)},
    "coco": {"pictures/a.jpg": JPEG, "pictures/b.jpg": PNG, "annotations/instances.json": coco(["a.jpg", "b.jpg"])},
    "file_groups": {f"{n}{end}": data for n in range(3) for end, data in ((".npy", npy(n)), (".json", "{}"))},
    "indexed_files": PICTURES | {"train.csv": "file,y\n0.jpg,1\n1.jpg,2\n2.jpg,3\n"},
    "csv": {"train.csv": "a,b\n1,2\n", "test.csv": "a,b\n3,4\n"},
    "npy": {"train.npy": npy(0), "test.npy": npy(9)},
    "mnist": {
        "train-images-idx3-ubyte": struct.pack(">HBB3I", 0, 8, 3, 2, 2, 2) + bytes(range(8)),
        "train-labels-idx1-ubyte.gz": gzip.compress(struct.pack(">HBBI", 0, 8, 1, 2) + bytes((5, 6))),
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _forget() -> None:
    forget_archives()


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_every_kind_is_read_as_from_the_folder(tmp_path: Path, kind: str, ending: str) -> None:
    root = fill(tmp_path / "d", LAYOUTS[kind])
    path = pack(root, tmp_path / f"d{ending}")
    forced = kind if kind == "file_groups" else None
    folders, archives = sources(root, forced), sources(str(path), forced)
    assert folders.keys() == archives.keys()
    for split, source in folders.items():
        other = pickle.loads(pickle.dumps(archives[split]))
        assert (source.kind, other.kind) == (kind, kind)
        assert source.schema == other.schema
        assert source.metadata == other.metadata
        assert str(samples(source)) == str(samples(other))
        assert source.fingerprint().content == other.fingerprint().content
        assert [source.key(n) for n in range(len(source))] == [other.key(n) for n in range(len(other))]
        assert "read as the folder in it" in said(archives[split])


@pytest.mark.slow
def test_an_archive_gives_the_shards_of_the_folder_for_any_number_of_workers(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {f"{name}/{n}.jpg": picture(n) for name in "ab" for n in (1, 2)})
    convert(root, tmp_path / "plain", shard_bytes=1000)
    convert(pack(root, tmp_path / "d.zip"), tmp_path / "zip", shard_bytes=1000, workers=1)
    convert(pack(root, tmp_path / "d.tar.zst"), tmp_path / "tar", shard_bytes=1000, workers=2)
    plain, *others = (
        [shard.read_bytes() for shard in sorted((tmp_path / name).glob("*.rio"))] for name in ("plain", "zip", "tar")
    )
    assert len(plain) > 1
    assert others == [plain, plain]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_is_an_archive(tmp_path: Path, ending: str) -> None:
    path = pack(fill(tmp_path / "d", {"a/1.txt": "one", "b/2.txt": "two"}), tmp_path / f"D{ending.upper()}")
    assert [sample["text"] for sample in samples(only(str(path)))] == ["one", "two"]


def test_a_finished_conversion_is_left_until_the_archive_changes(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {f"{name}/1.jpg": JPEG for name in "ab"})
    path = pack(root, tmp_path / "d.zip")
    convert(path, tmp_path / "out")
    report = convert(path, tmp_path / "out")
    assert not isinstance(report, dict)
    assert report.done_before
    os.utime(path, ns=(0, 0))
    with pytest.raises(RecordIOError, match="the source was changed, moved or replaced"):
        convert(path, tmp_path / "out")


def test_a_folder_in_an_archive_is_a_path(tmp_path: Path) -> None:
    path = pack(fill(tmp_path / "d", {"data/a/1.jpg": JPEG, "data/b/2.jpg": JPEG}), tmp_path / "d.zip")
    assert only(f"{path}/data").metadata == {"classes": ["a", "b"]}
    assert only(str(path)).metadata == {"classes": ["a", "b"]}
    with pytest.raises(SourceError, match="no such file or folder"):
        find_sources(f"{path}/nothing")


def test_an_archive_of_one_table_is_the_table(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "train.csv.zip", "w") as archive:
        archive.writestr("train.csv", "a\n1\n")
        archive.writestr("__MACOSX/._train.csv", "x")
    source = only(str(tmp_path / "train.csv.zip"))
    assert (source.kind, samples(source)) == ("csv", [{"a": 1}])
    assert "read as the one file in it, train.csv" in said(source)


def test_embedded_columns_are_read_from_the_archive(tmp_path: Path) -> None:
    path = pack(fill(tmp_path / "d", {"t.csv": "name,y\n1.bin,2\n", "1.bin": b"abc"}), tmp_path / "d.zip")
    source = open_source(f"{path}/t.csv", "csv", SourceOptions(embed=("name",)))
    assert samples(source) == [{"name": b"abc", "y": 2}]


def test_archives_named_as_splits_are_splits(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"a/1.jpg": JPEG, "b/2.jpg": JPEG})
    (tmp_path / "in").mkdir()
    for name in ("train.zip", "val.tar"):
        pack(root, tmp_path / "in" / name)
    assert {split: source.kind for split, source in sources(str(tmp_path / "in")).items()} == {
        "train": "image_folder",
        "val": "image_folder",
    }


def test_the_functions_of_files_take_paths_into_an_archive(tmp_path: Path) -> None:
    path = pack(fill(tmp_path / "d", {"a/1.txt": "one", "a/b/2.txt": "two"}), tmp_path / "d.tar")
    assert is_folder(f"{path}/")
    assert not is_folder(path)
    assert is_folder(f"{path}/a/b")
    assert is_file(f"{path}/a/../a/1.txt")
    assert not exists(f"{path}/a/3.txt")
    assert not exists(f"{path}/../x")
    assert not exists(f"{path}/a/1.txt/x")
    assert read_file(f"{path}/a/b/2.txt") == b"two"
    with open(open_regular(f"{path}/a/1.txt"), "rb") as file:
        assert file.read() == b"one"
    assert list(scan_folder(os.fsencode(path))) == [b"a/1.txt", b"a/b/2.txt"]
    with pytest.raises(SourceError, match="it is a folder"):
        read_file(f"{path}/a")
    (tmp_path / "plain.txt").write_text("x")
    with pytest.raises(SourceError, match="Not a directory"):
        read_file(tmp_path / "plain.txt" / "x")


def test_another_process_takes_over_what_was_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(fill(tmp_path / "d", {"a.txt": "one"}), tmp_path / "d.tar.gz")
    assert read_file(f"{path}/a.txt") == b"one"
    given = pickle.dumps(listed_archives())
    keep = listed_archives()
    forget_archives()
    keep_archives(pickle.loads(given))
    monkeypatch.setattr(unpacked_file, "unpacked", None)
    assert read_file(f"{path}/a.txt") == b"one"
    del keep


def test_an_archive_that_changes_while_it_is_read_is_told(tmp_path: Path) -> None:
    path = pack(fill(tmp_path / "d", {"a/1.jpg": JPEG, "b/1.jpg": JPEG}), tmp_path / "d.tar")
    source = only(str(path))
    with open(path, "r+b") as file:
        file.write(b"x")
    assert "changed while it was converted" in str(samples(source)[0])


def test_a_dataset_of_ours_in_an_archive_is_told_so(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", {"a/1.jpg": JPEG, "b/1.jpg": JPEG})
    convert(root, tmp_path / "out")
    with pytest.raises(SourceError, match="this is a recordio dataset already"):
        find_sources(str(pack(tmp_path / "out", tmp_path / "out.zip")))


FORMATS = Path(__file__).parents[2] / "data/formats"


@pytest.mark.parametrize("name", ["arrow/hub", "arrow/saved", "litdata/rows", "mds/all"])
def test_formats_of_other_libraries_are_read_from_archives(tmp_path: Path, name: str) -> None:
    if name.startswith("arrow"):
        pytest.importorskip("pyarrow")
    folders, archives = sources(str(FORMATS / name)), sources(str(pack(FORMATS / name, tmp_path / "d.tar")))
    assert folders.keys() == archives.keys()
    for split, source in folders.items():
        assert str(samples(pickle.loads(pickle.dumps(archives[split])))) == str(samples(source))


@pytest.mark.parametrize(
    ("name", "message"), [("hdf5/names.h5", "an HDF5 file is read"), ("zarr", "a Zarr store is read")]
)
def test_formats_that_need_their_files_say_so(tmp_path: Path, name: str, message: str) -> None:
    if name == "zarr":
        path = FORMATS / "zarr/v3.zip"
    else:
        pytest.importorskip("h5py")
        path = zipped(tmp_path, {"names.h5": (FORMATS / name).read_bytes()})
    with pytest.raises(SourceError, match=message):
        sources(str(path))


def test_an_archive_in_an_archive_is_not_read(tmp_path: Path) -> None:
    inner = tar({"1.jpg": JPEG, "1.cls": b"1"})
    path = zipped(tmp_path, {"0.tar": inner, "1.tar": inner})
    with pytest.raises(SourceError, match="it lies in an archive itself"):
        only(str(path))
