"""`recordio.convert`: samples are kept, bytes do not depend on workers, and every skip is reported."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from recordio import (
    DatasetError,
    DatasetWriter,
    DecodeError,
    Schema,
    SchemaError,
    ShardDataset,
    SourceError,
    convert,
)
from recordio.writer.convert.convert import ConvertReport
from recordio.writer.convert.plan import cut, shuffled


def picture(seed: int, size: tuple[int, int] = (24, 16), form: str = "JPEG") -> bytes:
    pixels = np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (size[1], size[0], 3), np.uint8)
    out = BytesIO()
    Pillow.fromarray(pixels).save(out, form)
    return out.getvalue()


def photos(root: Path, count: int = 12) -> Path:
    for n in range(count):
        path = root / f"class_{n % 3}" / f"{n:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(n))
    return root


def table(path: Path, rows: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("n,text\n" + "".join(f"{n},row {n}\n" for n in range(rows)))
    return path


def made(*args: Any, **options: Any) -> ConvertReport:
    """The report of a conversion into a single dataset."""
    report = convert(*args, **options)
    assert isinstance(report, ConvertReport)
    return report


def contents(folder: Path) -> dict[str, bytes]:
    """Contents of every file below a folder, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def column(folder: Path, name: str) -> list[Any]:
    return [sample[name] for sample in ShardDataset(folder, decode=None)]


class TestSamples:
    def test_converted_samples_equal_the_source(self, tmp_path: Path) -> None:
        source = photos(tmp_path / "in")
        report = made(source, tmp_path / "out", shard_bytes=4000)
        dataset = ShardDataset(tmp_path / "out", decode=None)
        files = sorted(source.rglob("*.jpg"))
        assert [sample["image"] for sample in dataset] == [path.read_bytes() for path in files]
        assert [dataset.metadata["classes"][sample["label"]] for sample in dataset] == [p.parent.name for p in files]
        shards = list((tmp_path / "out").glob("*.rio"))
        assert report.shards == len(shards) > 2
        assert report == ConvertReport(
            str(source),
            str(tmp_path / "out"),
            "image_folder",
            12,
            len(shards),
            sum(p.stat().st_size for p in shards),
            made=12,
        )

    def test_convert_leaves_only_the_dataset(self, tmp_path: Path) -> None:
        made(photos(tmp_path / "in"), tmp_path / "out", shard_bytes=4000)
        names = {name for name in os.listdir(tmp_path / "out") if not name.startswith("shard-")}
        assert names == {"manifest.json", ".source"}

    @pytest.mark.parametrize("compression", [None, "auto", "zstd", "zstd:9"])
    def test_every_compression_round_trips(self, tmp_path: Path, compression: str | None) -> None:
        made(table(tmp_path / "t.csv"), tmp_path / "out", compression=compression)
        assert column(tmp_path / "out", "text") == [f"row {n}" for n in range(100)]

    def test_arrays_and_idx_files_convert(self, tmp_path: Path) -> None:
        rows = np.arange(30.0).reshape(10, 3)
        np.save(tmp_path / "a.npy", rows)
        assert made(tmp_path / "a.npy", tmp_path / "out").kind == "npy"
        assert (ShardDataset(tmp_path / "out").column("data") == rows).all()

    def test_kind_overrides_detection(self, tmp_path: Path) -> None:
        source = photos(tmp_path / "in")
        assert made(source, tmp_path / "out", kind="file_groups").kind == "file_groups"
        assert column(tmp_path / "out", "key")[0] == "class_0/000"

    def test_embed_replaces_file_names_by_contents(self, tmp_path: Path) -> None:
        photos(tmp_path / "in", 2)
        (tmp_path / "in/t.csv").write_text("f,n\nclass_1/001.jpg,1\nclass_0/000.jpg,0\n")
        made(tmp_path / "in/t.csv", tmp_path / "out", embed="f")
        assert column(tmp_path / "out", "f") == [picture(1), picture(0)]

    def test_progress_rises_to_the_number_of_samples(self, tmp_path: Path) -> None:
        calls: list[tuple[int, int]] = []
        source = table(tmp_path / "t.csv", 500)
        made(source, tmp_path / "out", shard_bytes=1000, progress=lambda *call: calls.append(call))
        assert calls[-1] == (500, 500)
        assert calls == sorted(calls)
        assert len(calls) > 5

    def test_names_of_files_are_kept(self, tmp_path: Path) -> None:
        source = photos(tmp_path / "in", 4)
        made(source, tmp_path / "out", keep_names=True, shuffle=3)
        dataset = ShardDataset(tmp_path / "out", decode=None)
        assert list(dataset.schema) == ["image", "label", "file"]
        assert [(source / s["file"]).read_bytes() for s in dataset] == [s["image"] for s in dataset]
        assert sorted(dataset.column("file")) == sorted(str(p.relative_to(source)) for p in source.rglob("*.jpg"))

    @pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
    def test_names_of_embedded_files_are_kept(self, tmp_path: Path, name: str) -> None:
        photos(tmp_path, 2)
        csv = "f,n\nclass_1/001.jpg,1\nclass_0/000.jpg,0\n"
        jsonl = '{"f": "class_1/001.jpg", "n": 1}\n{"f": "class_0/000.jpg", "n": 0}\n'
        (tmp_path / name).write_text(csv if name == "t.csv" else jsonl)
        made(tmp_path / name, tmp_path / "out", embed="f", keep_names=True)
        assert column(tmp_path / "out", "f_file") == ["class_1/001.jpg", "class_0/000.jpg"]
        assert column(tmp_path / "out", "f") == [picture(1), picture(0)]

    def test_names_are_refused_where_there_are_none(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.arange(4))
        for source in (tmp_path / "a.npy", table(tmp_path / "t.csv")):
            with pytest.raises(SchemaError, match="--keep-names"):
                made(source, tmp_path / "out", keep_names=True)


