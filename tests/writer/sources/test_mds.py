"""Folders of MosaicML Streaming: what it wrote is read value by value, and an index that lies is found out."""

from __future__ import annotations

import json
import shutil
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from PIL import Image as Pillow

from recordio import Array, Bytes, Image, Object, Scalar, Text
from recordio.errors import SchemaError, SourceError
from recordio.writer.sources import splits
from recordio.writer.sources.records.mds_encodings import mds_column
from recordio.writer.sources.source import SourceOptions
from tests.converted import FORMATS, assert_equal, assert_same_bytes, expected, faults, opened, stored

FOLDER = FORMATS / "mds"
PICTURES = ("jpeg", "png", "pil", "jpegs", "jpegarray", "pngs", "pils")


def pixels(value: Any) -> Any:
    """Of a picture, or of each of a list."""
    return [pixels(one) for one in value] if isinstance(value, list) else np.asarray(Pillow.open(BytesIO(value)))


def as_read(sample: dict[str, Any]) -> dict[str, Any]:
    return {name: pixels(value) if name in PICTURES else value for name, value in sample.items()}


def as_stored(sample: dict[str, Any]) -> dict[str, Any]:
    """What the library reads, with plain numbers for NumPy's."""
    plain = {
        name: value.item() if not np.shape(value) else value
        for name, value in sample.items()
        if hasattr(value, "dtype")
    }
    return sample | plain


def changed(tmp_path: Path, name: str = "gz", **changes: Any) -> Path:
    """A copy of a fixture with another first shard in its index."""
    folder = tmp_path / name
    shutil.copytree(FOLDER / name, folder)
    index = json.loads((folder / "index.json").read_text())
    index["shards"][0] |= changes
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def shard(folder: Path, *records: bytes, encoding: str = "bytes", offsets: list[int] | None = None) -> Path:
    """A folder with one column `x`, whose values are the records."""
    folder.mkdir(exist_ok=True)
    first = 4 * (len(records) + 2)
    cells = [struct.pack("<I", len(record)) + record for record in records]
    ends = [first + sum(map(len, cells[:number])) for number in range(len(cells) + 1)]
    data = struct.pack(f"<{len(cells) + 2}I", len(cells), *(offsets or ends)) + b"".join(cells)
    (folder / "shard.00000.mds").write_bytes(data)
    entry = {
        "version": 2, "format": "mds", "column_names": ["x"], "column_encodings": [encoding], "column_sizes": [None],
        "compression": None, "hashes": [], "samples": len(records), "size_limit": None, "zip_data": None,
        "raw_data": {"basename": "shard.00000.mds", "bytes": len(data), "hashes": {}},
    }  # fmt: skip
    (folder / "index.json").write_text(json.dumps({"version": 2, "shards": [entry]}))
    return folder


