"""The indexes of shards: read many at a time, checked against header, footer and manifest, and kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import CorruptError
from recordio.format import strict_json
from recordio.format.manifest import Manifest
from recordio.reader import shard_indexes
from recordio.reader.shard_indexes import ShardIndexes, blocks_of
from recordio.storage.base import File
from recordio.storage.memory import MemoryStorage
from recordio.storage.shard_files import ShardFiles
from tests.three_shards import loaded, write, write_three


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_three(tmp_path_factory.mktemp("files") / "data")


@pytest.fixture
def files(original: Path) -> tuple[MemoryStorage, Manifest]:
    return loaded(original)


def indexes_of(storage: MemoryStorage, manifest: Manifest) -> ShardIndexes:
    blocks = blocks_of(manifest)
    return ShardIndexes(ShardFiles(storage, manifest), manifest, blocks.first, blocks.shard)


class Opened:
    """Counts the files that a storage opens."""

    def __init__(self, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        real = storage.open

        def opened(name: str, place: Any = None) -> File:
            self.names.append(name)
            return real(name, place)

        monkeypatch.setattr(storage, "open", opened)


def test_reads_shards_with_other_metadata(files: tuple[MemoryStorage, Manifest]) -> None:
    _, manifest = files
    indexes = indexes_of(*files)
    for number in (0, 1, 2, 1, 0):
        index = indexes.of(number)
        assert index.samples.tolist() == manifest.shards[number].block_samples().tolist()
        assert index.first.tolist() == [0, 5, 10]


def test_one_alone_and_all_together_are_the_same(files: tuple[MemoryStorage, Manifest]) -> None:
    alone, together = indexes_of(*files), indexes_of(*files)
    every = np.arange(6)
    entries, failed = together.entries(every, [0])
    assert not failed
    for number in range(3):
        index = alone.of(number)
        mine = slice(2 * number, 2 * number + 2)
        assert entries.offset[mine].tolist() == index.page_offsets.tolist()
        assert entries.checksum[mine].tolist() == index.pages["checksum"].tolist()
        assert entries.nbytes[mine].tolist() == [[40], [40]]
        assert entries.end[mine].tolist() == (index.page_offsets + 64).tolist()


def test_an_index_is_read_once(files: tuple[MemoryStorage, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    opened, indexes = Opened(files[0], monkeypatch), indexes_of(*files)
    for blocks in ([5], [0, 5], [4, 1, 0], [3]):
        indexes.entries(np.array(blocks), [0])
    indexes.of(1)
    assert opened.names == ["shard-00002.rio", "shard-00000.rio", "shard-00001.rio"]


def test_indexes_beyond_the_limit_are_forgotten_and_read_again(
    files: tuple[MemoryStorage, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_indexes, "_MAX_NBYTES", 1)
    opened, indexes = Opened(files[0], monkeypatch), indexes_of(*files)
    first = indexes.of(0)
    before = first.page_offsets.tolist()
    indexes.of(1)
    assert first.page_offsets.tolist() == before
    assert indexes.of(0).page_offsets.tolist() == before
    assert len(opened.names) == 3


def test_parses_an_equal_header_once(files: tuple[MemoryStorage, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[Any] = []
    real = strict_json.loads

    def loads(text: Any, name: str) -> Any:
        parsed.append(json.loads(text)["metadata"]["made"])
        return real(text, name)

    monkeypatch.setattr(strict_json, "loads", loads)
    indexes_of(*files).entries(np.arange(6), [0])
    assert parsed == ["first", "second"]


def test_reads_a_header_of_any_length(tmp_path: Path) -> None:
    write(tmp_path / "data", 20, metadata={"text": "x" * 50_000})
    entries, failed = indexes_of(*loaded(tmp_path / "data")).entries(np.arange(4), [0])
    assert not failed
    assert entries.offset.min() > 50_000


def lying(manifest: Manifest, **lie: Any) -> Manifest:
    return replace(manifest, shards=[replace(manifest.shards[0], **lie), *manifest.shards[1:]])


LIES: Sequence[tuple[dict[str, Any], str]] = (
    ({"content_nbytes": 81}, "not as large as the manifest says"),
    ({"runs": ((10, 1),)}, "blocks are not those of the manifest"),
    ({"runs": ((4, 1), (6, 1))}, "blocks are not those of the manifest"),
    ({"digest": bytes(16)}, "its digest is"),
    ({"samples": 11}, "its samples is"),
    ({"nbytes": 1}, "the manifest says 1"),
)


@pytest.mark.parametrize(("lie", "message"), LIES, ids=str)
def test_refuses_a_shard_that_contradicts_the_manifest_and_reads_the_others(
    files: tuple[MemoryStorage, Manifest], lie: dict[str, Any], message: str
) -> None:
    storage, manifest = files
    entry = manifest.shards[0]
    assert (entry.samples, entry.content_nbytes, entry.runs) == (10, 80, ((5, 2),))
    manifest = lying(manifest, **lie)
    indexes = indexes_of(storage, manifest)
    with pytest.raises(CorruptError, match=message) as caught:
        indexes.of(0)
    assert caught.value.place.file == entry.name
    blocks = blocks_of(manifest)
    _, failed = indexes.entries(np.arange(len(blocks.nbytes)), [0])
    assert list(failed) == [0]
    assert message in str(failed[0])
    assert failed[0].place.file == entry.name
    assert indexes.of(2).samples.tolist() == [5, 5]


def test_refuses_swapped_shards_and_shards_of_another_dataset(files: tuple[MemoryStorage, Manifest]) -> None:
    storage, manifest = files
    swapped = {**storage.files, "shard-00000.rio": storage.files["shard-00001.rio"]}
    with pytest.raises(CorruptError, match="its shard number is 1"):
        indexes_of(MemoryStorage(swapped), manifest).of(0)
    with pytest.raises(CorruptError, match="its dataset is"):
        indexes_of(storage, replace(manifest, dataset_id=bytes(16))).of(0)


@pytest.mark.parametrize("at", [0, 20, 100, -130, -200])
def test_every_part_that_is_read_is_checked(files: tuple[MemoryStorage, Manifest], at: int) -> None:
    storage, manifest = files
    data = bytearray(storage.files["shard-00001.rio"])
    data[at] ^= 4
    damaged = MemoryStorage({**storage.files, "shard-00001.rio": bytes(data)})
    _, failed = indexes_of(damaged, manifest).entries(np.arange(6), [0])
    assert list(failed) == [1]
    assert failed[1].place.file == "shard-00001.rio"
