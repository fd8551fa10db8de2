"""Which windows are asked for ahead: up to a budget, in order, into the next epoch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recordio import StorageError
from recordio.reader.loading.lookahead import Lookahead
from recordio.reader.order.shuffle import WindowPlan
from recordio.storage.memory import MemoryStorage

NBYTES = 100  # of each block


class Asked:
    """In place of a dataset and of threads: notes the blocks that are asked for."""

    def __init__(self, is_here: bool = False, shard_blocks: int = 1) -> None:
        self.is_here = is_here
        self.blocks = self
        self.nbytes = np.full(50, NBYTES)
        self.shard = np.arange(0, 51, shard_blocks)
        self.storage = MemoryStorage({})
        self.requests = 0
        self.asked: list[int] = []
        self.indexes: set[int] = set()
        self.in_threads = 0

    def shard_of(self, blocks: Any) -> Any:
        return blocks

    def ask_for_indexes(self, shards: Any) -> None:
        self.indexes.update(shards.tolist())

    def file(self, number: int) -> Any:
        assert number in self.indexes, "its footer is waited for before those of other shards are asked for"
        return self

    def ask_for(self, windows: list[Any], fields: Any) -> None:
        for blocks in windows:
            self.asked += blocks.tolist()
            self.requests += 1 + int((np.diff(np.sort(blocks)) != 1).sum())

    def submit(self, function: Any, *args: Any) -> Future[None]:
        self.in_threads += 1
        done: Future[None] = Future()
        done.set_result(function(*args))
        return done


def window(block: int) -> WindowPlan:
    none = np.zeros(0, np.int64)
    return WindowPlan(np.array([block]), none, none, none, none, 0)


def windows(*blocks: int) -> Iterator[WindowPlan]:
    return map(window, blocks)


def lookahead(dataset: Any, nbytes: int, following: Any = None, count: int = 6) -> Lookahead:
    return Lookahead(dataset, None, windows(*range(count)), nbytes, dataset, following)  # type: ignore[arg-type]


def test_windows_up_to_a_budget_are_asked_for_ahead() -> None:
    dataset = Asked()
    plans = lookahead(dataset, 3 * NBYTES)
    assert next(plans).blocks.tolist() == [0]
    assert dataset.asked == [0, 1]  # two at a time
    assert next(plans).blocks.tolist() == [1]
    assert dataset.asked == [0, 1, 2, 3]
    assert next(plans).blocks.tolist() == [2]
    assert dataset.asked == [0, 1, 2, 3, 4]
    assert [plan.blocks.tolist() for plan in plans] == [[3], [4], [5]]
    assert dataset.asked == list(range(6))


class Refuses(Asked):
    """A dataset whose windows cannot be asked for: those who load them hear of it."""

    def ask_for(self, windows: list[Any], fields: Any) -> None:
        super().ask_for(windows, fields)
        raise StorageError("no network")


def test_the_first_window_is_asked_for_before_threads_start() -> None:
    dataset = Asked()
    plans = lookahead(dataset, 0)
    next(plans)
    assert (dataset.asked, dataset.in_threads) == ([0], 0)
    next(plans)
    assert (dataset.asked, dataset.in_threads) == ([0, 1], 1)


def test_a_window_that_cannot_be_asked_for_is_delivered() -> None:
    dataset = Refuses()
    assert len(list(lookahead(dataset, 2 * NBYTES))) == 6
    assert dataset.asked[0] == 0


def test_nothing_is_asked_for_that_is_here() -> None:
    dataset = Asked(is_here=True)
    assert len(list(lookahead(dataset, 2 * NBYTES))) == 6
    assert dataset.asked == []


def test_without_a_budget_a_window_is_asked_for_when_it_is_taken() -> None:
    dataset = Asked()
    plans = lookahead(dataset, 0)
    next(plans)
    assert dataset.asked == [0]


def test_the_next_epoch_is_asked_for_at_the_end_of_one() -> None:
    dataset = Asked()
    plans = lookahead(dataset, 3 * NBYTES, lambda: windows(10, 11, 12, 13))
    found = [(plan.blocks.item(), list(dataset.asked)) for plan in plans]
    assert [number for number, _ in found] == list(range(6))
    assert 10 not in found[2][1]  # the budget holds windows of this epoch
    assert dataset.asked == [0, 1, 2, 3, 4, 5, 10, 11, 12]


def shuffled(dataset: Asked, monkeypatch: pytest.MonkeyPatch, stays_on_disk: bool) -> Lookahead:
    """50 blocks in ten windows, four of them ahead."""
    monkeypatch.setattr("recordio.reader.loading.lookahead._stays_on_disk", lambda *_: stays_on_disk)
    plans = [replace(window(0), blocks=some) for some in np.random.default_rng(7).permutation(50).reshape(10, 5)]
    return Lookahead(dataset, None, iter(plans), 20 * NBYTES, dataset, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("stays_on_disk", [False, True])
def test_neighbours_due_soon_are_asked_for_together(monkeypatch: pytest.MonkeyPatch, stays_on_disk: bool) -> None:
    dataset, missing = Asked(shard_blocks=25), []
    for number, plan in enumerate(shuffled(dataset, monkeypatch, stays_on_disk)):
        missing += set(plan.blocks.tolist()) - set(dataset.asked)
        if number == 0:
            assert set(dataset.asked[:5]) == set(plan.blocks.tolist())  # it comes alone
    assert missing == []
    assert sorted(dataset.asked) == list(range(50))  # each of them once
    assert dataset.requests < (30 if stays_on_disk else 40)


def test_memory_holds_what_the_budget_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, delivered = Asked(shard_blocks=25), 0
    for plan in shuffled(dataset, monkeypatch, stays_on_disk=False):
        assert len(dataset.asked) - delivered < 20 + 5  # another window is asked for below the limit
        delivered += len(plan.blocks)
    assert delivered == 50
