"""`recordio bench`: what it measures, prints, and says of mistakes."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.reader.loading import stages_alone
from recordio.tools.main import main
from recordio.tuning import bench as benched, held
from recordio.tuning.device import drop, read_rate
from tests.tools.commands import flip, printed
from tests.tools.conftest import write

QUICK = ("--seconds", "0.02", "--rounds", "2", "--batch-size", "8")


@pytest.fixture(autouse=True)
def quick_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages_alone, "_SECONDS", 0.01)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return write(tmp_path / "pets", 40)


def facts(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed("bench", capsys, *words, *QUICK, "--json"))
    return found


def test_every_path_is_measured(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, pets, "--workers", "0,1", "--no-cold")
    paths = [(one["path"], one["workers"]) for one in found["speeds"]]
    assert paths == [
        ("in order", "no workers"),
        ("shuffled", "no workers"),
        ("shuffled", "1 thread"),
        ("shuffled", "1 process"),
        ("random batches", "no workers"),
        ("one sample", "no workers"),
    ]
    for one in found["speeds"]:
        assert 0 < one["lowest"] <= one["rate"] <= one["highest"]
        assert 0 < one["batch_seconds"] <= one["slow_batch_seconds"]
    assert found["samples"] == 40
    assert found["machine"]["CPUs"] >= 1


def test_epochs_are_held_against_the_slowest_stage(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, pets, "--workers", "0", "--no-cold", "--fields", "image,label")
    limits = {one["name"]: one["rate"] for one in found["limits"]}
    slowest = min((name for name in limits if name != "system's cache"), key=limits.__getitem__)
    assert slowest == "image decoding"
    for one in found["speeds"][:2]:
        assert one["limit"] == slowest
        assert one["of_limit"] == pytest.approx(one["rate"] / limits[slowest])
        assert one["first_batch_seconds"] > 0
    assert found["speeds"][2]["limit"] == ""


def test_cold_epochs_are_held_against_the_device(
    pets: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[int] = []

    def forget(paths: Sequence[Path]) -> float:
        dropped.append(len(paths))
        return 0.0

    monkeypatch.setattr(benched, "drop", forget)
    found = facts(capsys, pets, "--workers", "0")
    cold = [one for one in found["speeds"] if one["cold"]]
    assert [one["path"] for one in cold] == ["in order", "shuffled"]
    assert {one["limit"] for one in cold} == {"device"}
    assert found["limits"][0]["nbytes_per_second"] > 0
    assert dropped == [1] * 6  # before the device is read, and before each epoch, in both rounds


def test_files_that_stay_in_the_cache_are_not_called_cold(
    pets: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benched, "drop", lambda paths: 0.5)
    found = facts(capsys, pets, "--workers", "0")
    assert not any(one["cold"] for one in found["speeds"])
    assert found["notes"] == ["not measured cold: the system keeps 50% of the files in its cache"]


def test_a_table_for_people(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(pets), *QUICK, "--workers", "2", "--no-cold", "--fields", "label"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(pets)
    assert lines[1].startswith("  data      40 samples")
    head = next(line for line in lines if line.startswith("path"))
    assert head.split()[:4] == ["path", "files", "workers", "samples/s"]
    assert any(line.startswith("shuffled") and "2 threads" in line for line in lines)
    assert any(line.startswith("gathering") for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{tmp}/nowhere"], "there is no such folder"),
        (["{pets}", "--fields", "nope"], "no field named 'nope'"),
        (["{pets}", "--workers", "many"], "expected a number from 0 to 256"),
        (["{pets}", "--seconds", "0"], "expected a number above 0"),
        (["{empty}"], "the dataset is empty: there is nothing to measure"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], said: str, pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with recordio.DatasetWriter(tmp_path / "empty", recordio.Schema({"x": recordio.Scalar("int64")})):
        pass
    places = {"tmp": tmp_path, "pets": pets, "empty": tmp_path / "empty"}
    assert main(["bench", *(word.format(**places) for word in words)]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_damage_ends_it_with_its_own_code(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(pets)
    assert main(["bench", str(pets), *QUICK, "--no-cold", "--workers", "0"]) == 1
    assert "image" in capsys.readouterr().err


def test_memory_is_seen_while_it_is_held() -> None:
    with held.watched() as found:
        taken = bytearray(os.urandom(1 << 16) * 512)
        while found.nbytes is not None and found.nbytes < 30 << 20:
            pass
    assert len(taken) == 32 << 20
    assert found.nbytes is None or 30 << 20 <= found.nbytes


def test_files_are_read_whole_and_dropped(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(bytes(3 << 20))
    assert read_rate(paths, 10) > 0
    kept = drop(paths)
    assert kept is None or 0 <= kept <= 1


def test_fields_without_a_byte_have_no_limit_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with recordio.DatasetWriter(
        tmp_path / "it", {"a": recordio.Array("int32", (0,)), "b": recordio.Scalar("int8")}
    ) as it:
        for n in range(30):
            it.write({"a": np.empty(0, np.int32), "b": n})
    found = facts(capsys, tmp_path / "it", "--fields", "a", "--workers", "0", "--no-cold")
    assert len(found["speeds"]) == 4


def test_few_times_are_kept_of_many_reads(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benched, "_MOST_TIMES", 5)
    found = benched.bench(lambda: recordio.ShardDataset(pets), seconds=0.05, rounds=1, workers=[0], cold=False)
    assert all(one.rate > 0 for one in found.speeds)


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no folder in memory here")
def test_files_in_memory_are_never_cold(pets: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        copied = shutil.copytree(pets, Path(folder) / "it")
        assert drop(sorted(copied.glob("*.rio"))) == 1.0
