"""Folders of LitData: what it wrote is read value by value, and what lies or could run a program is refused."""

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
from recordio.errors import MissingPackageError, SourceError
from recordio.writer.sources import splits
from recordio.writer.sources.records.litdata import leaves
from recordio.writer.sources.records.litdata_nested import nested
from recordio.writer.sources.records.litdata_serializers import litdata_column
from recordio.writer.sources.source import SourceOptions
from tests.converted import FORMATS, assert_equal, assert_same_bytes, expected, faults, opened, stored

FOLDER = FORMATS / "litdata"
LEAF = {"type": None, "context": None, "children_spec": []}


def pixels(value: Any) -> Any:
    """Of a picture, or of each of a list."""
    return [pixels(one) for one in value] if isinstance(value, list) else np.asarray(Pillow.open(BytesIO(value)))


def as_read(sample: dict[str, Any]) -> dict[str, Any]:
    return {name: pixels(value) if name in ("jpeg", "pil", "jpegs") else value for name, value in sample.items()}


def named(item: Any, name: str = "") -> dict[str, Any]:
    """The values of an item by the names of their fields."""
    if not isinstance(item, dict):
        return {name: item}
    return {way: value for key, part in item.items() for way, value in named(part, f"{name}/{key}".strip("/")).items()}


def changed(tmp_path: Path, name: str = "frames", **config: Any) -> Path:
    """A copy of a fixture that says something else in its index."""
    folder = tmp_path / name
    shutil.copytree(FOLDER / name, folder)
    index = json.loads((folder / "index.json").read_text())
    index["config"] |= config
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def with_chunk(tmp_path: Path, name: str = "frames", **chunk: Any) -> Path:
    folder = changed(tmp_path, name)
    index = json.loads((folder / "index.json").read_text())
    index["chunks"][0] |= chunk
    (folder / "index.json").write_text(json.dumps(index))
    return folder


