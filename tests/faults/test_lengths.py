"""Bytes removed, appended or inserted anywhere: an error when the dataset is opened."""

from __future__ import annotations

import pytest

from tests.faults.forging import MANIFEST, SHARD
from tests.faults.reading import read, verify_files
from tests.faults.samples import every_kind

BOTH = pytest.mark.parametrize("name", [SHARD, MANIFEST])


def refused_at_open(name: str, data: bytes) -> None:
    files = every_kind(None) | {name: data}
    found = read(files)
    assert list(found) == ["open"], f"{len(data)} bytes of {name} open"
    assert found["open"][0] == "error", (len(data), found)


@BOTH
def test_truncated_file_does_not_open(name: str) -> None:
    whole = every_kind(None)[name]
    for nbytes in range(len(whole)):
        refused_at_open(name, whole[:nbytes])


@BOTH
@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"}", b"\n", b"copy"])
def test_extended_file_does_not_open(name: str, filler: bytes) -> None:
    whole = every_kind(None)[name]
    more = whole if filler == b"copy" else filler * 200
    for nbytes in range(1, len(more) + 1):
        refused_at_open(name, whole + more[:nbytes])


@BOTH
def test_file_without_its_first_bytes_does_not_open(name: str) -> None:
    whole = every_kind(None)[name]
    for nbytes in range(1, len(whole)):
        refused_at_open(name, whole[nbytes:])


@pytest.mark.parametrize("nbytes", [1, 64, 448])
def test_zeroed_or_shifted_bytes_are_refused(nbytes: int) -> None:
    files = every_kind(None)
    whole = files[SHARD]
    for at in range(0, len(whole) - 128 - nbytes, 64):
        hole = whole[:at] + bytes(nbytes) + whole[at + nbytes :]
        shifted = whole[:at] + whole[at + nbytes : -128] + bytes(nbytes) + whole[-128:]
        for data in (hole, shifted):
            if data != whole:
                found = read(files | {SHARD: data}, ["take"], decode=None)
                kinds = {kind for kind, _ in found.values()}
                assert kinds <= {"data", "error"}, found
                assert not verify_files(files | {SHARD: data}).ok
                assert kinds == {"error"} or found == read(files, ["take"], decode=None)


def test_empty_file_does_not_open() -> None:
    for name in (SHARD, MANIFEST):
        refused_at_open(name, b"")
