"""What each format holds, value by value, as the standard library and NumPy read it, and as `convert` reads it back."""

from __future__ import annotations

import json
import struct
import tarfile
from base64 import b64decode
from collections import defaultdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import Image, Scalar, ShardDataset, Text
from tests.recordio.exports.values import FIELDS, PICTURES, expected, rows, write

Samples = dict[str, dict[str, bytes]]


def members(folder: Path) -> Samples:
    """The members of all tars by key and the rest of their names."""
    found: Samples = defaultdict(dict)
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                key, _, rest = member.name.partition(".")
                file = archive.extractfile(member)
                assert file is not None
                found[key][rest] = file.read()
    return found


def test_webdataset_names_and_codes_fields_as_the_library_decodes_them(tmp_path: Path) -> None:
    ds = write(tmp_path / "source")
    recordio.export(ds, tmp_path / "out", to="webdataset", shard_bytes=3000)
    found = members(tmp_path / "out")
    assert list(found) == [f"{i:06}" for i in range(12)]
    for (key, sample), row in zip(found.items(), expected(), strict=True):
        picture = "png" if int(key) % 2 else "jpg"
        assert set(sample) == set(
            f"{picture} cls txt score.json flag.json count.cls grid.npy run.npy data.bin tree.json pixels.npy".split()
        )
        assert sample[picture] == row["image"]
        assert (int(sample["cls"]), int(sample["count.cls"])) == (row["label"], row["count"])
        assert sample["txt"].decode() == row["text"]
        assert sample["data.bin"] == row["data"]
        for name in ("score", "flag", "tree"):
            assert json.loads(sample[f"{name}.json"]) == row[name]
        for name in ("grid", "run", "pixels"):
            assert np.load(BytesIO(sample[f"{name}.npy"])).tolist() == row[name]


def test_webdataset_leaves_out_what_is_missing(tmp_path: Path) -> None:
    with recordio.DatasetWriter(tmp_path / "source", {"a": Text(optional=True), "b": Scalar("int8")}) as writer:
        writer.write({"a": None, "b": 1})
        writer.write({"a": "x", "b": 2})
    recordio.export(tmp_path / "source", tmp_path / "out", to="webdataset")
    assert [set(sample) for sample in members(tmp_path / "out").values()] == [{"b.cls"}, {"a.txt", "b.cls"}]


def test_jsonl_has_a_line_a_sample(tmp_path: Path) -> None:
    ds = write(tmp_path / "source")
    recordio.export(ds, tmp_path / "out", to="jsonl", base64=True, shard_bytes=3000)
    paths = sorted((tmp_path / "out").iterdir())
    assert paths[0].name == f"data-00000-of-{len(paths):05}.jsonl"
    found = [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines()]
    for row in found:
        row["image"], row["data"] = b64decode(row["image"]), b64decode(row["data"])
    assert found == expected()


def test_jsonl_is_read_back(tmp_path: Path) -> None:
    names = ["label", "text", "score", "flag", "count"]
    write(tmp_path / "source", fields={name: FIELDS[name] for name in names})
    recordio.export(tmp_path / "source", tmp_path / "out", to="jsonl")
    recordio.convert(tmp_path / "out" / "data-00000-of-00001.jsonl", tmp_path / "back")
    assert rows(ShardDataset(tmp_path / "back")) == expected(names=names)


def test_npy_has_a_file_a_field_and_is_read_back(tmp_path: Path) -> None:
    names = ["label", "score", "flag", "count", "grid", "pixels"]
    write(tmp_path / "source", fields={name: FIELDS[name] for name in names})
    recordio.export(tmp_path / "source", tmp_path / "out", to="npy", shard_bytes=100)
    for name in names:
        array = np.load(tmp_path / "out" / f"{name}.npy")
        assert array.dtype == FIELDS[name].dtype
        assert array.tolist() == [row[name] for row in expected()]
        recordio.convert(tmp_path / "out" / f"{name}.npy", tmp_path / name)
        (back,) = ShardDataset(tmp_path / name).take(range(12)).values()
        assert np.array_equal(back, array)


def mds_samples(folder: Path) -> list[dict[str, bytes]]:
    """As the page of the format says it, written from that alone."""
    found = []
    for shard in json.loads((folder / "index.json").read_text())["shards"]:
        data = (folder / shard["raw_data"]["basename"]).read_bytes()
        assert len(data) == shard["raw_data"]["bytes"]
        (count,) = struct.unpack_from("<I", data)
        assert count == shard["samples"]
        offsets = struct.unpack_from(f"<{count + 1}I", data, 4)
        assert offsets[-1] == len(data)
        config = json.loads(data[4 + 4 * (count + 1) : offsets[0]])
        assert config["column_names"] == sorted(config["column_names"]) == shard["column_names"]
        for begin in offsets[:-1]:
            free = [name for name, n in zip(config["column_names"], config["column_sizes"], strict=True) if n is None]
            lengths = dict(zip(free, struct.unpack_from(f"<{len(free)}I", data, begin), strict=True))
            at, sample = begin + 4 * len(free), {}
            for name, size in zip(config["column_names"], config["column_sizes"], strict=True):
                size = lengths[name] if size is None else size
                sample[name] = data[at : at + size]
                at += size
            found.append(sample)
    return found