class TestValues:
    @pytest.mark.parametrize("name", ["all", "frames", "chunks", "samples"])
    def test_every_value_is_what_the_library_reads(self, name: str) -> None:
        source = opened(FOLDER / name)
        read = [as_read(dict(sample)) for _, sample in source.read(range(len(source)))]
        assert_equal(read, [named(item) for item in expected("litdata")[name]])

    def test_items_that_are_pairs(self) -> None:
        read = [dict(sample) for _, sample in opened(FOLDER / "pairs").read(range(6))]
        assert_equal(read, [{"0": first, "1": second} for first, second in expected("litdata")["pairs"]])

    def test_rows_that_lie_in_arrow(self) -> None:
        pytest.importorskip("pyarrow")
        read = [dict(sample) for _, sample in opened(FOLDER / "rows").read(range(6))]
        assert_equal(read, expected("litdata")["rows"])
        assert dict(opened(FOLDER / "rows").schema) == {
            "id": Scalar("int64"), "text": Text(), "score": Scalar("float64", optional=True), "tags": Object(),
        }  # fmt: skip

    def test_items_of_tokens_are_samples_and_make_the_stream_that_is_cut_into_blocks(self) -> None:
        source = opened(FOLDER / "tokens")
        samples = [sample["tokens"] for _, sample in source.read(range(len(source)))]
        assert [sample.tolist() for sample in samples] == [list(range(10 * k, 11 * k)) for k in range(1, 8)]
        chunks = json.loads((FOLDER / "tokens" / "index.json").read_text())["chunks"]
        ends = np.cumsum([chunk["chunk_size"] for chunk in chunks]).tolist()
        blocks = []
        for start, end in zip([0, *ends], ends, strict=False):
            stream = np.concatenate(samples[start:end])
            blocks += [stream[at : at + 2] for at in range(0, len(stream) - 1, 2)]
        assert_equal(blocks, expected("litdata")["tokens"])
        assert "an item is a sample, and not a block" in source.notes[0]

    def test_fields_are_those_of_the_serializers(self) -> None:
        assert dict(opened(FOLDER / "all").schema) == {
            "int": Scalar("int64"), "float": Scalar("float64"), "str": Text(), "bytes": Bytes(), "bool": Scalar("bool"),
            "tensor": Array("float32", (2, None)), "half": Array("float16", (2, 2)), "vector": Array("int32", (None,)),
            "array": Array("uint16", (2, None)), "row": Array("float64", (None,)), "jpeg": Image(), "pil": Image(),
            "jpegs": Object(), "nested/a": Scalar("int64"), "nested/b": Object(),
        }  # fmt: skip

    @pytest.mark.parametrize("name", ["all", "pairs", "samples", "tokens"])
    def test_values_are_stored(self, tmp_path: Path, name: str) -> None:
        assert len(stored(FOLDER / name, tmp_path / "out")) == len(opened(FOLDER / name))

    @pytest.mark.slow
    def test_bytes_are_the_same_however_they_are_made(self, tmp_path: Path) -> None:
        assert_same_bytes(FOLDER / "chunks", tmp_path, shuffle=2)

    def test_folders_of_splits(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            shutil.copytree(FOLDER / "pairs", tmp_path / split)
        assert {split: spec.kind for split, spec in splits(tmp_path).items()} == {"train": "litdata", "val": "litdata"}

    def test_a_chunk_that_was_unpacked_in_place(self, tmp_path: Path) -> None:
        folder = changed(tmp_path, "chunks")
        for path in folder.glob("*.zstd.bin"):
            path.with_name(path.name.replace(".zstd", "")).write_bytes(zstandard.decompress(path.read_bytes()))
            path.unlink()
        assert len(opened(folder)) == 9


class TestRefused:
    @pytest.mark.parametrize(
        ("config", "fault"),
        [
            ({"encryption": {"level": "chunk"}}, "encrypted"),
            ({"compression": "lz4"}, "compressed with 'lz4'"),
            ({"item_loader": "ParquetLoader"}, "for 'ParquetLoader'"),
            ({"data_format": ["no_header_tensor:18", "pickle"]}, "could run any program when they are read"),
            ({"data_format": ["graph", "str"]}, "could run any program when they are read"),
            ({"data_format": ["mine", "str"]}, "the serializer 'mine' is not known"),
            ({"data_format": ["no_header_tensor:10", "str"]}, "arrays of the dtype bfloat16 cannot be stored"),
            ({"data_format": ["no_header_numpy:14", "str"]}, "arrays of the dtype number 14 cannot be stored"),
            ({"data_format": ["str"]}, "1 formats of values for a tree of 2 leaves"),
            ({"data_format": 5}, "the formats of the values are 5"),
            ({"data_spec": None}, "the tree of an item is None"),
            ({"data_spec": "[1"}, "the tree of an item cannot be read"),
            ({"data_spec": "[1, " + "[" * 5000 + "]" * 5001}, "nested deeper"),
        ],
    )
    def test_an_index_that_asks_for_what_is_not_read(self, tmp_path: Path, config: dict[str, Any], fault: str) -> None:
        with pytest.raises(SourceError, match=r"index\.json") as caught:
            opened(changed(tmp_path, **config))
        assert fault in str(caught.value)

    @pytest.mark.parametrize(
        ("chunk", "fault"),
        [
            ({"filename": "../chunk.bin"}, "a file outside"),
            ({"filename": "/etc/passwd"}, "a file outside"),
            ({"filename": None}, "its index names a file None"),
            ({"filename": "none.bin"}, "No such file"),
            ({"chunk_size": 5}, "it says it has 4 records, and the index says 5"),
            ({"chunk_size": -5}, "the number of items in a chunk is -5"),
            ({"chunk_bytes": 1.5}, "a chunk's size is 1.5"),
        ],
    )
    def test_a_chunk_that_is_not_as_its_index_says(self, tmp_path: Path, chunk: dict[str, Any], fault: str) -> None:
        with pytest.raises(SourceError) as caught:
            opened(with_chunk(tmp_path, **chunk))
        assert fault in str(caught.value)

    def test_a_chunk_that_unpacks_to_more(self, tmp_path: Path) -> None:
        folder = with_chunk(tmp_path, "chunks")
        path = folder / "chunk-0-0.zstd.bin"
        path.write_bytes(zstandard.compress(bytes(1 << 20)))
        with pytest.raises(SourceError, match=r"longer than \d+ bytes, the most that it may be - chunk-0-0\.zstd\.bin"):
            opened(folder)

    @pytest.mark.parametrize(
        "spec",
        [
            {"type": "collections.namedtuple", "context": '"os.system"', "children_spec": [LEAF]},
            {"type": "builtins.dict", "context": '["a"]', "children_spec": [LEAF, LEAF]},
            {"type": "builtins.dict", "context": "not JSON", "children_spec": [LEAF]},
            {"type": "builtins.dict", "context": "[[1]]", "children_spec": [LEAF]},
            {"type": "builtins.dict", "context": "[]"},
            5,
        ],
    )
    def test_a_tree_of_other_things(self, spec: Any) -> None:
        with pytest.raises(SourceError):
            leaves(json.dumps([1, spec]))

    def test_two_values_of_one_name(self, tmp_path: Path) -> None:
        inner = {"type": "builtins.dict", "context": '["b"]', "children_spec": [LEAF]}
        spec = {"type": "builtins.dict", "context": '["a/b", "a"]', "children_spec": [LEAF, inner]}
        with pytest.raises(SourceError, match="two values of an item would be called 'a/b'"):
            opened(changed(tmp_path, data_spec=json.dumps([1, spec])))

    def test_without_pyarrow_the_extra_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent() -> Any:
            raise MissingPackageError.needed("Arrow files", "pyarrow", "arrow", ImportError("none"))

        monkeypatch.setattr("recordio.writer.sources.records.litdata_chunks.pyarrow", absent)
        with pytest.raises(MissingPackageError, match=r"pip install 'recordio-shards\[arrow\]'"):
            opened(FOLDER / "rows")


class TestDamage:
    @pytest.mark.parametrize("at", range(0, 177, 11))
    def test_a_chunk_of_frames_never_gives_more_than_samples_or_errors(self, tmp_path: Path, at: int) -> None:
        folder = changed(tmp_path)
        data = bytearray((folder / "chunk-0-0.bin").read_bytes())
        data[at] ^= 0xFF
        (folder / "chunk-0-0.bin").write_bytes(data)
        try:
            found = list(faults(opened(folder)).values())
        except SourceError as error:
            found = [str(error)]
        assert all("chunk-0-0.bin" in fault for fault in found)

    @pytest.mark.parametrize("name", ["frames", "samples", "tokens", "pairs", "rows"])
    def test_a_chunk_that_was_cut_off(self, tmp_path: Path, name: str) -> None:
        if name == "rows":
            pytest.importorskip("pyarrow")
        folder = changed(tmp_path, name)
        path = folder / "chunk-0-0.bin"
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(SourceError, match=r"chunk-0-0\.bin|index\.json, field 'score'"):
            opened(folder)

    @pytest.mark.parametrize(
        ("form", "bad", "fault"),
        [
            ("str", b"\xff", "can't decode byte 0xff"),
            ("int", b"1", "1 bytes for a number of 8"),
            ("bool", b"", "0 bytes for a number of 1"),
            ("tensor", b"", "an array of 0 bytes has no header"),
            ("tensor", struct.pack(">II", 0, 1 << 31), "an array of 2147483648 dimensions"),
            ("tensor", struct.pack(">IIII", 0, 2, 1 << 31, 1 << 31), "0 bytes for an array of float32"),
            ("tensor", struct.pack(">III", 99, 1, 0), "the dtype number 99"),
            ("numpy", struct.pack("<II", 0, 40), "an array of 40 dimensions"),
            ("no_header_tensor:17", b"12345", "5 bytes for an array of int64"),
            ("jpeg_array", struct.pack("<I", 1 << 30), "1073741824 parts in 4 bytes"),
            ("json", b"\x05" + struct.pack("<I", 1 << 30), "1073741824 values in 0 bytes"),
            ("json", b"\x06" + struct.pack("<II", 9, 0) + bytes(9), "records without keys"),
            ("json", b"\x15", "a value of the unknown kind 21"),
            ("json", b"\x0b\x0b", "1 bytes follow a value"),
            ("json", (b"\x05" + struct.pack("<II", 1, 0)) * 100, "nested deeper than 64 levels"),
            ("json", b"[" * 5000 + b"]" * 5000, "nested deeper"),
        ],
    )
    def test_a_value_that_is_none_of_its_serializer(self, form: str, bad: bytes, fault: str) -> None:
        with pytest.raises(SourceError, match="field 'x'") as caught:
            litdata_column("x", form, SourceOptions()).value(bad)
        assert fault in str(caught.value)


def test_nested_values_are_what_the_library_packs() -> None:
    serializers = pytest.importorskip("litdata.streaming.serializers")
    for value in (
        None, True, 5, -1.5, "text", [], ["a", "ü"], [1, 2], [1.5], [True, False], {"a": 1, "b": {"c": [None, 1]}},
        [{"a": 1, "b": "x"}, {"a": 2, "b": None}], [{"a": 1.5}, {"a": True}], [1, "two"], {"a": [[1], [2]]},
    ):  # fmt: skip
        assert_equal(nested(serializers._nested_dumps(value)), value)
