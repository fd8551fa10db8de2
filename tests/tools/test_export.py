"""`recordio export` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recordio.exports.export import FORMATS
from recordio.tools import export
from recordio.tools.main import main


def test_the_command_knows_every_format() -> None:
    assert tuple(FORMATS) == export.FORMATS


def test_an_export_is_announced_with_what_is_left_out(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["export", str(dataset), str(out), "--to", "jsonl", "--fields", "label,words"]) == 0
    text = capsys.readouterr().out
    assert "20 samples in 1 file" in text
    assert "note: the names of the classes are in no file" in text
    lines = (out / "data-00000-of-00001.jsonl").read_text().splitlines()
    assert json.loads(lines[4]) == {"label": 0, "words": None}


def test_json_is_one_line(tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--to", "webdataset", "--shard-bytes", "4096", "--workers", "1", "--json"]
    assert main(["export", str(dataset), str(tmp_path / "out"), *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["samples"], found["to"]) == (20, "webdataset")


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--to", "jsonl"], "--base64"), (["--to", "npy"], "cannot hold image"), (["--to", "odd"], "invalid choice")],
)
def test_what_does_not_fit_is_one_line_and_exit_code_2(
    tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main(["export", str(dataset), str(tmp_path / "out"), *options]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
