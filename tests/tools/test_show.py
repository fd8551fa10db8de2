"""`recordio show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import recordio
from recordio.tools.main import main


def shown(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    assert main(["show", *map(str, words)]) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def test_show_prints_a_line_per_field(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = len(next(iter(recordio.ShardDataset(dataset, decode=None)))["image"])
    assert shown(capsys, dataset, "--index", 1).splitlines() == [
        f"{dataset}: 20 samples",
        "",
        "sample 1",
        f"  image   png 8 x 16, {size} B",
        "  label   1 (dog)",
        '  words   "sample 1"',
        "  vector  float32[4] min 1 max 4: 1 2 3 4",
    ]


def test_show_prints_the_first_samples_by_default(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, dataset)
    assert [line for line in out.splitlines() if line.startswith("sample")] == ["sample 0", "sample 1", "sample 2"]


def test_count_stops_at_the_end(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, dataset, "--count", 99, "--json").count("\n") == 20
    assert shown(capsys, dataset, "--count", 0, "--json") == ""


def test_negative_index_counts_from_the_end(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, dataset, "--index", -1)
    assert "sample 19\n" in out
    assert "words   none" in out


@pytest.mark.parametrize("index", [20, -21, 10**30])
def test_index_out_of_range_exits_2(index: int, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"no sample {index}" in shown(capsys, dataset, "--index", index, code=2)


def test_index_and_count_exclude_each_other(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not allowed with" in shown(capsys, dataset, "--index", 1, "--count", 2, code=2)


def test_fields_are_shown_in_the_order_asked_for(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, dataset, "--index", 0, "--fields", "words,label").splitlines()
    assert lines[3:] == ['  words  "sample 0"', "  label  0 (cat)"]


def test_unknown_field_exits_2(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, dataset, "--fields", "nothing", code=2).startswith("recordio: error: no field named 'nothing'")


def test_show_json_prints_an_object_per_line(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *rest = shown(capsys, dataset, "--json").splitlines()
    assert len(rest) == 2
    size = len(recordio.ShardDataset(dataset, decode=None)[0]["image"])
    sample = {"image": {"bytes": size}, "label": 0, "words": "sample 0", "vector": [0.0, 1.0, 2.0, 3.0]}
    assert json.loads(first) == {"split": None, "index": 0, "sample": sample}


def test_show_prints_each_split(split_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in shown(capsys, split_dataset, "--json", "--count", 2).splitlines()]
    assert [(line["split"], line["index"]) for line in lines] == [("train", 0), ("train", 1), ("test", 0), ("test", 1)]
    assert shown(capsys, split_dataset / "test").startswith(f"{split_dataset / 'test'}: 6 samples")


def test_no_line_is_wider_than_the_terminal(
    hostile_dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, shown(capsys, hostile_dataset).splitlines()[1:])) <= 60


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_control_characters_from_data_are_escaped(
    json_option: list[str], hostile_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, hostile_dataset, *json_option)
    assert "pwned" in out
    assert all(line.isprintable() for line in out.split("\n"))


def test_show_accepts_an_empty_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with recordio.DatasetWriter(tmp_path / "empty", recordio.Schema({"a": recordio.Text()})):
        pass
    assert shown(capsys, tmp_path / "empty") == f"{tmp_path / 'empty'}: 0 samples\n"


def test_path_without_a_dataset_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, tmp_path, code=2).startswith("recordio: error: not a recordio dataset")


def test_damaged_sample_exits_1(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shard,) = dataset.glob("*.rio")
    data = bytearray(shard.read_bytes())
    data[data.index(b"\x89PNG")] ^= 1
    shard.write_bytes(data)
    err = shown(capsys, dataset, "--index", 0, code=1)
    assert err.startswith("recordio: error: ")
    assert "shard-00000.rio, block 0" in err
    assert err.count("\n") == 1
