"""`recordio cache`."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any

import pytest

from recordio import ShardDataset
from recordio.tools.main import main
from tests.recordio.remote.buckets import Bucket
from tests.recordio.remote.datasets import COUNT, fetched_nbytes, write_dataset


@pytest.fixture(scope="module")
def url(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> str:
    return bucket.upload(write_dataset(tmp_path_factory.mktemp("tool") / "data"), "tool")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: Bucket) -> Path:
    monkeypatch.setenv("RECORDIO_CACHE", os.fspath(tmp_path / "cache"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-the-test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
    gc.collect()
    return tmp_path / "cache"


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["cache", *words]) == code
    return capsys.readouterr().out


def facts(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    found = json.loads(told(capsys, *words, "--json", code=code))
    assert isinstance(found, dict)
    return found


def reached(bucket: Bucket) -> list[str]:
    return ["--storage", f"endpoint={bucket.endpoint}", "--storage", "region=us-east-1"]


def filled(capsys: pytest.CaptureFixture[str], url: str, bucket: Bucket, *words: str) -> dict[str, Any]:
    found = facts(capsys, "fill", url, *reached(bucket), *words)
    gc.collect()  # the dataset is in use no more
    return found


def test_an_empty_cache(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "list") == f"no datasets in {folder}\n"
    assert facts(capsys, "size") == {"folder": str(folder), "nbytes": 0}
    assert facts(capsys, "verify") == {"ok": True, "shards": 0, "pages": 0, "cleared": 0}
    assert facts(capsys, "clear") == {"freed_nbytes": 0, "nbytes": 0}


def test_a_cache_is_filled_listed_and_cleared(
    folder: Path, url: str, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0.4 < filled(capsys, url, bucket, "--fraction", "0.4")["cached"] < 0.9
    assert filled(capsys, url, bucket)["cached"] == 1.0
    [found] = facts(capsys, "list")["datasets"]
    assert found["url"] == f"{url} at {bucket.endpoint}"
    assert not found["in_use"]
    assert found["cached_nbytes"] >= found["nbytes"] > 0
    assert url in told(capsys, "list")
    size = facts(capsys, "size")["nbytes"]
    assert size == found["cached_nbytes"]
    ds = ShardDataset(url, storage=bucket.storage)
    assert facts(capsys, "list")["datasets"][0]["in_use"]
    assert facts(capsys, "clear") == {"freed_nbytes": 0, "nbytes": size}
    assert main(["cache", "clear", url]) == 2
    assert "is in use" in capsys.readouterr().err
    del ds
    gc.collect()
    assert facts(capsys, "clear", url) == {"freed_nbytes": size, "nbytes": 0}
    assert facts(capsys, "list")["datasets"] == []
    assert list((folder / "shards").iterdir()) == []


def test_prune_keeps_within_a_size(folder: Path, url: str, bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    filled(capsys, url, bucket)
    size = facts(capsys, "size")["nbytes"]
    pruned = facts(capsys, "prune", "--to", "100KB")
    assert pruned["nbytes"] <= 100_000
    assert pruned["freed_nbytes"] == size - pruned["nbytes"]
    assert facts(capsys, "prune", "--to", "1GB")["freed_nbytes"] == 0


def test_verify_clears_what_is_damaged(
    folder: Path, url: str, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(capsys, url, bucket)
    assert facts(capsys, "verify")["cleared"] == 0
    page, tail, header, short, lost = sorted((folder / "shards").glob("*.rio"))
    for path, offset in ((page, path_middle(page)), (tail, tail.stat().st_size - 1), (header, 9)):
        data = bytearray(path.read_bytes())
        data[offset] ^= 1
        path.write_bytes(data)
    os.truncate(short, 100)
    lost.with_suffix(".map").write_bytes(b"")
    found = facts(capsys, "verify", code=1)
    assert not found["ok"]
    assert found["shards"] == 5
    assert found["cleared"] > 3
    assert facts(capsys, "verify")["ok"]
    before = fetched_nbytes()
    assert ShardDataset(url, storage=bucket.storage).column("number").tolist() == list(range(COUNT))
    filled(capsys, url, bucket)
    assert fetched_nbytes() > before
    assert facts(capsys, "verify")["ok"]
    assert "OK  5 shards" in told(capsys, "verify")


def path_middle(path: Path) -> int:
    return path.stat().st_size // 2


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "ACTION"),
        (("prune",), "--to"),
        (("prune", "--to", "much"), "not a size"),
        (("clear", "s3://bucket/unknown"), "nothing of this dataset"),
        (("clear", "ftp://x/y"), "no object store"),
        (("fill", "folder"), "on this machine"),
        (("fill", "s3://bucket/tool", "--fraction", "x"), "--fraction"),
    ],
)
def test_wrong_use(folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], error: str) -> None:
    assert main(["cache", *words]) == 2
    assert error in capsys.readouterr().err


def test_a_full_cache_is_said(folder: Path, url: str, bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "fill", url, *reached(bucket), "--limit", "64KiB"]) == 2
    assert "takes nothing more" in capsys.readouterr().err