class TestByteIdentity:
    def test_bytes_do_not_depend_on_workers(self, tmp_path: Path) -> None:
        source = photos(tmp_path / "in")
        for workers in (0, 1, 2, 3):
            made(source, tmp_path / str(workers), shard_bytes=4000, shuffle=5, workers=workers)
        expected = contents(tmp_path / "0")
        assert len(expected) > 3
        assert all(contents(tmp_path / str(workers)) == expected for workers in (1, 2, 3))

    def test_bytes_do_not_depend_on_path_and_times_of_the_source(self, tmp_path: Path) -> None:
        source = photos(tmp_path / "in")
        shutil.copytree(source, tmp_path / "copy")
        for path in (tmp_path / "copy").rglob("*.jpg"):
            os.utime(path, (1, 1))
        made(source, tmp_path / "a")
        made(tmp_path / "copy", tmp_path / "b")
        a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
        assert a.pop(".source") != b.pop(".source")
        assert a == b

    @pytest.mark.parametrize(
        "options", [{"shuffle": 1}, {"block_bytes": 100}, {"shard_bytes": 300}, {"compression": "zstd"}, {"limit": 99}]
    )
    def test_options_change_the_dataset_id(self, tmp_path: Path, options: dict[str, Any]) -> None:
        made(table(tmp_path / "t.csv"), tmp_path / "a")
        made(tmp_path / "t.csv", tmp_path / "b", **options)
        ids = [json.loads((tmp_path / name / "manifest.json").read_text())["dataset_id"] for name in "ab"]
        assert ids[0] != ids[1]


