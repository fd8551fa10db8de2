"""Errors: a message states the fault, then the place, and both survive pickling."""

from __future__ import annotations

import copy
import pickle

import pytest

import recordio
from recordio.errors import CorruptError, Place, RecordIOError

ALL = [
    getattr(recordio, name)
    for name in recordio.__all__
    if isinstance(getattr(recordio, name), type) and issubclass(getattr(recordio, name), Exception)
]


def test_errors_share_one_base_class() -> None:
    assert len(ALL) == 10
    assert all(issubclass(kind, RecordIOError) for kind in ALL)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [(recordio.SchemaError, ValueError), (recordio.StorageError, OSError), (recordio.MissingPackageError, ImportError)],
)
def test_errors_derive_from_matching_builtins(kind: type[RecordIOError], builtin: type[Exception]) -> None:
    assert issubclass(kind, builtin)


def test_error_message_is_fault_then_place() -> None:
    error = CorruptError("page checksum mismatch").at(file="shard-00003.rio", block=17, field="image", byte=1048576)
    assert str(error) == "page checksum mismatch - shard-00003.rio, block 17, field 'image', byte 1048576"
    assert str(CorruptError("cut")) == "cut"
    assert str(CorruptError("bad").at(sample=0)) == "bad - sample 0"


def test_at_keeps_known_parts_of_a_place() -> None:
    error = CorruptError("bad").at(block=0).at(block=3, file="a").at(file="b", byte=0)
    assert error.place == Place(file="a", block=0, byte=0)


def test_at_returns_the_same_error() -> None:
    error = CorruptError("bad")
    assert error.at(file="a") is error


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_errors_pickle_and_copy_with_their_place(kind: type[RecordIOError]) -> None:
    error = kind("bad", problems=("one", "two")).at(file="a", sample=3)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert (again.fault, again.place, str(again)) == (error.fault, error.place, str(error))


def test_a_message_is_printable_whatever_names_are_in_it() -> None:
    error = CorruptError("no field \x1b[2J\nOK", problems=("a\u202e", "b\r")).at(file="x\n\x9b\udcff", dataset="\u2028")
    assert str(error) == "no field \\x1b[2J\\nOK - dataset '\\u2028', x\\n\\x9b\\udcff\n  a\\u202e\n  b\\r"
