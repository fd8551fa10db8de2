"""`recordio repair`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

import recordio
from recordio.tools.main import main
from tests.tools.commands import flip, printed

repaired = partial(printed, "repair")


def test_a_good_dataset_is_said_to_be_good(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = repaired(capsys, dataset, code=0)
    assert out.startswith(f"OK  {dataset}: 1 shard, ")
    assert out.endswith("; nothing is lost\n")


def test_what_is_lost_is_named_by_block_and_sample(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(dataset)
    before = {path: path.read_bytes() for path in dataset.iterdir()}
    lost, last = repaired(capsys, dataset, code=1).splitlines()
    assert lost.startswith("lost: shard-00000.rio, block 0, samples 0 to ")
    assert "page checksum mismatch" in lost
    assert lost.endswith(", field 'image'")
    assert last.startswith(f"{dataset} can be repaired: 1 shard, ")
    assert {path: path.read_bytes() for path in dataset.iterdir()} == before


def test_a_new_dataset_and_one_in_place_have_what_is_left(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(dataset)
    report = json.loads(repaired(capsys, dataset, tmp_path / "new", "--json", code=1))
    assert report["samples"] + report["lost_samples"] == 20
    assert len(recordio.ShardDataset(tmp_path / "new")) == report["samples"]
    assert " is repaired: " in repaired(capsys, dataset, "--in-place", code=1)
    assert len(recordio.ShardDataset(dataset)) == report["samples"]
    assert repaired(capsys, dataset, "--in-place", code=0).startswith("OK")


def test_another_copy_gives_everything_back(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repaired(capsys, dataset, tmp_path / "copy", code=0)
    before = {path.name: path.read_bytes() for path in dataset.iterdir()}
    (shard,) = dataset.glob("*.rio")
    data = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(data[:1000])
    (dataset / "manifest.json").unlink()
    out = repaired(capsys, dataset, "--in-place", "--from", tmp_path / "copy", code=0)
    assert "manifest: there is no manifest.json; it is made anew" in out
    assert f"from {tmp_path / 'copy'}/shard-00000.rio" in out or "found in" in out
    assert {path.name: path.read_bytes() for path in dataset.iterdir()} == before


def test_wrong_use_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([tmp_path], [tmp_path / "none"], [tmp_path, tmp_path], [tmp_path, tmp_path / "x", "--in-place"]):
        assert main(["repair", *map(str, words)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1


def test_names_from_a_hostile_dataset_are_escaped(hostile_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shard,) = hostile_dataset.glob("*.rio")
    data = bytearray(shard.read_bytes())
    data[-600] ^= 1
    shard.write_bytes(data)
    assert main(["repair", str(hostile_dataset)]) == 1
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
