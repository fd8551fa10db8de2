"""Manifest, footer, header and index: read, checked against each other, or refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from recordio import CorruptError, DatasetError, RecordIOError
from recordio.format.checksum import checksum
from recordio.format.manifest import Manifest
from recordio.storage.dataset_files import (
    check_footer,
    check_shards,
    find_manifest,
    open_shard_file,
    read_manifest,
    refuse,
)
from recordio.storage.local import LocalStorage
from recordio.storage.memory import MemoryStorage
from tests.three_shards import loaded, write, write_three


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_three(tmp_path_factory.mktemp("files") / "data")


@pytest.fixture
def files(original: Path) -> tuple[MemoryStorage, Manifest]:
    return loaded(original)


def test_find_manifest_returns_none_without_a_manifest() -> None:
    assert find_manifest(MemoryStorage({}), "here") is None
    with pytest.raises(DatasetError, match="not a recordio dataset"):
        read_manifest(MemoryStorage({}), "here")


def test_damaged_manifest_is_named_by_its_path(files: tuple[MemoryStorage, Manifest]) -> None:
    storage, _ = files
    data = storage.files["manifest.json"]
    broken = MemoryStorage({"manifest.json": data[:30] + b"?" + data[31:]})
    with pytest.raises(CorruptError, match="checksum") as caught:
        read_manifest(broken, "here")
    assert caught.value.place.file == "here/manifest.json"


def test_a_manifest_that_cannot_be_one_is_named_by_its_path(
    tmp_path: Path, files: tuple[MemoryStorage, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(RecordIOError) as caught:
        read_manifest(LocalStorage(tmp_path), "here")
    assert caught.value.place.file == "here/manifest.json"
    monkeypatch.setattr("recordio.storage.dataset_files.MAX_MANIFEST_NBYTES", 100)
    with pytest.raises(DatasetError, match="too many for a manifest: expected 100") as caught:
        read_manifest(files[0], "here")
    assert caught.value.place.file == "here/manifest.json"


def test_check_shards_reports_every_wrong_shard(files: tuple[MemoryStorage, Manifest]) -> None:
    storage, manifest = files
    first, second, third = (shard.name for shard in manifest.shards)
    wrong = {first: storage.files[second], third: storage.files[third][:-1]}
    problems = check_shards(
        MemoryStorage({name: wrong.get(name, data) for name, data in storage.files.items()}), manifest
    )
    assert [problem.place.file for problem in problems] == [first, third]
    with pytest.raises(CorruptError, match="2 shards are not what the manifest says"):
        refuse(problems, "here")
    assert check_shards(storage, manifest) == []
    refuse([], "here")


def test_check_shards_looks_alone_only_at_what_does_not_match(
    files: tuple[MemoryStorage, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, manifest = files
    opened: list[str] = []
    real = MemoryStorage.open

    def counted(self: MemoryStorage, name: str, place: Any = None) -> Any:
        opened.append(name)
        return real(self, name, place)

    monkeypatch.setattr(MemoryStorage, "open", counted)
    assert check_shards(storage, manifest) == []
    assert opened == []
    name = manifest.shards[1].name
    (problem,) = check_shards(MemoryStorage({**storage.files, name: b"x"}), manifest)
    assert opened == [name]
    assert problem.place.file == name


def test_shard_with_unknown_compatible_features_passes(files: tuple[MemoryStorage, Manifest]) -> None:
    storage, manifest = files
    name = manifest.shards[0].name
    body = bytearray(storage.files[name])
    body[-128 + 40] ^= 0x80  # compatible features
    body[-128:-120] = checksum(bytes(body[-120:])).to_bytes(8, "little")
    assert bytes(body) != storage.files[name]
    assert check_shards(MemoryStorage({**storage.files, name: bytes(body)}), manifest) == []


def test_a_shard_that_is_no_regular_file_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "shard-00000.rio").mkdir()
    with pytest.raises(CorruptError, match="is not a regular file"):
        open_shard_file(LocalStorage(tmp_path), "shard-00000.rio")


def test_check_shards_says_what_each_shard_alone_would_say(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write(folder, 100)
    shards = sorted(folder.glob("*.rio"))
    data = [shard.read_bytes() for shard in shards]
    for shard in shards[1:]:
        shard.unlink()
    shards[1].symlink_to(shards[0])
    os.mkfifo(shards[2])
    shards[3].mkdir()
    shards[4].write_bytes(data[3])
    shards[5].write_bytes(data[5][:-1])
    shards[6].write_bytes(data[6] + b"\0")
    shards[7].write_bytes(data[7][:100])
    shards[8].write_bytes(data[8][:-9] + b"?" + data[8][-8:])
    storage = LocalStorage(folder)
    manifest = read_manifest(storage, "here")[0]
    alone = []
    for entry in manifest.shards:
        try:
            check_footer(open_shard_file(storage, entry.name), entry, manifest.dataset_id)
        except RecordIOError as error:
            alone.append((type(error), str(error)))
    assert len(alone) == 9
    assert [(type(error), str(error)) for error in check_shards(storage, manifest)] == alone


def test_missing_shard_is_a_corrupt_error(files: tuple[MemoryStorage, Manifest]) -> None:
    entry = files[1].shards[0]
    with pytest.raises(CorruptError, match="missing") as caught:
        open_shard_file(MemoryStorage({}), entry.name)
    assert caught.value.place.file == entry.name
