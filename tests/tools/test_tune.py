"""`recordio tune`: the loader that it is given, what it prints and draws, and what it says of mistakes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import recordio
from recordio.reader.loading import stages_alone
from recordio.tools.main import main
from tests.tools.commands import printed
from tests.tools.conftest import write

QUICK = ("--seconds", "0.05", "--rounds", "1")
MODULE = """
import time
import recordio

def loader():
    return recordio.DataLoader(recordio.ShardDataset({path!r}, fields=["label", "vector"]).map(slow), 4)

def slow(sample):
    time.sleep(0.001)
    return sample

def step(batch):
    time.sleep(0.005)

def broken(batch):
    raise ValueError("no such layer")

def number():
    return 7

def empty():
    return recordio.DataLoader(recordio.ShardDataset({path!r})[:0])

value = 7
"""


@pytest.fixture(autouse=True)
def quick_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages_alone, "_SECONDS", 0.02)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write(tmp_path / "pets", 40)


@pytest.fixture
def module(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `mine` in the current folder."""
    (tmp_path / "mine.py").write_text(MODULE.format(path=str(plain)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path


def facts(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed("tune", capsys, *words, *QUICK, "--json"))
    return found


def test_a_plain_loader_of_a_dataset(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, plain, "--batch-size", 4, "--fields", "label,vector", "--no-trials")
    assert found["profile"]["headspace"] is None
    assert [one["name"] for one in found["profile"]["stages"]][:2] == ["storage", "checksum"]
    assert found["trials"] == found["advice"] == []


def test_a_loader_and_a_step_of_the_user(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "--loader", "mine:loader", "--step", "mine:step", "--no-trials")
    assert found["profile"]["headspace"] > 1.1  # 4 ms or more beside 5
    assert found["profile"]["bottleneck"] == "map slow"


def test_a_step_of_so_many_milliseconds(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "--loader", "mine:loader", "--step-ms", 4, "--no-trials")
    assert found["profile"]["step_seconds"] >= 0.004


def test_the_table_says_what_was_tried_and_what_to_do(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--loader", "mine:loader", *QUICK, "--picture", "where.svg"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].startswith("headspace")
    assert any(line.split()[:2] == ["map", "slow"] for line in lines)
    assert "without map slow" in out
    assert "advice, the largest gain first:" in lines
    picture = ElementTree.parse(module / "where.svg").getroot()
    words = [one.text for one in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "map slow" in words
    assert "without map slow" in words


def test_a_page_holds_the_picture(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--loader", "mine:loader", *QUICK, "--no-trials", "--picture", "where.html"]) == 0
    text = (module / "where.html").read_text()
    assert text.startswith("<!doctype html>")
    assert "<svg " in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give a dataset, or --loader"),
        (["{plain}", "--loader", "mine:loader"], "give a dataset, or --loader"),
        (["{plain}", "--step", "mine:step", "--step-ms", "4"], "give --step or --step-ms, not both"),
        (["--loader", "mine"], "expected MODULE:FUNCTION"),
        (["--loader", "nowhere:loader"], "there is no module 'nowhere'"),
        (["--loader", "mine:nothing"], "there is no such function in the module"),
        (["--loader", "mine:value"], "it is int 7, no function"),
        (["--loader", "mine:number"], "returned int 7: expected a recordio.DataLoader"),
        (["--loader", "mine:slow"], "TypeError: slow() missing 1 required positional argument"),
        (["--loader", "mine:empty"], "the dataset is empty"),
        (["--loader", "mine:loader", "--step", "mine:broken"], "ValueError: no such layer"),
        (["{plain}", "--picture", "where.png"], "expected a name that ends with .svg or .html"),
        (["{plain}", "--fields", "nothing"], "no field named 'nothing'"),
        (["{plain}x"], "there is no such folder"),
    ],
)
def test_mistakes_are_one_line(
    module: Path, plain: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", *(word.format(plain=plain) for word in words), *QUICK]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("recordio: error: ")
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert "fault of recordio" not in captured.err


def test_an_error_of_the_users_code_says_where_it_is(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--loader", "mine:loader", "--step", "mine:broken", *QUICK]) == 2
    assert f"({module}/mine.py, line 16)" in capsys.readouterr().err


@pytest.mark.torch
def test_a_loader_of_torch_is_taken(module: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open("mine.py", "a") as file:
        file.write(
            "\ndef torchs():\n    import torch\n    from torch.utils.data import DataLoader\n"
            "    return DataLoader(list(range(100)), 4)\n"
        )
    found = facts(capsys, "--loader", "mine:torchs", "--step-ms", 20)
    assert 1 <= found["profile"]["headspace"] < 2
    assert found["bottleneck"] in ("training step", "loader")  # by so short a look
    assert found["profile"]["stages"] == []


def test_the_function_is_public() -> None:
    assert recordio.tune.__module__ == "recordio.tuning.tune"
