"""Conversion by columns: the same bytes as sample by sample, for any number of workers, stopped or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recordio
from recordio import SourceError, convert
from tests.writer.convert.test_stopped import contents, made, stop_after

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
arrow_tables = pytest.importorskip("recordio.writer.sources.arrow.arrow_tables")

ROWS = 600


def table(rows: int = ROWS) -> Any:
    random = np.random.default_rng(0)
    return pa.table(
        {
            "n": np.arange(rows),
            "x": random.random(rows, np.float32),
            "score": pa.array([None if k % 7 == 3 else k / 8 for k in range(rows)]),
            "flag": random.random(rows) < 0.5,
            "text": [f"row {k} " * (k % 5) for k in range(rows)],
            "word": pa.array([f"class {k % 3}" for k in range(rows)]).dictionary_encode(),
            "tokens": [list(range(k % 9)) for k in range(rows)],
            "pair": pa.array([[k, k + 1] for k in range(rows)], pa.list_(pa.int16(), 2)),
            "about": [{"k": k, "tags": ["a"] * (k % 3)} for k in range(rows)],
        }
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "tables"
    root.mkdir()
    for number in range(3):
        part = table().slice(200 * number, 200)
        parquet.write_table(part, root / f"part-{number}.parquet", row_group_size=64)
    return root


def by_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the source offer no columns."""
    monkeypatch.setattr(arrow_tables.ArrowTable, "batches", lambda self, indices: None)


@pytest.mark.parametrize("shuffle", [None, 3])
@pytest.mark.parametrize("shard_bytes", [3_000, 1 << 20])
def test_the_same_bytes_as_sample_by_sample(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, shuffle: int | None, shard_bytes: int
) -> None:
    options: dict[str, Any] = {"shuffle": shuffle, "shard_bytes": shard_bytes, "block_bytes": 2048}
    columns = made(source, tmp_path / "columns", **options)
    by_samples(monkeypatch)
    samples = made(source, tmp_path / "samples", **options)
    assert columns.shards == samples.shards
    assert contents(tmp_path / "columns") == contents(tmp_path / "samples")
    dataset = recordio.ShardDataset(tmp_path / "columns")
    order = np.argsort(dataset.column("n"))
    assert np.array_equal(dataset.column("x")[order], table()["x"].to_numpy())
    assert [dataset[int(k)]["about"] for k in order] == table()["about"].to_pylist()


@pytest.mark.slow
@pytest.mark.timeout(180)  # each process imports PyArrow
def test_any_number_of_workers_makes_the_same(tmp_path: Path, source: Path) -> None:
    made(source, tmp_path / "one", shard_bytes=3_000)
    made(source, tmp_path / "many", shard_bytes=3_000, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


def test_a_conversion_that_was_stopped_goes_on_to_the_same(tmp_path: Path, source: Path) -> None:
    made(source, tmp_path / "whole", shard_bytes=3_000)
    with pytest.raises(Exception, match=r"^$"):
        made(source, tmp_path / "stopped", shard_bytes=3_000, progress=stop_after(2))
    report = made(source, tmp_path / "stopped", shard_bytes=3_000)
    assert 0 < report.reused < report.shards
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_another_file_leaves_the_shards_of_the_others(tmp_path: Path, source: Path) -> None:
    bad = source / "part-2.parquet"
    good = bad.read_bytes()
    data = bytearray(good)
    data[4:200] = bytes(196)
    bad.write_bytes(data)
    with pytest.raises(SourceError, match=r"part-2\.parquet"):
        made(source, tmp_path / "d", shard_bytes=3_000)
    bad.write_bytes(good)
    report = made(source, tmp_path / "d", shard_bytes=3_000)
    assert report.reused > 0
    assert recordio.ShardDataset(tmp_path / "d").column("n").tolist() == list(range(ROWS))


def test_a_row_that_cannot_be_read_is_named_and_skipped(tmp_path: Path) -> None:
    texts = pa.array([b"good", b"\xff", b"fine"], pa.binary())
    bad = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    parquet.write_table(pa.table({"x": bad}), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=r"Invalid UTF8.* - t\.parquet row 1, field 'x'"):
        convert(tmp_path / "t.parquet", tmp_path / "d")
    report = made(tmp_path / "t.parquet", tmp_path / "d", on_error="skip")
    assert [name for name, _ in report.skipped] == ["t.parquet row 1"]
    assert recordio.ShardDataset(tmp_path / "d").column("x") == ["good", "fine"]


def test_progress_counts_every_sample(tmp_path: Path, source: Path) -> None:
    seen: list[tuple[int, int]] = []
    made(source, tmp_path / "d", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (ROWS, ROWS)
    assert len(seen) > 3
