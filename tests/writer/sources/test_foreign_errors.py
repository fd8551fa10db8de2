"""What libraries raise becomes an error of ours: damage may be skipped, a lack of memory or of files may not."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recordio import SourceError, StorageError, convert
from recordio.writer.sources import SourceOptions, open_source
from recordio.writer.sources.arrays.arrays import NpyFile
from recordio.writer.sources.arrays.isolated import isolated
from recordio.writer.sources.folders.coco import begins_like_coco
from recordio.writer.sources.folders.pictures import PictureSurvey
from recordio.writer.sources.foreign_errors import as_ours, guarded, reading, refused


class Odd(Exception):
    """As a library has its own."""


@pytest.mark.parametrize("error", [KeyError("x"), SystemError("a code point"), Odd(), OSError(errno.EIO, "I/O error")])
def test_any_error_of_a_library_is_a_fault_of_the_input(error: Exception) -> None:
    with pytest.raises(SourceError, match=r"^it is bad: ") as caught, reading("it is bad"):
        raise error
    assert caught.value.__cause__ is error


def test_nesting_that_exhausts_the_stack_is_said() -> None:
    assert "nested too deep" in str(as_ours(RecursionError("maximum recursion depth exceeded")))


def test_only_the_first_line_of_a_long_message_is_kept() -> None:
    assert str(as_ours(ValueError("\nx" + "y" * 1000 + "\nz"))) == "cannot be read: x" + "y" * 199


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        Odd("Insufficient memory"),
        RuntimeError("Unable to allocate 9 bytes"),
        OSError("Can't read data (memory allocation failed)"),
    ],
)
def test_lack_of_memory_is_no_fault_of_the_input(error: Exception) -> None:
    if isinstance(error, OSError):
        error = RuntimeError(str(error))
    with pytest.raises(MemoryError), reading():
        raise error


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC])
def test_what_the_system_lacks_is_no_fault_of_the_input(number: int) -> None:
    assert isinstance(refused(OSError(number, os.strerror(number))), StorageError)


def test_an_error_of_ours_stays() -> None:
    error = SourceError("x")
    with pytest.raises(SourceError) as caught, reading():
        raise error
    assert caught.value is error


def test_items_are_guarded_while_they_are_made() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise Odd("gone")

    found = guarded(items())
    assert next(found) == 1
    with pytest.raises(SourceError, match="gone"):
        next(found)


def _fails(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(("error", "kind"), [(Odd("x"), SourceError), (MemoryError("x"), MemoryError)])
def test_errors_of_another_process_come_through(error: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="x"):
        isolated(_fails, error)


def rows(folder: Path) -> str:
    np.save(folder / "a.npy", np.arange(3))
    return str(folder / "a.npy")


def test_a_sample_over_which_a_library_fails_may_be_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rows(tmp_path)
    real = NpyFile.sample
    monkeypatch.setattr(NpyFile, "sample", lambda self, k: _fails(SystemError("bad")) if k == 1 else real(self, k))
    found = dict(open_source(path).read(range(3)))
    assert str(found["a.npy row 1"]) == "cannot be read: bad - a.npy row 1"
    report: Any = convert(path, tmp_path / "out", on_error="skip", workers=1)
    assert (report.samples, report.skipped) == (2, (("a.npy row 1", "cannot be read: bad"),))


@pytest.mark.parametrize(("error", "kind"), [(MemoryError("x"), MemoryError), (OSError(24, "x"), StorageError)])
def test_skip_leaves_out_nothing_for_lack_of_memory_or_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]
) -> None:
    path = rows(tmp_path)
    monkeypatch.setattr(NpyFile, "sample", lambda self, k: _fails(error))
    with pytest.raises(kind):
        convert(path, tmp_path / "out", on_error="skip", workers=1)


def test_a_kind_that_fails_while_it_is_opened_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rows(tmp_path)
    monkeypatch.setattr(NpyFile, "_load", lambda self: _fails(Odd("odd")))
    with pytest.raises(SourceError, match=r"cannot be read: odd - .*a\.npy"):
        open_source(path)


class _Short:
    """A dataset that memory is too short for."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        raise MemoryError("x")


@pytest.mark.parametrize(
    ("source", "fn"),
    [([1, 2, 3], lambda item: _fails(MemoryError("x"))), (_Short(), None), (map(_fails, [MemoryError("x")]), None)],
    ids=["fn", "a dataset", "an iterable"],
)
def test_skip_leaves_out_no_input_for_which_memory_is_short(tmp_path: Path, source: Any, fn: Any) -> None:
    with pytest.raises(MemoryError):
        convert(source, tmp_path / "out", fn=fn, on_error="skip", workers=1)


def test_headers_are_not_passed_over_for_lack_of_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = refused(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    for module in ("pictures", "coco"):
        monkeypatch.setattr(f"recordio.writer.sources.folders.{module}.open_file", lambda path: _fails(refusal))
    with pytest.raises(StorageError):
        begins_like_coco("a.json")
    with pytest.raises(StorageError):
        PictureSurvey("image", SourceOptions()).see(b"a.jpg")


def test_a_process_that_the_system_killed_is_a_lack_of_memory() -> None:
    with pytest.raises(MemoryError, match="was killed"):
        isolated(signal.raise_signal, signal.SIGKILL)