class TestOrder:
    def test_shuffle_is_a_deterministic_permutation(self, tmp_path: Path) -> None:
        made(table(tmp_path / "t.csv"), tmp_path / "out", shuffle=3, shard_bytes=300)
        assert column(tmp_path / "out", "n") == shuffled(100, 3).tolist()

    def test_permutation_matches_its_test_vector(self) -> None:
        assert shuffled(10, 0).tolist() == [5, 7, 8, 2, 9, 0, 3, 1, 6, 4]
        assert shuffled(10, 2**64 - 1).tolist() == [8, 5, 0, 2, 4, 7, 1, 6, 9, 3]
        assert shuffled(0, 1).tolist() == []

    @pytest.mark.parametrize("seed", [0, 1, 2, 12345, 2**64 - 1])
    def test_permutation_looks_random(self, seed: int) -> None:
        order = shuffled(10_000, seed)
        assert sorted(order.tolist()) == list(range(10_000))
        assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.04
        assert (np.diff(order) == 1).sum() < 10

    def test_limit_applies_after_shuffling(self, tmp_path: Path) -> None:
        assert made(table(tmp_path / "t.csv"), tmp_path / "out", shuffle=3, limit=7).samples == 7
        assert column(tmp_path / "out", "n") == shuffled(100, 3)[:7].tolist()

    @pytest.mark.parametrize(
        ("sizes", "cuts"),
        [
            ([10, 10, 10, 10], [0, 2, 4]),
            ([10, 10, 10], [0, 2, 3]),
            ([100, 1, 1], [0, 1, 3]),
            ([1, 100, 1], [0, 2, 3]),
            ([20], [0, 1]),
            ([0] * 45, [0, 20, 40, 45]),
        ],
    )
    def test_unit_ends_with_the_sample_that_fills_it(self, sizes: list[int], cuts: list[int]) -> None:
        assert cut(np.array(sizes), 20).tolist() == cuts


class TestSplits:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        photos(tmp_path / "in/train", 6)
        photos(tmp_path / "in/test", 3)
        return tmp_path / "in"

    def test_each_split_becomes_a_dataset(self, tmp_path: Path, source: Path) -> None:
        calls: list[tuple[int, int]] = []
        reports = convert(source, tmp_path / "out", progress=lambda *call: calls.append(call))
        assert isinstance(reports, dict)
        assert {name: report.samples for name, report in reports.items()} == {"train": 6, "test": 3}
        assert [len(ShardDataset(tmp_path / "out" / name)) for name in reports] == [6, 3]
        assert calls[-1] == (9, 9)

    def test_chosen_split_becomes_the_dataset(self, tmp_path: Path, source: Path) -> None:
        assert made(source, tmp_path / "out", split="test").samples == 3
        assert len(ShardDataset(tmp_path / "out")) == 3

    def test_unknown_split_is_refused(self, tmp_path: Path, source: Path) -> None:
        with pytest.raises(SourceError, match="no split 'val': there are train, test"):
            convert(source, tmp_path / "out", split="val")
        with pytest.raises(SourceError, match="it has no splits"):
            convert(source / "train", tmp_path / "out", split="train")
        assert not (tmp_path / "out").exists()

    def test_splits_are_refused_inside_a_dataset(self, tmp_path: Path, source: Path) -> None:
        convert(source, tmp_path / "out", split="test")
        with pytest.raises(DatasetError, match="its splits train, test cannot be"):
            convert(source, tmp_path / "out")

    def test_dataset_is_refused_in_a_folder_of_splits(self, tmp_path: Path, source: Path) -> None:
        convert(source, tmp_path / "out")
        with pytest.raises(DatasetError, match=r"there are datasets in this folder \(train, test\)"):
            convert(source, tmp_path / "out", split="test")


