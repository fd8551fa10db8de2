"""A dry run says what a conversion would make, and writes nothing; the record keeps the options that it was made by."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import recordio
from recordio import Image, Scalar, Schema, SchemaError, ShardDataset, SourceError, Text
from recordio.tools.main import main
from recordio.writer.convert.convert import ConvertPlan, ConvertReport


def photos(folder: Path, count: int = 6) -> Path:
    for k in range(count):
        (folder / f"c{k % 2}").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"c{k % 2}" / f"{k}.png"), np.full((8, 9, 3), k, "u1"))
    return folder


def planned(source: Any, destination: Path, **options: Any) -> ConvertPlan:
    found = recordio.convert(source, destination, dry_run=True, **options)
    assert isinstance(found, ConvertPlan)
    return found


def test_a_plan_says_what_would_be_made(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos")
    (source / "c0" / "notes.doc").write_bytes(b"x")
    plan = planned(source, tmp_path / "out", shard_bytes=150)
    assert (plan.kind, plan.samples, plan.classes) == ("image_folder", 6, ("c0", "c1"))
    assert plan.schema == Schema({"image": Image(), "label": Scalar("int64"), "file": Text(optional=True)})
    assert any("notes.doc" in note or ".doc" in note for note in plan.notes)
    assert not (tmp_path / "out").exists()
    report = recordio.convert(source, tmp_path / "out", shard_bytes=150)
    assert isinstance(report, ConvertReport)
    assert (report.shards, report.samples) == (plan.shards, plan.samples)
    assert plan.nbytes is not None
    assert sum(path.stat().st_size for path in source.rglob("*.png")) <= plan.nbytes < report.nbytes


def test_a_dry_run_leaves_all_as_it_is(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos")
    recordio.convert(source, tmp_path / "out")
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(tmp_path.rglob("*"))}
    assert planned(source, tmp_path / "out", limit=2, overwrite=True).samples == 2
    assert planned(source, tmp_path / "out").samples == 6
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(tmp_path.rglob("*"))} == before


def test_each_split_has_a_plan(tmp_path: Path) -> None:
    photos(tmp_path / "photos" / "train", 4)
    photos(tmp_path / "photos" / "test", 2)
    found = recordio.convert(tmp_path / "photos", tmp_path / "out", dry_run=True)
    assert isinstance(found, dict)
    assert {name: plan.samples for name, plan in found.items()} == {"train": 4, "test": 2}
    assert os.listdir(tmp_path) == ["photos"]


def test_a_plan_of_python_objects(tmp_path: Path) -> None:
    plan = planned([{"n": 1}, {"n": 2}], tmp_path / "out")
    assert (plan.kind, plan.samples, plan.schema) == ("python", 2, Schema({"n": Scalar("int64")}))
    stream = planned(iter([{"n": 1}]), tmp_path / "out")
    assert (stream.samples, stream.shards, stream.nbytes) == (None, None, None)
    assert stream.schema == plan.schema


def test_what_would_be_refused_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        planned(tmp_path / "none", tmp_path / "out")
    (tmp_path / "t.csv").write_text("a\n1\n")
    with pytest.raises(SchemaError, match="resize and quality are for encoded images"):
        planned(tmp_path / "t.csv", tmp_path / "out", resize=9)


def test_the_command_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = photos(tmp_path / "photos")
    assert main(["convert", str(source), str(tmp_path / "out"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    for words in ("image_folder, 6 samples", "classes: 2: c0, c1", f"would become {tmp_path / 'out'}: 1 shard, about "):
        assert words in out
    assert "image  image (JPEG, PNG or WebP bytes, read as RGB)" in out
    assert main(["convert", str(source), str(tmp_path / "out"), "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    (only,) = said["datasets"]
    assert (said["dry_run"], only["samples"], only["shards"], only["split"]) == (True, 6, 1, None)
    assert [entry["name"] for entry in only["schema"]] == ["image", "label", "file"]
    assert not (tmp_path / "out").exists()


RECORDED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a seed of 0": ({"shuffle": 0}, {"shuffle": 0}),
    "a limit": ({"limit": 2}, {"limit": 2}),
    "a kind": ({"kind": "csv"}, {"kind": "csv"}),
    "how a table is read": (
        {"header": False, "columns": ("x", "y"), "missing": "?", "delimiter": ","},
        {"header": False, "columns": ["x", "y"], "missing": ["?"], "delimiter": ","},
    ),
    "a folder of this machine": ({"embed": "a", "root": "."}, {"embed": ["a"], "not_recorded": ["root"]}),
    "nothing of how it is written": ({"shard_bytes": 99, "compression": None, "workers": 1, "on_error": "skip"}, {}),
}


@pytest.mark.parametrize("case", RECORDED)
def test_the_record_keeps_the_options_that_shape_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    given, kept = RECORDED[case]
    Path("t.csv").write_text("a,b\nt.csv,1\nt.csv,2\nt.csv,3\n")
    recordio.convert("t.csv", "out", **given)
    record = ShardDataset("out").metadata.get("conversion", {})
    assert record.get("options", {}) == kept
