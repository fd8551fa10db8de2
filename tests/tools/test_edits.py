"""`recordio merge`, `append`, `reshard` and `split` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import recordio
from recordio import ShardDataset
from recordio.tools.main import main
from tests.tools.conftest import write


def test_merge_and_append(tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = write(tmp_path / "more", 6)
    assert main(["merge", str(tmp_path / "all"), str(dataset), str(more)]) == 0
    out = capsys.readouterr().out
    assert "26 samples in 2 shards" in out
    assert "2 shards copied, 0 written anew" in out
    assert main(["append", str(dataset), str(more)]) == 0
    assert len(ShardDataset(dataset)) == 26
    capsys.readouterr()
    assert main(["append", str(dataset), str(more), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["datasets"]
    assert found["done_before"]
    assert found["samples"] == 26


def test_info_says_where_samples_came_from(tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recordio.merge(tmp_path / "all", [dataset, write(tmp_path / "more", 6)])
    assert main(["info", str(tmp_path / "all")]) == 0
    out = capsys.readouterr().out
    assert "pets: 20 samples" in out
    assert "more: 6 samples" in out


def test_info_survives_any_record_of_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = {"conversion": {"sources": ["\x1b[2J", {"name": {}, "samples": []}]}}
    with recordio.DatasetWriter(tmp_path / "odd", metadata=metadata) as writer:
        writer.write({"x": 1})
    assert main(["info", str(tmp_path / "odd")]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_merging_what_differs_is_one_line_and_exit_code_2(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with recordio.DatasetWriter(tmp_path / "other") as writer:
        writer.write({"x": 1})
    assert main(["merge", str(tmp_path / "all"), str(dataset), str(tmp_path / "other")]) == 2
    err = capsys.readouterr().err
    assert "differ in their fields" in err
    assert "Traceback" not in err


def test_reshard_by_conditions_fields_and_codec(tmp_path: Path, dataset: Path) -> None:
    new = tmp_path / "new"
    options = ["--where", "label=1", "--fields", "words,label", "--compression", "none", "--shard-bytes", "1MiB"]
    assert main(["reshard", str(dataset), str(new), *options]) == 0
    ds = ShardDataset(new)
    assert list(ds.schema) == ["words", "label"]
    assert ds.column("label").tolist() == [1] * 10


def test_a_condition_may_be_text_any_of_several_and_of_a_field_that_is_left_out(tmp_path: Path, dataset: Path) -> None:
    new = tmp_path / "new"
    where = ["--where", "words=sample 3", "--where", "words=sample 5", "--where", "label=1", "--fields", "label"]
    assert main(["reshard", str(dataset), str(new), *where]) == 0
    assert len(ShardDataset(new)) == 2


@pytest.mark.parametrize(
    ("where", "words"),
    [("label", "not a condition"), ("nothing=1", "no field named"), ("label=cat", "no value"), ("image=1", "no value")],
)
def test_a_wrong_condition_is_named(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str], where: str, words: str
) -> None:
    assert main(["reshard", str(dataset), str(tmp_path / "new"), "--where", where]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_split(tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = ["--parts", "train=0.8,val=0.2", "--seed", "3", "--stratify", "label"]
    assert main(["split", str(dataset), str(tmp_path / "it"), *parts]) == 0
    assert "val: 4 samples in 1 shard" in capsys.readouterr().out
    assert ShardDataset(tmp_path / "it" / "val").column("label").tolist().count(1) == 2


@pytest.mark.parametrize("parts", ["train", "train=x", "a=0.5,a=0.5"])
def test_wrong_parts_are_named(tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str], parts: str) -> None:
    assert main(["split", str(dataset), str(tmp_path / "it"), "--parts", parts]) == 2
    assert "part" in capsys.readouterr().err
