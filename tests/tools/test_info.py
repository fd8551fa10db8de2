"""`recordio info`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.format.manifest import FILE_NAME
from recordio.tools import info
from recordio.tools.main import main
from tests.photos import encode, photo


def output_of(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["info", *map(str, words)]) == 0
    return capsys.readouterr().out


def facts(capsys: pytest.CaptureFixture[str], path: Path) -> dict[str, Any]:
    (only,) = json.loads(output_of(capsys, path, "--json"))["datasets"]
    assert isinstance(only, dict)
    return only


def test_info_describes_a_dataset(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = output_of(capsys, dataset)
    nbytes = sum(path.stat().st_size for path in dataset.glob("*.rio"))
    for words in (f"{dataset}\n", "20 in 1 shard, ", f"({nbytes:,} bytes)", "2: cat, dog", "version 1, dataset id "):
        assert words in out
    row, statistics = [line.split() for line in out.splitlines() if line.startswith("  vector")]
    assert row[:4] == ["vector", "float32[4]", row[2], "B"]
    assert statistics[:3] == ["vector", "20", "values,"]
    assert "text, optional" in out


def test_info_shows_statistics_or_that_there_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with recordio.DatasetWriter(tmp_path / "x") as writer:
        for n in range(4):
            writer.write({"label": n % 2, "text": "\x1b[31m" * n, "score": None if n else 0.5, "ids": np.arange(n)})
    out = output_of(capsys, tmp_path / "x")
    for words in (
        "label  4 values, 0 to 1, mean 0.5 ± 0.5, 2 different",
        "text   4 values, 0 B to 15 B (mean 8 B)",
        "score  1 value, 3 missing, 0.5",
        "ids    4 values, 0 to 3 (mean 1.5) elements, 6 in all, 0 to 2, mean 0.6667 ± 0.7454, 3 different",
    ):
        assert words in out
    label = facts(capsys, tmp_path / "x")["statistics"]["fields"]["label"]
    assert (label["count"], label["values"]) == (4, [[0, 2], [1, 2]])
    manifest = recordio.ShardDataset(tmp_path / "x").store.manifest
    (tmp_path / "x" / FILE_NAME).write_bytes(replace(manifest, statistics=None).encode())
    assert "no statistics: the dataset was written without" in output_of(capsys, tmp_path / "x")
    assert facts(capsys, tmp_path / "x")["statistics"] is None


def test_json_has_the_figures(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, dataset)
    manifest = recordio.ShardDataset(dataset).store.manifest
    assert found["split"] is None
    assert found["path"] == str(dataset)
    assert (found["samples"], found["shards"], found["measured_shards"]) == (20, 1, 1)
    assert found["dataset_id"] == manifest.dataset_id.hex()
    assert found["metadata"] == {"classes": ["cat", "dog"]}
    vector = found["schema"][3]
    assert (vector["name"], vector["dtype"], vector["shape"]) == ("vector", "float32", [4])
    assert vector["content_nbytes"] == 20 * 4 * 4


def test_field_sizes_add_up_to_the_content(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, dataset)
    assert sum(field["content_nbytes"] for field in found["schema"]) == found["content_nbytes"]
    assert sum(field["stored_nbytes"] for field in found["schema"]) <= found["nbytes"]


@pytest.mark.parametrize(("compression", "codecs", "words"), [(None, ["plain"], "none"), ("zstd", ["zstd"], "zstd, ")])
def test_compression_is_read_from_the_pages(
    compression: str | None, codecs: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with recordio.DatasetWriter(tmp_path / "x", compression=compression) as writer:
        writer.write_batch({"zeros": np.zeros((1000, 8))})
    assert facts(capsys, tmp_path / "x")["schema"][0]["codecs"] == codecs
    assert f"  compression   {words}" in output_of(capsys, tmp_path / "x")


def test_info_lists_splits_in_order(split_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datasets = json.loads(output_of(capsys, split_dataset, "--json"))["datasets"]
    assert [(one["split"], one["samples"]) for one in datasets] == [("train", 20), ("test", 6)]
    out = output_of(capsys, split_dataset)
    assert out.index(str(split_dataset / "train")) < out.index(str(split_dataset / "test"))


def test_sizes_of_many_shards_are_sampled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(info, "MEASURED_SHARDS", 2)
    with recordio.DatasetWriter(tmp_path / "x", shard_samples=1000, block_bytes=8000) as writer:
        for shard in range(5):  # only the middle one is worth coding
            writer.write_batch({"noise": np.random.default_rng(shard).random(1000) * (shard != 2)})
    assert "(the sizes are those of 2 of the 5 shards)" in output_of(capsys, tmp_path / "x")
    (field,) = facts(capsys, tmp_path / "x")["schema"]
    assert (field["content_nbytes"], field["codecs"]) == (2 * 1000 * 8, ["plain", "zstd"])


def test_long_metadata_is_shortened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = {"classes": [f"n{i}" for i in range(1000)], "note": "x" * 999} | {f"key{i}": i for i in range(50)}
    with recordio.DatasetWriter(tmp_path / "x", recordio.Schema({"a": recordio.Text()}), metadata=metadata):
        pass
    out = output_of(capsys, tmp_path / "x")
    assert "1,000: n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, ...\n" in out
    assert "32 more in the metadata" in out
    assert max(map(len, out.splitlines()[1:])) <= 80


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_control_characters_from_data_are_escaped(
    json_option: list[str], hostile_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = output_of(capsys, hostile_dataset, *json_option)
    assert "pwned" in out
    assert all(line.isprintable() for line in out.split("\n"))


def test_missing_shard_is_damage(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shard,) = dataset.glob("*.rio")
    shard.unlink()
    assert main(["info", str(dataset)]) == 1
    assert capsys.readouterr().err == "recordio: error: the shard is missing - shard-00000.rio\n"


def test_path_without_a_dataset_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.startswith("recordio: error: not a recordio dataset")


@pytest.mark.parametrize("command", ["info", "show"])
def test_damaged_split_is_named(split_dataset: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    shard = split_dataset / "train/shard-00000.rio"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert main([command, str(split_dataset)]) == 1
    assert "dataset 'train', shard-00000.rio" in capsys.readouterr().err


def test_what_a_conversion_left_out_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f'{{"n": {n}}}\n' for n in range(9)) + "not JSON\n" * 30
    (tmp_path / "t.jsonl").write_text(rows)
    words = ["convert", str(tmp_path / "t.jsonl"), str(tmp_path / "out"), "--on-error", "skip"]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert main(words) == 0
    again = capsys.readouterr().out
    skipped = [line for line in first.splitlines() if line.startswith("  skipped ")]
    assert len(skipped) == 30
    assert [line for line in again.splitlines() if line.startswith("  skipped ")] == skipped
    assert main(["info", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "30 of the inputs, which could not be read" in out
    assert "t.jsonl line 10: " in out
    assert "--json lists more" in out
    assert main(["info", "--json", str(tmp_path / "out")]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["datasets"]
    assert len(facts["metadata"]["conversion"]["skipped_inputs"]) == 30


@pytest.mark.parametrize("record", [{"skipped": [1]}, {"skipped_inputs": 7}, {"notes": {"a": 1}, "x\x1b": None}, {}])
def test_a_strangers_record_of_a_conversion_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], record: object
) -> None:
    with recordio.DatasetWriter(tmp_path / "x", metadata={"conversion": record}) as writer:
        writer.write({"a": 1})
    assert main(["info", str(tmp_path / "x")]) == 0
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


def test_the_names_of_files_are_shown_and_read_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "1.jpg").write_bytes(encode(photo()))
    recordio.convert(tmp_path / "in", tmp_path / "out")
    assert [entry["name"] for entry in facts(capsys, tmp_path / "out")["schema"]] == ["image", "label", "file"]
    out = output_of(capsys, tmp_path / "out")
    assert "  on request    file\n" in out
    assert main(["show", "--json", str(tmp_path / "out")]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["sample"]["file"].startswith("cat/")