class TestValues:
    def test_every_value_is_what_the_library_reads(self) -> None:
        read = [as_read(dict(sample)) for _, sample in opened(FOLDER / "all").read(range(5))]
        assert_equal(read, [as_stored(sample) for sample in expected("mds")["all"]])

    @pytest.mark.parametrize("name", ["all", "zstd", "gz"])
    def test_values_are_stored(self, tmp_path: Path, name: str) -> None:
        found = stored(FOLDER / name, tmp_path / "out")
        wanted = expected("mds")[name]
        assert [sample["int"] for sample in found] == [sample["int"] for sample in wanted]
        assert [sample["str"] for sample in found] == [sample["str"] for sample in wanted]

    def test_fields_are_those_of_the_encodings(self) -> None:
        fields = dict(opened(FOLDER / "all").schema)
        assert [fields[name] for name in ("bytes", "str", "int", "str_int", "str_float", "str_decimal")] == [
            Bytes(), Text(), Scalar("int64"), Scalar("int64"), Scalar("float64"), Text(),
        ]  # fmt: skip
        assert {fields[name] for name in ("jpeg", "png", "pil")} == {Image()}
        assert {fields[name] for name in ("json", "jpegs", "jpegarray", "pngs", "pils")} == {Object()}
        assert fields["fixed"] == Array("int16", (2, 3))
        assert fields["typed"] == Array("float32", (None,))
        assert fields["dynamic"] == Array("uint16", (None, 300))
        assert fields["float16"] == Scalar("float16")

    @pytest.mark.slow
    def test_bytes_are_the_same_however_they_are_made(self, tmp_path: Path) -> None:
        assert_same_bytes(FOLDER / "zstd", tmp_path, shuffle=1)

    def test_folders_of_splits(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            shutil.copytree(FOLDER / "gz", tmp_path / split)
        assert {split: spec.kind for split, spec in splits(tmp_path).items()} == {"train": "mds", "val": "mds"}

    def test_an_index_in_each_of_several_folders_is_refused(self, tmp_path: Path) -> None:
        for part in ("00000", "00001"):
            shutil.copytree(FOLDER / "gz", tmp_path / part)
        with pytest.raises(SourceError, match=r"have an index\.json each \(mds\): merge them"):
            opened(tmp_path)

    def test_the_only_folder_of_a_zip(self, tmp_path: Path) -> None:
        shutil.make_archive(str(tmp_path / "data"), "zip", FOLDER, "zstd")
        source = opened(tmp_path / "data.zip")
        order = [39, 0, 20]
        assert [sample["int"] for _, sample in source.read(order)] == [-39, 0, -20]

    def test_shards_of_several_folders_with_one_index(self, tmp_path: Path) -> None:
        shards = []
        for part in ("a", "b"):
            shutil.copytree(FOLDER / "gz", tmp_path / part)
            (entry,) = json.loads((tmp_path / part / "index.json").read_text())["shards"]
            for file in ("raw_data", "zip_data"):
                entry[file]["basename"] = f"{part}/{entry[file]['basename']}"
            shards.append(entry)
        (tmp_path / "index.json").write_text(json.dumps({"version": 2, "shards": shards}))
        source = opened(tmp_path)
        assert [source.key(index) for index in (0, 10)] == [f"{part}/shard.00000.mds.gz record 0" for part in "ab"]

    def test_bytes_that_are_all_pictures_are_pictures(self, tmp_path: Path) -> None:
        out = BytesIO()
        Pillow.new("RGB", (2, 2)).save(out, "PNG")
        assert dict(opened(shard(tmp_path / "a", out.getvalue())).schema) == {"x": Image()}
        assert dict(opened(shard(tmp_path / "b", out.getvalue(), b"text")).schema) == {"x": Bytes()}


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "fault"),
        [
            ({"raw_data": {"basename": "../x", "bytes": 1, "hashes": {}}}, "a file outside: '../x'"),
            ({"raw_data": {"basename": "/etc/passwd", "bytes": 1, "hashes": {}}}, "outside: '/etc/passwd'"),
            ({"raw_data": {"basename": "a\0b", "bytes": 1, "hashes": {}}}, "its index names a file"),
            ({"zip_data": {"basename": 5, "bytes": 1, "hashes": {}}}, "its index names a file 5"),
            ({"samples": -1}, "the number of samples is -1"),
            ({"samples": 10**30}, "the number of samples is 1000000"),
            ({"samples": 11}, "it says it has 10 records, and the index says 11"),
            ({"compression": "br:5"}, "compressed with 'br': only zstd, gz, bz2 can be read"),
            ({"compression": "snappy"}, "compressed with 'snappy'"),
            ({"format": "json"}, r"a shard of the format \('json', 2\)"),
            ({"version": 1}, r"a shard of the format \('mds', 1\)"),
            ({"column_encodings": ["pkl", "str"], "column_sizes": [None, None]}, "pickled, and could run any program"),
            ({"column_encodings": ["magic", "str"]}, "the encoding 'magic' is not known"),
            ({"column_encodings": ["ndarray:int8:0", "str"]}, "the encoding 'ndarray:int8:0' is not known"),
            ({"column_sizes": [4, None]}, "values of 'int' with 4 bytes"),
            ({"column_names": ["int", "int"]}, "a name stands twice"),
            ({"column_names": ["int"]}, "are not lists of one length"),
        ],
    )  # fmt: skip
    def test_an_index_that_lies(self, tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
        with pytest.raises(SourceError, match=fault) as caught:
            opened(changed(tmp_path, **changes))
        assert "index.json" in str(caught.value) or "shard.00000.mds" in str(caught.value)

    def test_an_index_nested_too_deep(self, tmp_path: Path) -> None:
        folder = changed(tmp_path)
        (folder / "index.json").write_text('{"shards": ' + "[" * 100_000)
        with pytest.raises(SourceError, match="not valid JSON"):
            opened(folder, kind="mds")

    def test_an_index_of_something_else_does_not_disturb(self, tmp_path: Path) -> None:
        (tmp_path / "index.json").write_text("not JSON")
        (tmp_path / "a.txt").write_text("text")
        assert opened(tmp_path, kind="file_groups").kind == "file_groups"

    @pytest.mark.parametrize("name", ["gz", "zstd"])
    def test_a_shard_that_unpacks_to_more(self, tmp_path: Path, name: str) -> None:
        raw = json.loads((FOLDER / name / "index.json").read_text())["shards"][0]["raw_data"]
        with pytest.raises(SourceError, match="longer than 100 bytes, the most that it may be"):
            opened(changed(tmp_path, name, raw_data=raw | {"bytes": 100}))

    def test_a_shard_that_unpacks_to_less(self, tmp_path: Path) -> None:
        raw = json.loads((FOLDER / "gz" / "index.json").read_text())["shards"][0]["raw_data"]
        with pytest.raises(SourceError, match=r"it has \d+ bytes, and the index says 9999"):
            opened(changed(tmp_path, raw_data=raw | {"bytes": 9999}))

    def test_a_shard_that_is_missing(self, tmp_path: Path) -> None:
        folder = changed(tmp_path)
        next(folder.glob("*.gz")).unlink()
        with pytest.raises(SourceError, match=r"cannot be read: No such file.* - .*shard\.00000\.mds\.gz"):
            opened(folder)

    @pytest.mark.parametrize("offsets", [[16, 12, 24], [8, 16, 24], [16, 16, 1 << 31]])
    def test_offsets_that_lead_out_of_the_shard(self, tmp_path: Path, offsets: list[int]) -> None:
        with pytest.raises(SourceError, match=r"its index is damaged: .* - shard\.00000\.mds"):
            opened(shard(tmp_path / "in", b"", b"", offsets=offsets))


class TestDamage:
    def test_a_shard_with_another_hash_is_an_error_for_each_sample(self, tmp_path: Path) -> None:
        folder = changed(tmp_path, "zstd", zip_data=None)
        index = json.loads((FOLDER / "zstd" / "index.json").read_text())
        (folder / "index.json").write_text(json.dumps(index))
        first = index["shards"][0]
        path = folder / first["zip_data"]["basename"]
        path.write_bytes(zstandard.compress(zstandard.decompress(path.read_bytes()), 19))
        found = faults(opened(folder))
        assert list(found) == list(range(first["samples"]))
        assert "the sha1 of the shard is" in found[0]
        assert len(stored(folder, tmp_path / "out", on_error="skip")) == 40 - first["samples"]

    @pytest.mark.parametrize(
        ("encoding", "bad", "fault"),
        [
            ("str", b"\xff", "can't decode byte 0xff"),
            ("str_int", b"9" * 5000, "a number of 5000 digits"),
            ("str_int", b"one", "invalid literal"),
            ("str_decimal", b"1.2.3", "is no decimal number"),
            ("json", b"[" * 100_000, "nested deeper"),
            ("json", b'{"a": 1, "a": 2}', "stands twice"),
            ("pil", b"short", "has no header that fits"),
            ("pil", struct.pack("<III", 1 << 30, 1 << 30, 3) + b"RGB", "1073741824 x 1073741824 RGB with 0 bytes"),
            ("pil", struct.pack("<III", 1, 1, 4000) + b"RGB", "has no header that fits"),
            ("jpegarray", struct.pack("<I", 1 << 31), "2147483648 parts in 4 bytes"),
            ("jpegarray", struct.pack("<II", 1, 9) + b"x", "its parts of 9 bytes do not fill the 1 that it has"),
            ("list[png]", b"", "0 parts in 0 bytes"),
            ("ndarray", b"", "an array without a shape"),
            ("ndarray", b"\x03", "an array without a shape"),
            ("ndarray", b"\x63\x04\x01\x00", "an array of the unknown dtype 99"),
            ("ndarray", b"\x08\xff\x01", "an array of 63 dimensions in 3 bytes"),
            ("ndarray:float64", b"\x07" + b"\xff" * 8, "0 bytes for an array of float64"),
        ],
    )
    def test_a_value_that_is_none_of_its_encoding(self, encoding: str, bad: bytes, fault: str) -> None:
        with pytest.raises(SourceError, match="field 'x'") as caught:
            mds_column("x", encoding, SourceOptions()).value(bad)
        assert fault in str(caught.value)

    def test_a_bad_record_is_one_error(self, tmp_path: Path) -> None:
        folder = shard(tmp_path / "in", b"good", b"\xff", b"fine", encoding="str")
        found = faults(opened(folder))
        assert list(found) == [1]
        assert "shard.00000.mds record 1, field 'x'" in found[1]
        assert [sample["x"] for sample in stored(folder, tmp_path / "out", on_error="skip")] == ["good", "fine"]

    def test_options_for_pictures_are_checked(self, tmp_path: Path) -> None:
        with pytest.raises(SchemaError, match="mode is for picture files"):
            stored(FOLDER / "gz", tmp_path / "out", mode="L")