class TestBadSamples:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        photos(tmp_path / "in")
        (tmp_path / "in/class_0/cut.jpg").write_bytes(picture(50)[:-200])
        (tmp_path / "in/class_1/none.png").write_bytes(b"not an image")
        (tmp_path / "in/class_2/png.png").write_bytes(picture(51, form="PNG")[:-100])
        return tmp_path / "in"

    def test_first_bad_sample_stops_the_conversion_and_is_named(self, tmp_path: Path, source: Path) -> None:
        with pytest.raises(DecodeError, match=r"class_0/cut\.jpg"):
            convert(source, tmp_path / "out")
        assert not (tmp_path / "out/manifest.json").exists()

    @pytest.mark.parametrize("workers", [1, 2])
    def test_on_error_skip_lists_every_bad_sample(self, tmp_path: Path, source: Path, workers: int) -> None:
        report = made(source, tmp_path / "out", on_error="skip", shard_bytes=4000, workers=workers)
        assert [name for name, _ in report.skipped] == ["class_0/cut.jpg", "class_1/none.png", "class_2/png.png"]
        assert "not a JPEG, PNG or WebP file" in report.skipped[1][1]
        assert report.samples == len(ShardDataset(tmp_path / "out")) == 12

    def test_check_false_looks_at_the_first_bytes_only(self, tmp_path: Path, source: Path) -> None:
        report = made(source, tmp_path / "out", on_error="skip", check=False)
        assert [name for name, _ in report.skipped] == ["class_1/none.png"]

    def test_shard_with_every_sample_skipped_is_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "t.jsonl").write_text('{"n": 1}\n' + "bad\n" * 50 + '{"n": 2}\n')
        report = made(tmp_path / "t.jsonl", tmp_path / "out", on_error="skip", shard_bytes=40)
        assert (report.samples, len(report.skipped), report.shards) == (2, 50, 2)
        assert column(tmp_path / "out", "n") == [1, 2]
        assert not (tmp_path / "out/.convert").exists()

    def test_skipping_every_sample_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "in/a").mkdir(parents=True)
        (tmp_path / "in/a/x.jpg").write_bytes(b"x")
        with pytest.raises(SourceError, match=r"none of the 1 samples .*; the first: not a JPEG.* a/x\.jpg"):
            convert(tmp_path / "in", tmp_path / "out", on_error="skip")
        assert not (tmp_path / "out/manifest.json").exists()

    def test_value_that_fits_no_field_is_named_by_its_line(self, tmp_path: Path) -> None:
        (tmp_path / "t.jsonl").write_text('{"s": "a"}\n{"s": "\\ud800"}\n{"s": "b"}\n')
        with pytest.raises(SchemaError, match=r"t\.jsonl line 2"):
            convert(tmp_path / "t.jsonl", tmp_path / "out")
        report = made(tmp_path / "t.jsonl", tmp_path / "out", on_error="skip")
        assert [name for name, _ in report.skipped] == ["t.jsonl line 2"]
        assert column(tmp_path / "out", "s") == ["a", "b"]

    def test_worker_process_names_the_bad_sample(self, tmp_path: Path) -> None:
        path = table(tmp_path / "t.csv")
        path.write_text(path.read_text() + "1,2,3\n")
        with pytest.raises(SourceError, match=r"the row has 3 cells.* t\.csv line 102"):
            convert(path, tmp_path / "out", shard_bytes=300, workers=2)


class TestImages:
    @pytest.mark.parametrize(("resize", "size"), [(8, (8, 12)), ((5, 7), (5, 7))])
    def test_resize_shrinks_images_and_keeps_their_format(
        self, tmp_path: Path, resize: Any, size: tuple[int, int]
    ) -> None:
        (tmp_path / "in/a").mkdir(parents=True)
        (tmp_path / "in/a/x.jpg").write_bytes(picture(1))
        (tmp_path / "in/a/y.png").write_bytes(picture(2, form="PNG"))
        made(tmp_path / "in", tmp_path / "out", resize=resize)
        assert [sample["image"].shape for sample in ShardDataset(tmp_path / "out")] == [(*size, 3)] * 2
        assert [Pillow.open(BytesIO(data)).format for data in column(tmp_path / "out", "image")] == ["JPEG", "PNG"]

    def test_quality_reencodes_images(self, tmp_path: Path) -> None:
        made(photos(tmp_path / "in", 1), tmp_path / "out", quality=10)
        assert len(column(tmp_path / "out", "image")[0]) < len(picture(0))

    def test_resize_without_images_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SchemaError, match="resize and quality are for encoded images, and a 'csv' source has none"):
            convert(table(tmp_path / "t.csv"), tmp_path / "out", resize=8)


