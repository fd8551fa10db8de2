"""Open shards: each page of a wide block is checked once, and costs no more than that."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from recordio import CorruptError, DatasetWriter, Scalar, Schema, ShardDataset, Text
from recordio.reader import open_shard
from recordio.reader.open_shard import OpenShard
from tests.faults.reading import open_files
from tests.faults.test_hostile_pages import FRAMES, coded

FIELDS, ROWS, BLOCK = 200, 12, 4  # a text after every nine numbers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wide")
    schema = Schema({f"f{k}": Text() if k % 10 == 9 else Scalar("int32") for k in range(FIELDS)})
    rows = [{name: str(i) if kind == Text() else i for name, kind in schema.items()} for i in range(ROWS)]
    with DatasetWriter(path, schema, compression=None, block_bytes=BLOCK * 740) as writer:
        for row in rows:
            writer.write(row)
    assert ShardDataset(path).store.manifest.shards[0].runs == ((BLOCK, ROWS // BLOCK),)
    return path


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by a checksum for each one that is computed."""
    found: list[int] = []
    real = open_shard.checksum
    monkeypatch.setattr(open_shard, "checksum", lambda page: found.append(real(page)) or found[-1])
    return found


def expected(ds: ShardDataset, *blocks: int, columns: Any = slice(None)) -> Counter[int]:
    """The checksums of the pages of these blocks."""
    return Counter(ds.store.shard(0).index.pages["checksum"][list(blocks)][:, columns].ravel().tolist())


def test_row_checks_each_page_of_its_block_once(folder: Path, checked: list[int]) -> None:
    ds = ShardDataset(folder)
    assert list(ds[5].values()) == ["5" if k % 10 == 9 else 5 for k in range(FIELDS)]
    assert Counter(checked) == expected(ds, 1)
    ds[4], ds.take([5, 6, 5]), ds[7]
    assert Counter(checked) == expected(ds, 1)


def test_batch_checks_the_pages_of_its_blocks_that_no_row_has_touched(folder: Path, checked: list[int]) -> None:
    ds = ShardDataset(folder)
    ds[0]
    assert ds.take([11, 0, 8])["f3"].tolist() == [11, 0, 8]
    assert Counter(checked) == expected(ds, 0, 2)


def test_fields_that_are_not_read_are_not_checked(folder: Path, checked: list[int]) -> None:
    ds = ShardDataset(folder, fields=["f19", "f3"])
    assert ds[9] == {"f19": "9", "f3": 9}
    assert Counter(checked) == expected(ds, 2, columns=[19, 3])


def test_verify_always_checks_a_row_every_time_and_never_not_at_all(folder: Path, checked: list[int]) -> None:
    for verify, times in (("never", 0), ("always", 3)):
        ds: Any = ShardDataset(folder, verify=verify)  # type: ignore[arg-type]
        assert [ds[k]["f0"] for k in (0, 1, 0)] == [0, 1, 0]
        assert len(checked) == times * FIELDS


def test_sound_pages_of_numbers_cost_no_call_each(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, real = [], OpenShard.check

    def check(shard: OpenShard, block: int, column: int, stored: memoryview) -> memoryview:
        calls.append(column)
        return real(shard, block, column, stored)

    monkeypatch.setattr(OpenShard, "check", check)
    ds = ShardDataset(folder)
    ds[0], ds.take([4, 8])
    assert sorted(calls) == sorted([*range(9, FIELDS, 10)] * 3)  # texts alone, for their offsets


def test_a_coded_page_that_cannot_be_decoded_is_named() -> None:
    shard = open_files(coded(FRAMES["too short"])).store.shard(0)
    with pytest.raises(CorruptError) as caught:
        shard.content(0, 0)
    assert (caught.value.place.file, caught.value.place.block, caught.value.place.field) == ("shard-00000.rio", 0, "x")
