"""recordio.reshard: the same values in other shards, blocks and codecs; another order, some samples, some fields."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import recordio
from recordio import DatasetError, SchemaError, ShardDataset
from tests.recordio.edit.datasets import files, numbers, rows, sample, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "source", range(40), day=1, conversion={"names": ["text"], "check": False})


def test_values_and_metadata_stay(tmp_path: Path, source: Path) -> None:
    before = files(source)
    report = recordio.reshard(source, tmp_path / "new", compression=None, shard_bytes=6000, block_bytes=4000)
    assert report.samples == 40
    assert report.shards == report.rewritten > 1
    assert ShardDataset(tmp_path / "new").metadata == ShardDataset(source).metadata
    assert "text" not in ShardDataset(tmp_path / "new").schema
    fields = list(sample(0))
    assert rows(ShardDataset(tmp_path / "new", fields=fields)) == [sample(i) for i in range(40)]
    assert recordio.verify(tmp_path / "new").ok
    assert files(source) == before


def test_the_codec_is_the_one_asked_for(tmp_path: Path, source: Path) -> None:
    recordio.reshard(source, tmp_path / "plain", compression=None)
    recordio.reshard(source, tmp_path / "coded", compression="zstd:9")
    sizes = [sum(len(data) for data in files(tmp_path / name).values()) for name in ("plain", "coded")]
    assert sizes[1] < sizes[0]


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path, source: Path) -> None:
    for workers in (1, 3):
        recordio.reshard(source, tmp_path / f"{workers}", shard_bytes=6000, shuffle=1, workers=workers)
    assert files(tmp_path / "1") == files(tmp_path / "3")


def test_a_seed_mixes_all_samples(tmp_path: Path, source: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        recordio.reshard(source, tmp_path / name, shuffle=seed, shard_bytes=6000)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    orders = [numbers(tmp_path / name) for name in "ac"]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(40))


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (lambda ds: ds.filter(lambda c: c["number"] % 3 == 0, fields=["number"]), range(0, 40, 3)),
        (lambda ds: ds.select([5, 1, 5]), [5, 1, 5]),
        (lambda ds: ds.split([0.5, 0.5], seed=3)[0][:4], None),
        (lambda ds: ds[30:] + ds[:2], [*range(30, 40), 0, 1]),
        (lambda ds: ds.filter(number=-1), []),
    ],
)
def test_a_view_gives_its_samples_in_its_order(
    tmp_path: Path, source: Path, view: Callable[[ShardDataset], Any], expected: Any
) -> None:
    found = view(ShardDataset(source, fields=list(sample(0))))
    recordio.reshard(found, tmp_path / "new")
    expected = found.column("number").tolist() if expected is None else expected
    assert rows(ShardDataset(tmp_path / "new", fields=list(sample(0)))) == [sample(i) for i in expected]


def test_fields_are_chosen_and_ordered_by_the_view(tmp_path: Path, source: Path) -> None:
    recordio.reshard(ShardDataset(source, fields=["label", "number"]), tmp_path / "new")
    ds = ShardDataset(tmp_path / "new")
    assert list(ds.schema) == ["label", "number"]
    assert ds.metadata["conversion"] == {"check": False}


def test_what_functions_make_is_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(SchemaError, match="transforms or maps"):
        recordio.reshard(ShardDataset(source).map(dict), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_same_again_does_nothing_and_other_options_need_overwrite(tmp_path: Path, source: Path) -> None:
    recordio.reshard(source, tmp_path / "new")
    before = files(tmp_path / "new")
    assert recordio.reshard(source, tmp_path / "new").done_before
    assert files(tmp_path / "new") == before
    with pytest.raises(DatasetError, match="another dataset here"):
        recordio.reshard(source, tmp_path / "new", compression=None)
    assert recordio.reshard(source, tmp_path / "new", compression=None, overwrite=True).rewritten == 1


def test_a_damaged_result_is_told(tmp_path: Path, source: Path) -> None:
    recordio.reshard(source, tmp_path / "new")
    (tmp_path / "new" / "shard-00000.rio").unlink()
    with pytest.raises(DatasetError, match=r"damaged: shard-00000\.rio is missing"):
        recordio.reshard(source, tmp_path / "new")


def test_progress_ends_at_the_number_of_samples(tmp_path: Path, source: Path) -> None:
    told: list[tuple[int, int]] = []
    recordio.reshard(source, tmp_path / "new", shard_bytes=6000, progress=lambda *one: told.append(one))
    assert told[-1] == (40, 40)


@pytest.mark.parametrize("where", ["source", "source/inner"])
def test_the_destination_is_apart_from_the_source(tmp_path: Path, source: Path, where: str) -> None:
    with pytest.raises(DatasetError, match="the source"):
        recordio.reshard(source, tmp_path / where)
