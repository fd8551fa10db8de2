"""`recordio diff`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from recordio.tools.main import main


def test_diff_says_the_same_or_what_differs(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(dataset, tmp_path / "copy")
    assert main(["diff", str(dataset), str(copy)]) == 0
    assert capsys.readouterr().out == f"SAME  {dataset} and {copy}: 1 shard with 20 samples\n"
    next(copy.glob("*.rio")).write_bytes(b"")
    assert main(["diff", str(dataset), str(copy)]) == 1
    line, last = capsys.readouterr().out.splitlines()
    assert line.startswith("shard-00000.rio: in the second: the shard has 0 bytes")
    assert last == f"DIFFERENT  {dataset} and {copy}: 1 difference, 0 shards with 0 samples the same"
    assert main(["diff", str(dataset), str(copy), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["differences"][0]["file"] == "shard-00000.rio"
    assert main(["diff", str(dataset), str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