def test_mds_has_the_bytes_of_each_value(tmp_path: Path) -> None:
    ds = write(tmp_path / "source")
    report = recordio.export(ds, tmp_path / "out", to="mds", shard_bytes=3000)
    assert "MDS has no bools: flag become uint8, 0 and 1" in report.notes
    found = mds_samples(tmp_path / "out")
    for sample, row in zip(found, expected(), strict=True):
        assert (sample["image"], sample["data"], sample["text"].decode()) == (row["image"], row["data"], row["text"])
        assert json.loads(sample["tree"]) == row["tree"]
        for name in ("label", "score", "count"):
            assert np.frombuffer(sample[name], FIELDS[name].dtype).tolist() == [row[name]]
        assert sample["flag"] == bytes([row["flag"]])
        assert np.frombuffer(sample["grid"], "f4").reshape(2, 3).tolist() == row["grid"]
        assert sample["run"][:3] == bytes([2 << 2, len(row["run"]), 2])
        assert np.frombuffer(sample["run"][3:], "i2").reshape(-1, 2).tolist() == row["run"]


def test_pictures_with_labels_become_class_folders_and_are_read_back(tmp_path: Path) -> None:
    fields = {name: FIELDS[name] for name in ("image", "label")}
    ds = write(tmp_path / "source", fields=fields)
    report = recordio.export(ds, tmp_path / "out", to="folder")
    assert report.notes == ()
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*g"))[:2] == [
        "cat/00.jpg",
        "cat/02.jpg",
    ]
    recordio.convert(tmp_path / "out", tmp_path / "back")
    back = ShardDataset(tmp_path / "back", decode=None)
    assert back.metadata["classes"] == ["cat", "dog"]
    order = [*range(0, 12, 2), *range(1, 12, 2)]
    assert rows(back) == expected(order, ["image", "label"])
    recordio.export(back.filter(label=1), tmp_path / "dogs", to="folder")
    assert [path.name for path in (tmp_path / "dogs").iterdir()] == ["dog"]


def test_the_names_of_a_conversion_are_kept_and_others_are_said(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "in" / name / "deep").mkdir(parents=True)
        (tmp_path / "in" / name / f"my {name}.jpg").write_bytes(PICTURES[0])
        (tmp_path / "in" / name / "deep" / "x.png").write_bytes(PICTURES[1])
    recordio.convert(tmp_path / "in", tmp_path / "ds")
    recordio.export(tmp_path / "ds", tmp_path / "out", to="folder")
    every = [{str(p.relative_to(top)) for p in top.rglob("*.*")} for top in (tmp_path / "in", tmp_path / "out")]
    assert every[0] == every[1]
    twice = ShardDataset(tmp_path / "ds", fields=["image", "label", "file"]).select([0, 0, 1])
    report = recordio.export(twice, tmp_path / "twice", to="folder")
    assert any("files are numbered" in note for note in report.notes)


def test_other_samples_become_files_and_a_table_and_are_read_back(tmp_path: Path) -> None:
    names = ["image", "label", "text", "score"]
    write(tmp_path / "source", fields={name: FIELDS[name] for name in names})
    recordio.export(tmp_path / "source", tmp_path / "out", to="folder")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text("utf-8").splitlines()]
    assert [line.pop("file_name") for line in lines[:2]] == ["00.jpg", "01.png"]
    assert lines[0] == {name: value for name, value in expected()[0].items() if name in names[1:]}
    recordio.convert(tmp_path / "out", tmp_path / "back")
    back = ShardDataset(tmp_path / "back", fields=names, decode=None)
    assert rows(back) == expected(names=names)


def test_several_files_of_a_sample_have_columns_of_their_own(tmp_path: Path) -> None:
    fields = {"left": Image(), "right": Image(), "n": Scalar("int64")}
    with recordio.DatasetWriter(tmp_path / "source", fields) as writer:
        writer.write({"left": PICTURES[0], "right": PICTURES[1], "n": 3})
    recordio.export(tmp_path / "source", tmp_path / "out", to="folder")
    (line,) = map(json.loads, (tmp_path / "out" / "metadata.jsonl").read_text().splitlines())
    assert line == {"left_file_name": "0.left.jpg", "right_file_name": "0.right.png", "n": 3}
    assert (tmp_path / "out" / "0.right.png").read_bytes() == PICTURES[1]


@pytest.mark.parametrize("to", ["webdataset", "jsonl"])
def test_a_view_gives_its_samples_in_its_order(tmp_path: Path, to: str) -> None:
    view = ShardDataset(write(tmp_path / "source").store.storage.folder, fields=["text"])  # type: ignore[attr-defined]
    recordio.export(view.select([7, 2]) + view.filter(text="téxt\n5"), tmp_path / "out", to=to)
    if to == "jsonl":
        lines = (tmp_path / "out" / "data-00000-of-00001.jsonl").read_text("utf-8").splitlines()
        found: Any = [json.loads(line)["text"] for line in lines]
    else:
        found = [sample["txt"].decode() for sample in members(tmp_path / "out").values()]
    assert found == ["téxt\n7", "téxt\n2", "téxt\n5"]
