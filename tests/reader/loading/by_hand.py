"""Twins of what is concurrent in loading, driven by hand, and datasets in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recordio import DatasetWriter
from recordio.reader.batches.fetch_plan import MAPPED_NBYTES, Work
from recordio.reader.batches.memory import Arena
from recordio.reader.batches.requests import WindowSlice
from recordio.reader.fetch_threads import FetchThreads
from recordio.reader.loading.prefetch import FetchContext, PendingWindow, WindowPrefetcher
from recordio.reader.loading.stats import LoaderStats
from recordio.reader.open_dataset import OpenDataset, ReadOptions
from recordio.reader.order.ranks import RankShare, window_plans
from recordio.reader.order.shuffle import OrderOptions, WindowPlan, order_of
from recordio.storage.dataset_files import read_manifest
from recordio.storage.memory import MemoryStorage

BLOCK = 4  # samples


def write_blocks(folder: Path, samples: int, compression: str | None) -> Path:
    """Blocks of four samples each. With a compression `zeros` needs memory, without one every page stays in its map."""
    with DatasetWriter(folder, compression=compression, block_bytes=BLOCK * 104, shard_samples=5 * BLOCK) as writer:
        for n in range(samples):
            writer.write({"number": n, "zeros": np.zeros(96, np.uint8)})
    return folder


def in_memory(folder: Path) -> OpenDataset:
    """The dataset of a folder, held in memory."""
    storage = MemoryStorage({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})
    manifest, digest = read_manifest(storage, "")
    dataset = OpenDataset(storage, manifest, ReadOptions(), digest)
    assert set(np.diff(dataset.blocks.first).tolist()) == {BLOCK}
    return dataset


class ManualThreads(FetchThreads):
    """Loads a window when `load_next` is called; with `at_once` when it is submitted."""

    def __init__(self, at_once: bool = False) -> None:
        self.at_once = at_once
        self.queue: deque[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.queue.append((future, function, args))
        if self.at_once:
            self.load_next()
        return future

    def run(self, work: Iterable[Work]) -> None:
        for piece in work:
            piece()

    def load_next(self) -> None:
        future, function, args = self.queue.popleft()
        try:
            future.set_result(function(*args))
        except Exception as error:  # noqa: BLE001 as an executor does
            future.set_exception(error)

    def close(self) -> None:
        self.queue.clear()


@dataclass(eq=False)
class ManualTask:
    """A task that ends when `finish` or `fail` is called, or when it is waited for. `waits` counts the latter."""

    value: Any = None
    error: Exception | None = None
    has_ended: bool = False
    waits: int = 0
    on_wait: Callable[[], None] = field(default=lambda: None)

    def finish(self, value: Any = None) -> None:
        self.value = self.value if value is None else value
        self.has_ended = True

    def fail(self, error: Exception) -> None:
        self.error = error
        self.has_ended = True

    def done(self) -> bool:
        return self.has_ended

    def wait(self, others: Iterable[Any] = ()) -> None:
        self.waits += 1
        self.on_wait()
        self.has_ended = True

    def result(self) -> Any:
        self.wait()
        if self.error is not None:
            raise self.error
        return self.value


def plans_of(dataset: OpenDataset, window_samples: int = BLOCK) -> Iterator[WindowPlan]:
    """All samples in order, in windows of so many."""
    order = order_of(dataset.blocks, range(dataset.samples), OrderOptions(window_samples=window_samples), 0)
    return window_plans(order, RankShare(rank=0, world=1, start=0, stop=dataset.samples))


def prefetcher_of(
    dataset: OpenDataset,
    threads: FetchThreads,
    plans: Iterator[WindowPlan] | None = None,
    forget: Callable[[PendingWindow], None] = lambda window: None,
    memories: Sequence[Arena] | None = None,
) -> WindowPrefetcher:
    return WindowPrefetcher(
        source=0,
        dataset=dataset,
        fields=dataset.projection(None),
        plans=plans_of(dataset) if plans is None else plans,
        memories=[Arena(), Arena()] if memories is None else memories,
        context=FetchContext(threads, forget, MAPPED_NBYTES, LoaderStats()),
    )


def numbers_of(one: WindowSlice) -> list[int]:
    """The samples of a slice, whether it has been read or not."""
    columns = one.window.table.take(one.slot, one.row) if one.columns is None else one.columns
    assert isinstance(columns, dict)
    return columns["number"].tolist()  # type: ignore[no-any-return]