@pytest.mark.parametrize(
    "options",
    [
        {"on_error": "ignore"}, {"limit": 0}, {"workers": -1}, {"quality": 101}, {"shuffle": -1}, {"shuffle": 2**64},
        {"resize": 0}, {"resize": (1, 2, 3)}, {"resize": (0, 4)}, {"shard_bytes": 0}, {"block_bytes": -1},
        {"kind": "nonsense"}, {"embed": "n"}, {"limit": True}, {"resize": 1.5},
    ],
)  # fmt: skip
def test_invalid_argument_is_refused_before_anything_is_written(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        convert(photos(tmp_path / "in", 1), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_source_is_opened_before_the_destination_is_created(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "no", tmp_path / "empty"):
        with pytest.raises(SourceError):
            convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_class_names_over_the_header_limit_are_refused_before_the_destination_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recordio.format.shard.MAX_HEADER_JSON_NBYTES", 100)
    with pytest.raises(SchemaError, match="schema and metadata take"):
        convert(photos(tmp_path / "in", 3), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_destination_inside_the_source_is_refused(tmp_path: Path) -> None:
    source = photos(tmp_path / "in", 2)
    for target in (source, source / "out"):
        with pytest.raises(DatasetError, match="lies in the source"):
            convert(source, target)


def test_converted_schema_equals_the_source_schema(tmp_path: Path) -> None:
    made(table(tmp_path / "t.csv"), tmp_path / "out")
    assert ShardDataset(tmp_path / "out").schema == Schema.infer({"n": 1, "text": ""})


class TestNamesOfFiles:
    def test_class_folders_keep_names_to_be_read_on_request(self, tmp_path: Path) -> None:
        photos(tmp_path / "in")
        made(tmp_path / "in", tmp_path / "out")
        dataset = ShardDataset(tmp_path / "out")
        assert list(dataset.schema) == ["image", "label"]
        assert set(dataset[0]) == {"image", "label"}
        names = dataset.column("file")
        assert names[0].startswith("class_0/")
        assert (tmp_path / "in" / names[0]).is_file()
        assert ShardDataset(tmp_path / "out", fields=["label", "file"])[0] == {"label": 0, "file": names[0]}
        assert set(pickle.loads(pickle.dumps(dataset))[0]) == {"image", "label"}

    def test_no_names_are_kept_if_none_are_wanted(self, tmp_path: Path) -> None:
        photos(tmp_path / "in")
        made(tmp_path / "in", tmp_path / "out", keep_names=False)
        assert list(ShardDataset(tmp_path / "out").store.manifest.schema) == ["image", "label"]
        assert ShardDataset(tmp_path / "out").metadata["conversion"] == {"options": {"keep_names": False}}

    @pytest.mark.parametrize("names", [["nothing"], "x", 7, [["x"]], ["x", "y"]])
    def test_a_strangers_metadata_hides_no_whole_dataset(self, tmp_path: Path, names: Any) -> None:
        with DatasetWriter(tmp_path / "x", metadata={"conversion": {"names": names}}) as writer:
            writer.write({"x": 1, "y": 2})
        assert set(ShardDataset(tmp_path / "x")[0]) == {"x", "y"}

    def test_samples_without_a_name_can_be_appended(self, tmp_path: Path) -> None:
        photos(tmp_path / "in")
        made(tmp_path / "in", tmp_path / "out")
        first = ShardDataset(tmp_path / "out", decode=None)[0]
        with DatasetWriter(tmp_path / "out", mode="append") as writer:
            writer.write(first)
        assert ShardDataset(tmp_path / "out", fields=["file"])[-1] == {"file": None}
