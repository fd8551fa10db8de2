"""TFRecord files: what TensorFlow wrote is read value by value, and damage is found where it is."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import Array, Bytes, Image, Object, Scalar, Text, convert
from recordio.errors import MissingPackageError, SourceError
from recordio.writer.sources import detect
from recordio.writer.sources.records.crc32c import masked, short_crc32c
from recordio.writer.sources.records.tf_example import parse
from tests.converted import FORMATS, assert_equal, assert_same_bytes, expected, faults, opened, stored
from tests.writer.sources.protobuf import message, record

pytest.importorskip("google_crc32c")
FOLDER = FORMATS / "tfrecord"
DOGS = [FOLDER / f"dogs-train.tfrecord-0000{k}-of-00002" for k in range(2)]


def dogs(folder: Path) -> Path:
    """A folder as TensorFlow Datasets make one."""
    folder.mkdir()
    for path in DOGS:
        (folder / path.name).write_bytes(path.read_bytes())
    for name in ("features.json", "dataset_info.json"):
        (folder / name).write_text("{}")
    return folder


def as_stored(name: str, values: list[Any]) -> Any:
    """What a field of the fixtures stores of the list of values that TensorFlow reads."""
    if name in ("image/encoded", "image/class/label", "blob"):
        return values[0]
    if name == "image/class/text":
        return values[0].decode()
    if name == "words":
        return [value.decode() for value in values]
    if name == "rating":
        return float(np.float32(values[0]))
    return np.array(values, "f4" if name in ("bbox", "points", "no values") else "i8")


def example(**features: bytes) -> bytes:
    """An Example of features given as the bytes of their lists."""
    return message((1, message(*((1, message((1, name.encode()), (2, value))) for name, value in features.items()))))


def ints(*values: int) -> bytes:
    return message((3, message(*((1, value) for value in values))))


def written(path: Path, *records: bytes) -> Path:
    path.write_bytes(b"".join(map(record, records)))
    return path


class TestExamples:
    def test_every_value_is_what_tensorflow_reads(self, tmp_path: Path) -> None:
        wanted = [
            {name: as_stored(name, values) for name, values in sample.items() if values is not None}
            for sample in expected("tfrecord")["train"]
        ]
        assert_equal([dict(sample) for _, sample in opened(dogs(tmp_path / "in"), "train").read(range(7))], wanted)
        assert len(stored(tmp_path / "in", tmp_path / "out", split="train")) == 7

    def test_fields_hold_the_values_of_all_records(self) -> None:
        assert dict(opened(FOLDER / "dogs-train.tfrecord-*", "").schema) == {
            "bbox": Array("float32", (4,)),
            "blob": Bytes(),
            "extremes": Array("int64", (2,)),
            "ids": Array("int64", (None,)),
            "image/class/label": Scalar("int64"),
            "image/class/text": Text(),
            "image/encoded": Image(),
            "no values": Array("float32", (None,)),
            "points": Array("float32", (None,)),
            "rating": Scalar("float32", optional=True),
            "words": Object(),
        }

    def test_what_was_taken_for_text_is_said(self) -> None:
        (note,) = opened(FOLDER / "dogs-train.tfrecord-*").notes
        assert note.endswith("without control characters: 'image/class/text', 'words'")

    @pytest.mark.slow
    def test_bytes_are_the_same_however_they_are_made(self, tmp_path: Path) -> None:
        assert_same_bytes(dogs(tmp_path / "in"), tmp_path, workers=(2, 5), split="train", shuffle=3)

    def test_a_shuffled_order_unpacks_a_file_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("recordio.writer.sources.records.packed_files._KEPT_NBYTES", 0)
        for number in range(3):
            path = written(tmp_path / f"x{number}.tfrecord", *(example(a=ints(10 * number + k)) for k in range(5)))
            path.write_bytes(gzip.compress(path.read_bytes()))
        source = opened(tmp_path)
        opens: list[int] = []
        before = source._unpacked  # type: ignore[attr-defined]

        def counted(*args: Any) -> Any:
            opens.append(1)
            return before(*args)

        monkeypatch.setattr(source, "_unpacked", counted)
        order = [14, 0, 7, 1, 13, 2, 6, 12]
        assert [sample["a"] for _, sample in source.read(order)] == [24, 0, 12, 1, 23, 2, 11, 22]
        assert len(opens) == 3

    def test_names_of_classes_are_those_of_tensorflow_datasets(self, tmp_path: Path) -> None:
        path = written(tmp_path / "x.tfrecord", example(label=ints(1)))
        (tmp_path / "label.labels.txt").write_text("cat\ndog\n")
        assert opened(path).metadata == {"classes": ["cat", "dog"]}

    def test_a_feature_of_two_kinds_is_an_error_where_it_changes(self, tmp_path: Path) -> None:
        floats = message((2, message((1, struct.pack("<f", 1.0)))))
        source = opened(written(tmp_path / "x.tfrecord", example(a=ints(1)), example(a=floats), example(a=ints(2))))
        assert faults(source) == {
            1: "values of kind float here, int64 in records before it - x.tfrecord record 1, field 'a'"
        }

    def test_numbers_need_not_be_packed(self, tmp_path: Path) -> None:
        source = opened(written(tmp_path / "x.tfrecord", example(a=ints(1, -1 & (1 << 64) - 1))))
        assert_equal(source.sample(0), {"a": np.array([1, -1])})


class TestSequences:
    def test_every_value_is_what_tensorflow_reads(self) -> None:
        wanted = expected("tfrecord")["sequences"]
        source = opened(FOLDER / "sequences.tfrecord")
        for index, lists in enumerate(wanted):
            sample = dict(source.sample(index))
            assert sample["id"] == index
            assert sample["frames"] == [step[0] for step in lists["frames"]]
            assert sample["names"] == [["a", "b"]] * index
            assert_equal(sample["labels"], np.array([step[0] for step in lists["labels"]], "i8"))
            assert_equal(sample["vectors"], np.array(lists["vectors"], "f4").reshape(index, 2))
            assert sample["tokens/lengths"].tolist() == [len(step) for step in lists["tokens"]]
            assert sample["tokens"].tolist() == [value for step in lists["tokens"] for value in step]

    def test_values_are_stored(self, tmp_path: Path) -> None:
        assert [sample["id"] for sample in stored(FOLDER / "sequences.tfrecord", tmp_path / "out")] == [0, 1, 2, 3]

    def test_a_name_that_context_and_lists_share_is_refused(self, tmp_path: Path) -> None:
        lists = message((2, message((1, message((1, b"a"), (2, message((1, ints(1)))))))))
        with pytest.raises(SourceError, match="two fields would be called 'a'"):
            opened(written(tmp_path / "x.tfrecord", example(a=ints(1)) + lists))


class TestRecognised:
    def test_numbered_files_without_extension_by_their_content(self, tmp_path: Path) -> None:
        for number in range(2):
            written(tmp_path / f"train-{number:05d}-of-00002", b"\xff raw")
        source = opened(tmp_path, "train")
        assert (source.kind, len(source), source.sample(1)) == ("tfrecord", 2, {"data": b"\xff raw"})
        assert "no record is a tf.Example" in source.notes[0]

    def test_a_file_of_another_name_by_its_content(self, tmp_path: Path) -> None:
        path = written(tmp_path / "coco.record", b"")
        path.write_bytes(gzip.compress(path.read_bytes()))
        assert detect(path) == "tfrecord"

    def test_files_of_any_name_if_the_kind_is_given(self, tmp_path: Path) -> None:
        for name in ("a.dat", "b.dat"):
            written(tmp_path / name, b"\xff raw")
        assert len(opened(tmp_path, kind="tfrecord")) == 2

    def test_another_file_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "x.bin").write_bytes(bytes(range(64)))
        with pytest.raises(SourceError, match="not recognised"):
            detect(tmp_path / "x.bin")

    def test_without_the_package_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "google_crc32c", None)
        from recordio.writer.sources.records import crc32c

        crc32c._library.cache_clear()
        with pytest.raises(MissingPackageError, match=r"pip install 'recordio-shards\[tfrecord\]'"):
            opened(DOGS[0])
        crc32c._library.cache_clear()

    def test_checksums_of_a_few_bytes_need_no_package(self) -> None:
        assert short_crc32c(b"123456789") == 0xE3069283
        assert masked(0) == 0xA282EAD8


class TestDamage:
    """Each on three good records, of which one, or the file from there on, is lost."""

    @pytest.fixture
    def records(self) -> list[bytes]:
        return [record(example(a=ints(value))) for value in range(3)]

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            (lambda r: r[:14] + bytes([r[14] ^ 1]) + r[15:], "data checksum mismatch"),
            (lambda r: r[:-1] + bytes([r[-1] ^ 1]), "data checksum mismatch"),
            (lambda r: record(b"\xff" * 20), "not a tf.Example: a number of more than 10 bytes"),
            (lambda r: record(example(a=ints(1))[:-1]), "not a tf.Example: a field leads out of its message"),
            (lambda r: record(message((1, b"\x0b"))), "not a tf.Example: a field of wire type 3"),
            (lambda r: record(example(a=b"").replace(b"a", b"\xff")), "is not UTF-8"),
        ],
    )
    def test_of_one_record_loses_that_record(
        self, tmp_path: Path, records: list[bytes], change: Any, fault: str
    ) -> None:
        (tmp_path / "x.tfrecord").write_bytes(records[0] + change(records[1]) + records[2])
        source = opened(tmp_path / "x.tfrecord")
        (found,) = faults(source).items()
        assert found[0] == 1
        assert fault in found[1]
        assert "x.tfrecord record 1" in found[1]
        assert [sample["a"] for sample in stored(tmp_path / "x.tfrecord", tmp_path / "out", on_error="skip")] == [0, 2]

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            (lambda r: bytes([r[0] ^ 1]) + r[1:], "length checksum mismatch"),
            (lambda r: r[:8] + bytes([r[8] ^ 1]) + r[9:], "length checksum mismatch"),
            (lambda r: record(b"", says=1 << 40), "over the limit of 1073741824; the file cannot be read from here on"),
            (lambda r: record(b"", says=1 << 29), "the file ends within this record of 536870912 bytes"),
        ],
    )
    def test_of_a_length_loses_the_rest_of_the_file(
        self, tmp_path: Path, records: list[bytes], change: Any, fault: str
    ) -> None:
        (tmp_path / "x.tfrecord").write_bytes(records[0] + change(records[1]) + records[2])
        source = opened(tmp_path / "x.tfrecord")
        assert list(faults(source)) == [1]
        assert fault in faults(source)[1]
        assert len(source) == 2

    @pytest.mark.parametrize("cut", [1, 5, 20])
    def test_a_file_that_was_cut_off(self, tmp_path: Path, records: list[bytes], cut: int) -> None:
        (tmp_path / "x.tfrecord").write_bytes(b"".join(records)[: -len(records[2]) + cut])
        assert list(faults(opened(tmp_path / "x.tfrecord"))) == [2]

    def test_gzip_that_was_cut_off_is_refused(self, tmp_path: Path, records: list[bytes]) -> None:
        (tmp_path / "x.tfrecord").write_bytes(gzip.compress(b"".join(records))[:-9])
        with pytest.raises(SourceError, match=r"the gzip data cannot be read to its end.* - x\.tfrecord"):
            convert(tmp_path / "x.tfrecord", tmp_path / "out")

    def test_a_bomb_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("recordio.writer.sources.archives.compression._FREE", 1 << 20)
        (tmp_path / "x.tfrecord").write_bytes(gzip.compress(bytes(1 << 23)))
        with pytest.raises(SourceError, match=r"unpacks to more than 250 times its size.* - x\.tfrecord"):
            opened(tmp_path / "x.tfrecord")

    def test_no_record_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "x.tfrecord").write_bytes(bytes(100))
        with pytest.raises(SourceError, match="no record can be read; the first: length checksum mismatch"):
            opened(tmp_path / "x.tfrecord")

    def test_an_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "x.tfrecord").write_bytes(b"")
        with pytest.raises(SourceError, match="there are no records"):
            opened(tmp_path / "x.tfrecord")

    def test_more_features_than_a_schema_has(self) -> None:
        with pytest.raises(SourceError, match="more than 4,096 features in a record"):
            parse(example(**{f"f{number}": ints(1) for number in range(4097)}))
