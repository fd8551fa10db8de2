"""`recordio verify` of a part of a dataset: a sample of its pages, or what was changed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

import recordio
from recordio.tools.main import main
from tests.tools.commands import flip, printed

verified = partial(printed, "verify")


def test_a_sample_says_what_follows_from_it(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = verified(capsys, dataset, "--sample", 3)
    assert out.startswith(f"OK  {dataset}: 3 of ")
    assert " read, 0 damaged: with 95% confidence, 63.16% of all are, at most, in " in out
    flip(dataset)
    problem, last = verified(capsys, dataset, "--sample", 10000, code=1).splitlines()
    assert "page checksum mismatch" in problem
    assert last.endswith(" read, 1 damaged")
    assert (
        json.loads(verified(capsys, dataset, "--sample", 10000, "--json", code=1))["datasets"][0]["sample"]["damaged"]
        == 1
    )


def test_since_takes_what_json_has_printed(
    dataset: Path, split_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, shards in ((dataset, 1), (split_dataset, 1)):
        report = tmp_path / "report.json"
        report.write_text(verified(capsys, path, "--json"))
        for line in verified(capsys, path, "--since", report).splitlines():
            assert line.endswith(f"; {shards} shard as before, not read again")
        again = json.loads(verified(capsys, path, "--since", report, "--json"))
        assert [one["unchanged"] for one in again["datasets"]] == [shards] * len(again["datasets"])


def test_a_quarantine_is_written_and_counted(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(dataset)
    assert verified(capsys, dataset, "--quarantine", code=1).endswith(": 1 problem; 1 block in quarantine\n")
    left = len(recordio.ShardDataset(dataset, on_damage="skip"))
    assert 0 < left < 20
    assert json.loads(verified(capsys, dataset, "--quarantine", "--json", code=1))["datasets"][0]["quarantined"] == 1
    assert main(["verify", str(dataset), "--quarantine", "--quick"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_wrong_reports_are_wrong_use(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "text").write_text("OK")
    (tmp_path / "deep").write_text("[" * 100_000)
    (tmp_path / "quick").write_text(verified(capsys, dataset, "--quick", "--json"))
    for name in ("none", "list.json", "text", "deep", "quick"):
        assert main(["verify", str(dataset), "--since", str(tmp_path / name)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
