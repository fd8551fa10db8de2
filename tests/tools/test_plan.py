"""`recordio plan`; test_pools.py compares what it says with what an epoch asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.reader.loading.epoch_requests import ranges
from recordio.tools.main import main

COUNT, NBYTES = 200, 100_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan") / "data"
    rng = np.random.default_rng(0)
    with recordio.DatasetWriter(folder, {"x": recordio.Bytes()}, block_bytes=1, shard_bytes=50 * NBYTES) as writer:
        for _ in range(COUNT):
            writer.write({"x": rng.bytes(NBYTES)})
    return folder


def facts(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> dict[str, Any]:
    assert main(["plan", str(folder), *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_time_follows_from_bandwidth_or_connections(large: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--window-bytes=2MB", "--lanes=1"]  # no two blocks of a window are neighbours, but for some
    slow = facts(capsys, large, *few, "--bandwidth=1")
    assert slow["bound_by"] == "bandwidth"
    assert slow["seconds"] == pytest.approx(slow["rank"]["nbytes"] / 1e6)
    far = facts(capsys, large, *few, "--latency=1000", "--storage=max_connections=4")
    size = far["rank"]["nbytes"] / far["rank"]["requests"]
    assert far["bound_by"] == "connections"
    assert far["seconds"] == pytest.approx(far["rank"]["requests"] / 4 * (1 + size / 90e6))
    assert far["rank"]["nbytes"] == pytest.approx(slow["nbytes"], rel=0.01)
    assert far["opening_requests"] == 1 + 2 * slow["shards"]


def test_what_it_costs(large: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, large, "--request-price=1000000", "--traffic-price=1000000000", "--ranks=2")
    assert found["request_dollars"] == 2 * (found["rank"]["requests"] + found["opening_requests"])
    assert found["traffic_dollars"] == pytest.approx(2 * found["rank"]["nbytes"])
    assert found["rank"]["samples"] == COUNT // 2


def test_in_order_large_ranges_are_asked_for(large: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, large, "--in-order")
    assert found["rank"]["requests"] < 10
    assert found["rank"]["batches"] == 1


def test_lines_for_people(large: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(large), "--ranks", "3", "--batch-size", "8", "--window-bytes", "1MB"]) == 0
    out = capsys.readouterr().out
    for words in (f"{large}\n", "  data       200 samples, ", "  batches    9 of 8 samples, of each rank", "bound by"):
        assert words in out
    assert "3 ranks do not divide 64 lanes" in out


@pytest.mark.parametrize("words", [["--ranks=0"], ["--batch-size=x"], ["--latency=-1"], ["--bandwidth=nan"]])
def test_numbers_that_are_none(large: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(large), *words]) == 2
    assert "expected a number" in capsys.readouterr().err


def test_an_unknown_field(large: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(large), "--fields=y"]) == 2
    assert "error: " in capsys.readouterr().err


def test_an_empty_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recordio.DatasetWriter(tmp_path / "empty", {"n": recordio.Scalar()}).close()
    assert main(["plan", str(tmp_path / "empty")]) == 0
    assert "0 B in 0 requests" in capsys.readouterr().out


def test_ranges_are_joined_and_cut() -> None:
    begin = np.array([0, 10, 100, 5, 9 << 20])
    end = np.array([10, 20, 110, 8, 10 << 20])
    shard = np.array([0, 0, 0, 1, 1])
    assert list(ranges(shard, begin, end, 50)) == [(0, 20), (100, 110), (5, 8), (9 << 20, 10 << 20)]
    assert list(ranges(shard, begin, end, 16 << 20)) == [(0, 110), (5, 8), (9 << 20, 10 << 20)]
