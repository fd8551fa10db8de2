"""Objects are written under conditions: what is there stays, or is replaced only if it is what was read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recordio.errors import DatasetError, StorageError
from recordio.remote import write_target
from recordio.remote.options import StorageOptions
from recordio.remote.write_target import RemoteTarget, Version
from tests.recordio.remote.buckets import Bucket


@pytest.fixture
def target(bucket: Bucket, tmp_path: Path) -> RemoteTarget:
    return RemoteTarget(bucket.url(f"targets/{tmp_path.name}"), StorageOptions.of(bucket.storage))


def test_a_new_object_does_not_replace_one(target: RemoteTarget, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"first")
    assert target.put_new("name", file)
    file.write_bytes(b"second")
    assert not target.put_new("name", file)
    found = target.read("name")
    assert found is not None
    assert found[0] == b"first"


def test_an_object_is_replaced_only_if_it_is_what_was_read(target: RemoteTarget) -> None:
    assert target.put_if("name", b"one", None)
    assert not target.put_if("name", b"two", None)
    found = target.read("name")
    assert found is not None
    assert target.put_if("name", b"two", found[1])
    assert not target.put_if("name", b"three", found[1])
    assert not target.put_if("nothing", b"three", Version('"0"', "0"))


def test_an_empty_file_is_an_object(target: RemoteTarget, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert target.put_new("empty", tmp_path / "empty")
    assert target.tail("empty", 8) == (0, b"")


def test_what_is_there(target: RemoteTarget) -> None:
    assert target.read("a") is target.tail("a", 3) is target.version("a") is None
    target.put("a", b"0123456789")
    target.put("deep/b", b"12")
    assert target.tail("a", 3) == (10, b"789")
    assert target.tail("deep/b", 3) == (2, b"")
    assert target.read_all(["a", "c", "deep/b"]) == [b"0123456789", None, b"12"]
    assert [one[:2] for one in target.list()] == [("a", 10), ("deep/b", 2)]
    assert [one.name for one in target.list("deep")] == ["deep/b"]
    target.delete(["a", "c"])
    assert [one.name for one in target.list()] == ["deep/b"]


def test_a_file_that_no_store_takes_at_once(
    target: RemoteTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_target, "MOST_NBYTES", 2)
    (tmp_path / "file").write_bytes(b"123")
    with pytest.raises(StorageError, match="smaller shard_bytes"):
        target.put_new("name", tmp_path / "file")


def test_no_such_bucket(bucket: Bucket, tmp_path: Path) -> None:
    target = RemoteTarget("s3://nowhere/path", StorageOptions.of(bucket.storage))
    with pytest.raises(StorageError, match="cannot write to s3://nowhere/path"):
        target.put("name", b"")


class Careless:
    """A store that ignores conditions, as old ones do."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask

    def __call__(self, target: RemoteTarget, what: str, *args: Any) -> Any:
        if what in ("put", "upload"):
            args = (*args[:-1], "overwrite")
        return self._ask(target, what, *args)


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Careless(RemoteTarget._ask)
    monkeypatch.setattr(RemoteTarget, "_ask", lambda *args: ask(*args))
    monkeypatch.setattr(write_target, "_proven", set())


def test_a_store_that_keeps_conditions_passes(target: RemoteTarget) -> None:
    target.require_conditions()
    assert target.list() == []


@pytest.mark.usefixtures("careless")
def test_a_store_that_ignores_conditions_is_refused_with_the_way_on(target: RemoteTarget) -> None:
    with pytest.raises(DatasetError, match="unsafe_overwrite"):
        target.require_conditions()
    assert target.list() == []


@pytest.mark.usefixtures("careless")
def test_it_is_written_to_on_request(bucket: Bucket, target: RemoteTarget, tmp_path: Path) -> None:
    unsafe = RemoteTarget(target.url, StorageOptions.of({**bucket.storage, "unsafe_overwrite": True}))
    unsafe.require_conditions()
    assert unsafe.put_if("name", b"one", None)
    assert not unsafe.put_if("name", b"two", None)
    found = unsafe.read("name")
    assert found is not None
    assert unsafe.put_if("name", b"two", found[1])
    (tmp_path / "file").touch()
    assert not unsafe.put_new("name", tmp_path / "file")
