"""What an epoch is made with: who makes its batches, who loads its windows, and the memory that these lie in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from recordio.errors import RecordIOError
from recordio.format.page import Indices
from recordio.reader.batches.maker import BatchMaker, IndexJob, Made
from recordio.reader.loading.options import LoaderOptions
from recordio.reader.loading.prefetch import READ_THREADS, Loading, LoadingWindow, Stream, Windows, Work, jobs, run
from recordio.reader.order.shuffle import Step
from recordio.reader.workers.inline_threads import NoWorkers, ThreadWorkers, Workers
from recordio.reader.workers.processes import ProcessWorkers
from recordio.reader.workers.slots import SharedMemory

_ARENAS = 2  # for each dataset: a window being delivered, and one being loaded


class Engine:
    """Workers and windows for the batches of some datasets. For one epoch at a time, in the process that made it.

    Args:
        make: makes the batches, of the windows of this engine.
        options: of the loader.
        word: the key of the first epoch.
        room: a dataset of this size may stay mapped.

    Raises WorkerError when the workers cannot be started.
    """

    def __init__(self, make: BatchMaker, options: LoaderOptions, word: int, room: int) -> None:
        live: dict[int, LoadingWindow] = {}
        self._make, self._options, self._process = replace(make, windows=live), options, os.getpid()
        self._stores = [dataset.store for dataset in make.datasets]
        self._arenas: list[list[Any]] = [
            [SharedMemory() if options.has_processes else store.arenas.take() for _ in range(_ARENAS)]
            for store in self._stores
        ]
        self._loading = Loading(ThreadPoolExecutor(READ_THREADS, "recordio-read"), make.skip, room, live)
        self._workers = self._new_workers(word)

    def _new_workers(self, word: int) -> Workers:
        options, make = self._options, self._make
        if not options.num_workers:
            return NoWorkers(make)
        if options.worker_type == "thread":
            return ThreadWorkers(options.num_workers, make, options.timeout, options.worker_init_fn)
        return ProcessWorkers(make, options, [*chain(*self._arenas)], word)

    def gathered(
        self, plans: Sequence[Iterator[Step]], turns: Iterator[Indices] | None, samples: int, batch_size: int
    ) -> Iterator[Made]:
        """The batches of so many samples.

        Args:
            plans: the steps of each dataset.
            turns: whose turn it is at each place, when there are several.
        """
        streams = [
            Stream(Windows(source, store, plan, arenas, self._loading), self._make.taken)
            for source, (store, plan, arenas) in enumerate(zip(self._stores, plans, self._arenas, strict=True))
        ]
        return self._run(jobs(streams, turns, samples, batch_size))

    def indexed(self, batches: Iterator[Sequence[int]], word: int) -> Iterator[Made]:
        """The batches of the samples at these indices of the first dataset, in the epoch of this key."""
        return self._run((IndexJob(_kept(indices), word), []) for indices in batches)

    def _run(self, work: Iterator[Work]) -> Iterator[Made]:
        return run(work, self._workers, self._options.ahead, self._options.in_order)

    @property
    def is_ours(self) -> bool:
        """False in a fork of the process that made it: it has none of the threads, and may not touch what they use."""
        return os.getpid() == self._process

    def rest(self) -> bool:
        """Waits until all that is under way has ended. Whether another epoch can be made with it."""
        if not self.is_ours:
            return False
        try:
            for window in self._loading.live.values():
                if isinstance(window.task, Future):
                    wait([window.task])
                for task in window.tasks:
                    task.wait()
        except RecordIOError:
            return False
        self._unmap()
        return True

    def close(self) -> None:
        """Ends everything."""
        if not self.is_ours:
            return
        all_ended = self._workers.close()
        self._loading.readers.shutdown(wait=True, cancel_futures=True)
        self._unmap()
        for store, arenas in zip(self._stores, self._arenas, strict=True):
            for arena in arenas:
                if isinstance(arena, SharedMemory):
                    arena.close()
                elif all_ended:
                    store.arenas.give_back(arena)

    def _unmap(self) -> None:
        """The windows of an epoch that has ended are done with."""
        for window in self._loading.live.values():
            window.layout.unmap(self._stores[window.source])
        self._loading.live.clear()


def _kept(indices: Any) -> Any:
    """A copy: whoever gives the indices may use one list for every batch."""
    return indices.copy() if isinstance(indices, (list, np.ndarray)) else indices
