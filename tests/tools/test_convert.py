"""`recordio convert`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.tools.convert import nbytes, picture_size
from recordio.tools.main import main
from recordio.tools.progress import Progress
from recordio.writer.convert.convert import ConvertReport
from recordio.writer.sources import KINDS


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of 100 rows."""
    path = tmp_path / "table.csv"
    path.write_text("number,name\n" + "".join(f"{n},row {n}\n" for n in range(100)))
    return path


Capsys = pytest.CaptureFixture[str]


def converted(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    assert main(["convert", *map(str, words)]) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def test_options_say_how_a_table_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_bytes('made by hand\n1\tmère\t?\n2\t"x\t5\n'.encode("cp1252"))
    words = ["--skip-lines", 1, "--encoding", "cp1252", "--delimiter", "tab", "--no-header", "--no-quotes"]
    converted(capsys, tmp_path / "t.csv", tmp_path / "out", *words, "--columns", "id,s,n", "--missing", "?")
    assert list(recordio.ShardDataset(tmp_path / "out")) == [
        {"id": 1, "s": "mère", "n": None},
        {"id": 2, "s": '"x', "n": 5},
    ]
    text = converted(capsys, tmp_path / "t.csv", tmp_path / "out", "--encoding", "none such", code=2)
    assert "encoding is 'none such'" in text


def test_table_options_are_for_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "a.npy", np.arange(3))
    text = converted(capsys, tmp_path / "a.npy", tmp_path / "out", "--delimiter", "tab", code=2)
    assert "are for tables, this is 'npy'" in text


def test_convert_makes_a_dataset_of_a_table(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    announced, first, last = converted(capsys, table, tmp_path / "out").splitlines()
    dataset = recordio.ShardDataset(tmp_path / "out")
    assert dataset.column("number").tolist() == list(range(100))
    assert announced == f"{table}: csv, 100 samples"
    assert first.startswith(f"{tmp_path / 'out'}: 100 samples in 1 shard, ")
    assert first.endswith(f", from {table} (csv)")
    assert last.startswith("100 samples in ")


def test_json_output_is_the_report(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (report,) = json.loads(converted(capsys, table, tmp_path / "out", "--json"))["datasets"]
    size = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.rio"))
    assert report == {
        "split": None,
        "source": str(table),
        "destination": str(tmp_path / "out"),
        "kind": "csv",
        "samples": 100,
        "shards": 1,
        "nbytes": size,
        "skipped": [],
        "dropped": 0,
        "reused": 0,
        "made": 100,
        "done_before": False,
        "notes": [],
    }


def test_every_option_reaches_the_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given: dict[str, Any] = {}

    def convert(**options: Any) -> Any:
        given.update(options)
        return {}

    monkeypatch.setattr(recordio, "convert", convert, raising=False)
    words = (
        "a b --kind csv --split train --compression zstd:7 --shard-bytes 1MiB --block-bytes 64KB --resize 240x320 "
        "--quality 90 --shuffle 7 --limit 5 --on-error skip --workers 2 --embed x --embed y --keep-names --overwrite"
    )
    converted(capsys, *words.split())
    del given["progress"], given["announce"]
    assert given == {
        "source": "a",
        "keep_names": True,
        "destination": "b",
        "kind": "csv",
        "split": "train",
        "compression": "zstd:7",
        "shard_bytes": 1 << 20,
        "block_bytes": 64_000,
        "resize": (240, 320),
        "quality": 90,
        "shuffle": 7,
        "limit": 5,
        "on_error": "skip",
        "workers": 2,
        "embed": ["x", "y"],
        "overwrite": True,
    }
    given.clear()
    converted(capsys, "a", "b")
    assert set(given) == {"source", "destination", "progress", "announce"}


def test_without_ray_its_engine_says_what_to_install(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["convert", str(table), str(tmp_path / "out"), "--engine", "ray"]) == 2
    assert "pip install 'recordio-shards[ray]'" in capsys.readouterr().err


def test_help_names_every_kind(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    out = converted(capsys, "--help")
    (line,) = [line for line in out.splitlines() if "--kind KIND" in line and "what SRC is" in line]
    assert line.partition(": ")[2].replace(" or ", ", ").split(", ") == list(KINDS)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("256MiB", 256 << 20),
        ("64K", 64 << 10),
        ("64kb", 64_000),
        ("1.1MB", 1_100_000),
        ("2 GiB", 2 << 30),
        ("7B", 7),
    ],
)
def test_sizes_accept_units(text: str, size: int) -> None:
    assert nbytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "1XB", "1e9", "MiB", "0.1", "9" * 30, "9" * 400, "٣"])
def test_invalid_size_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a size"):
        nbytes(text)


def test_resize_takes_a_side_or_height_and_width() -> None:
    assert picture_size("256") == 256
    assert picture_size("240x320") == (240, 320)


@pytest.mark.parametrize("text", ["1", "256", "4095", "64.5"])
def test_small_size_needs_a_unit(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"give the unit: {text}MiB, {text}KiB, or {text}B"):
        nbytes(text)
    assert nbytes(f"{text}B") == round(float(text))


