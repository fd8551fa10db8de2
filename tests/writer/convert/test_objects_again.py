"""Python objects converted a second time: finished shards are used again only if inputs and function are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recordio import DatasetError, ShardDataset
from tests.writer.convert import makers
from tests.writer.convert.makers import contents, made

NUMBERS = list(range(1000))


class Unknown(makers.Squares):
    """A dataset that nobody can compare with an earlier one."""


def stopped(source: Any, out: Path, **options: Any) -> None:
    """A conversion that an input ends."""
    with pytest.raises(ZeroDivisionError):
        made(source, out, progress=stop, **options)


def stop(done: int, total: int) -> None:
    if done >= 600:
        raise ZeroDivisionError


@pytest.mark.slow
def test_a_stopped_conversion_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    made(NUMBERS, tmp_path / "whole", fn=makers.any_number)
    stopped(NUMBERS, tmp_path / "out", fn=makers.any_number)
    report = made(NUMBERS, tmp_path / "out", fn=makers.any_number, workers=2)
    assert report.reused >= 2
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_only_the_shards_of_changed_inputs_are_made_again(tmp_path: Path) -> None:
    stopped(NUMBERS, tmp_path / "out", fn=makers.any_number)
    kept = len(list((tmp_path / "out").glob(".convert/shard-*.json")))
    report = made([-1, *NUMBERS[1:]], tmp_path / "out", fn=makers.any_number)
    assert report.reused == kept - 1
    assert ShardDataset(tmp_path / "out")["n"][0] == -1


def test_another_function_uses_none_of_them(tmp_path: Path) -> None:
    stopped(NUMBERS, tmp_path / "out", fn=makers.any_number)
    report = made(NUMBERS, tmp_path / "out", fn=makers.one)
    assert report.reused == 0
    assert "they were made with other options" in report.notes[0]


def test_a_finished_dataset_of_another_function_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    made(NUMBERS, tmp_path / "out", fn=makers.one)
    with pytest.raises(DatasetError, match="made from another source, or its files or the options have changed"):
        made(NUMBERS, tmp_path / "out", fn=makers.any_number)
    assert made(NUMBERS, tmp_path / "out", fn=makers.any_number, overwrite=True).made == len(makers.expected(NUMBERS))


class TestUnknown:
    columns: dict[str, Any] = {"columns": ("image", "label")}  # noqa: RUF012

    def test_of_objects_that_cannot_be_compared_nothing_is_used_again_and_that_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError):
            made(Unknown(1000), tmp_path / "out", progress=stop, **self.columns)
        report = made(Unknown(1000), tmp_path / "out", **self.columns)
        assert report.reused == 0
        assert "cannot be told, so a run that stops begins anew: identity=" in report.notes[0]
        assert ShardDataset(tmp_path / "out").metadata["classes"] == ["even", "odd"]
        with pytest.raises(DatasetError, match="whether it is of the same inputs cannot be told; overwrite=True"):
            made(Unknown(1000), tmp_path / "out", **self.columns)
        assert made(Unknown(1000), tmp_path / "out", overwrite=True, **self.columns).made == 1000

    @pytest.mark.slow
    def test_bytes_do_not_depend_on_workers_all_the_same(self, tmp_path: Path) -> None:
        for workers in (1, 2):
            made(Unknown(500), tmp_path / str(workers), workers=workers, **self.columns)
        assert contents(tmp_path / "1") == contents(tmp_path / "2")

    def test_with_an_identity_they_are(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError):
            made(Unknown(1000), tmp_path / "out", progress=stop, identity="v1", **self.columns)
        report = made(Unknown(1000), tmp_path / "out", identity="v1", **self.columns)
        assert report.reused >= 2
        assert not report.notes
        assert made(Unknown(1000), tmp_path / "out", identity="v1", **self.columns).done_before
        with pytest.raises(DatasetError, match="made from another source"):
            made(Unknown(1000), tmp_path / "out", identity="v2", **self.columns)

    def test_a_function_that_cannot_be_compared_takes_an_identity_too(self, tmp_path: Path) -> None:
        held = object()

        def fn(number: int) -> dict[str, Any]:
            return {"n": number, "held": held is None}

        assert "begins anew" in made(NUMBERS, tmp_path / "a", fn=fn).notes[0]
        assert not made(NUMBERS, tmp_path / "b", fn=fn, identity="1").notes
        assert made(NUMBERS, tmp_path / "b", fn=fn, identity="1").done_before
