"""Iterables: read once, in bounded memory; published whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recordio import DatasetError, SchemaError, ShardDataset, SourceError
from recordio.writer.convert.convert import ConvertPlan
from tests.writer.convert import makers
from tests.writer.convert.makers import contents, expected, made


def samples(count: int) -> Iterator[dict[str, Any]]:
    return map(makers.one, range(count))


class Repeatable:
    """An iterable that begins anew each time, without a length."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return samples(500)


@pytest.mark.parametrize("source", [samples(500), Repeatable()], ids=["iterator", "iterable"])
def test_all_samples_are_kept(tmp_path: Path, source: Any) -> None:
    report = made(source, tmp_path / "out", block_bytes=1000, compression=None)
    assert ShardDataset(tmp_path / "out").column("n").tolist() == list(range(500))
    assert (report.kind, report.samples, report.made, report.shards > 2) == ("python", 500, 500, True)
    assert "a run that stops begins anew" in report.notes[0]
    assert ".source" not in contents(tmp_path / "out")


def test_the_iterable_is_read_no_further_than_it_is_written(tmp_path: Path) -> None:
    read = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal read
        for sample in samples(5000):
            read += 1
            yield sample

    gaps: list[int] = []
    made(counted(), tmp_path / "out", progress=lambda done, total: gaps.append(read - done))
    assert gaps
    assert max(gaps) <= 64


def test_a_function_makes_none_or_several(tmp_path: Path) -> None:
    report = made(iter(range(300)), tmp_path / "out", fn=makers.any_number)
    assert ShardDataset(tmp_path / "out").column("n").tolist() == expected(range(300))
    assert report.dropped == 30
    assert ShardDataset(tmp_path / "out").metadata["conversion"]["dropped"] == 30


def test_limit_reads_so_many(tmp_path: Path) -> None:
    source = samples(500)
    assert made(source, tmp_path / "out", limit=100).samples == 100
    assert next(source)["n"] == 100


def test_bad_inputs_are_skipped_as_a_whole(tmp_path: Path) -> None:
    report = made(iter(range(1000)), tmp_path / "out", fn=makers.bad_in_the_middle, on_error="skip")
    assert report.skipped == (("input 700: int 700", "fn raised ValueError: seven hundred"),)
    assert report.samples == 1998
    report = made(iter(range(1000)), tmp_path / "other", fn=makers.other_shape_at_700, on_error="skip")
    assert [name for name, _ in report.skipped] == ["input 700"]
    assert ShardDataset(tmp_path / "other").metadata["conversion"]["skipped"] == 1


def broken(after: int) -> Iterator[dict[str, Any]]:
    yield from samples(after)
    raise OSError("the line is dead")


@pytest.mark.parametrize("after", [0, 10, 900])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_an_iterable_that_breaks_publishes_nothing(tmp_path: Path, after: int, on_error: str) -> None:
    with pytest.raises(SourceError, match=f"the iterable raised OSError: the line is dead - input {after}") as caught:
        made(broken(after), tmp_path / "out", on_error=on_error)
    assert isinstance(caught.value.__cause__, OSError)
    assert not contents(tmp_path / "out")


def test_a_sample_unlike_the_first_ones_publishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"those of the first 64 samples: give schema= if others differ - input 700"):
        made(iter(range(1000)), tmp_path / "out", fn=makers.other_shape_at_700)
    assert not contents(tmp_path / "out")


def test_a_dataset_is_replaced_only_with_overwrite_and_stays_until_then(tmp_path: Path) -> None:
    made(samples(300), tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(DatasetError, match=r"there is a dataset here, .*overwrite=True"):
        made(samples(10), tmp_path / "out")
    with pytest.raises(SourceError):
        made(broken(200), tmp_path / "out", overwrite=True)
    assert contents(tmp_path / "out") == before
    made(samples(10), tmp_path / "out", overwrite=True)
    assert len(ShardDataset(tmp_path / "out")) == 10
    assert len(list((tmp_path / "out").glob("shard-*"))) == 1


@pytest.mark.parametrize("option", [{"shuffle": 1}, {"workers": 2}, {"engine": "ray"}, {"keep_names": True}])
def test_what_needs_inputs_by_number_is_refused(tmp_path: Path, option: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match=f"{next(iter(option))}"):
        made(samples(3), tmp_path / "out", **option)


def test_nobody_knows_how_many_there_are(tmp_path: Path) -> None:
    plans: list[ConvertPlan] = []
    calls: list[tuple[int, int]] = []
    made(samples(300), tmp_path / "out", announce=plans.append, progress=lambda *call: calls.append(call))
    assert plans[0].samples is None
    assert calls[-1] == (256, 0)