@pytest.mark.parametrize("option", ["--shard-bytes", "--block-bytes"])
def test_size_without_a_unit_exits_2(option: str, table: Path, tmp_path: Path, capsys: Capsys) -> None:
    assert "256MiB" in converted(capsys, table, tmp_path / "out", option, "256", code=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("destination", "fault"), [("", "is empty"), ("ftp://host/x", "no object store"), ("s3:///x", "no bucket")]
)
def test_a_destination_that_cannot_be(
    destination: str, fault: str, table: Path, tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert fault in converted(capsys, table, destination, code=2)
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("text", ["", "x", "240x", "x320", "1x2x3", "-5", "2.5", "9999999"])
def test_invalid_resize_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a picture's size"):
        picture_size(text)


@pytest.mark.parametrize(
    "words",
    [
        ["--kind", "nonsense"],
        ["--split", "train"],
        ["--compression", "lz77"],
        ["--shard-bytes", "many"],
        ["--resize", "0"],
        ["--quality", "101"],
        ["--limit", "0"],
        ["--limit", "x"],
        ["--shuffle", "-1"],
        ["--workers", "-1"],
        ["--on-error", "ignore"],
        ["--embed", "nothing"],
    ],
)
def test_invalid_option_exits_2_with_a_message(
    words: list[str], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = converted(capsys, table, tmp_path / "out", *words, code=2)
    assert "error: " in err.splitlines()[-1]
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_missing_source_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = converted(capsys, tmp_path / "nothing", tmp_path / "out", code=2)
    assert err == f"recordio: error: there is no such file or folder - {tmp_path / 'nothing'}\n"


def test_repeated_conversion_reports_the_existing_dataset(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    converted(capsys, table, tmp_path / "out")
    _, line = converted(capsys, table, tmp_path / "out").splitlines()
    assert line.endswith(", was there already")


def test_other_dataset_is_kept_without_overwrite(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    converted(capsys, table, tmp_path / "out")
    assert "--overwrite" in converted(capsys, table, tmp_path / "out", "--limit", 5, code=2)
    assert len(recordio.ShardDataset(tmp_path / "out")) == 100
    converted(capsys, table, tmp_path / "out", "--limit", 5, "--overwrite")
    assert len(recordio.ShardDataset(tmp_path / "out")) == 5


def test_convert_reports_each_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, count in (("train", 3), ("test", 2)):
        for number in range(count):
            path = tmp_path / "notes" / split / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("words")
    reports = json.loads(converted(capsys, tmp_path / "notes", tmp_path / "out", "--json"))["datasets"]
    assert [(report["split"], report["samples"]) for report in reports] == [("train", 3), ("test", 2)]
    out = converted(capsys, tmp_path / "notes", tmp_path / "one", "--split", "test")
    assert f"\n{tmp_path / 'one'}: 2 samples" in out


def test_every_skip_is_listed_and_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"file": "good.bin"}\n{"file": "\\u001b[2Jgone.bin"}\n')
    (tmp_path / "good.bin").write_bytes(b"data")
    out = converted(capsys, path, tmp_path / "out", "--embed", "file", "--on-error", "skip")
    assert "  1 sample skipped\n" in out
    assert any(line.startswith("  skipped ") and "gone.bin" in line for line in out.splitlines())
    assert all(line.isprintable() for line in out.split("\n"))
    (skip,) = json.loads(converted(capsys, path, tmp_path / "2", "--embed", "file", "--on-error", "skip", "--json"))[
        "datasets"
    ][0]["skipped"]
    assert set(skip) == {"name", "reason"}


def test_control_characters_from_data_are_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = "\x1b[2J"
    report = ConvertReport(bad, bad, "csv", 1, 1, 100, skipped=((bad, bad),), notes=(bad,))
    monkeypatch.setattr(recordio, "convert", lambda **options: report, raising=False)
    for out in (converted(capsys, "a", "b"), converted(capsys, "a", "b", "--json")):
        assert out.count("x1b[2J") + out.count("u001b[2J") == 5
        assert all(line.isprintable() for line in out.split("\n"))


def test_unreadable_input_stops_the_conversion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"file": "gone.bin"}\n')
    assert "gone.bin" in converted(capsys, path, tmp_path / "out", "--embed", "file", code=2)


def test_same_command_resumes_after_ctrl_c(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "rows.npy", np.arange(40_000).reshape(10_000, 4))
    words = (tmp_path / "rows.npy", tmp_path / "out", "--shard-bytes", "32KiB", "--workers", "1")

    def stop(progress: Progress, done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "__call__", stop)
        err = converted(capsys, *words, code=130)
    assert err == "recordio: stopped: what is finished is kept; run the same command to go on\n"
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert "finished by an earlier run" in converted(capsys, *words)
    assert len(recordio.ShardDataset(tmp_path / "out")) == 10_000


def test_what_an_earlier_run_made_is_not_counted(tmp_path: Path, capsys: Capsys) -> None:
    rows = "".join(f'{{"n": {n}}}\n' for n in range(2000))
    (tmp_path / "rows.jsonl").write_text(rows + "not JSON\n")
    words = (tmp_path / "rows.jsonl", tmp_path / "out", "--shard-bytes", "4096", "--workers", "1")
    err = converted(capsys, *words, code=2)
    assert "rows.jsonl line 2001" in err
    assert "--on-error skip" in err
    assert "what is finished is kept" in err
    (report,) = json.loads(converted(capsys, *words, "--on-error", "skip", "--json"))["datasets"]
    assert (report["samples"], report["shards"] - report["reused"]) == (2000, 1)
    assert report["made"] < 1000


def test_what_an_earlier_run_made_is_not_in_the_rate(
    tmp_path: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = ConvertReport("a", "b", "csv", 1000, 10, 100, reused=9, made=70)
    monkeypatch.setattr(recordio, "convert", lambda **options: report, raising=False)
    assert converted(capsys, "a", "b").splitlines()[-1].startswith("70 samples in ")


def test_worker_processes_start_from_the_command_line(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.arange(40_000).reshape(10_000, 4))
    words = ["convert", "rows.npy", "out", "--shard-bytes", "128KiB", "--workers", "2", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "recordio", *words], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["datasets"][0]["samples"] == 10_000
