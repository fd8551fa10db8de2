"""The run of an epoch: prefetches windows, makes batches ahead, and yields them; bounded at every stage.

A few threads load one window ahead. Workers, threads or processes, make batches ahead; without workers the caller's
thread makes each batch when it is asked for. The contents of a batch never depend on who makes it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, repeat
from time import perf_counter_ns
from typing import Any

import numpy as np

from recordio.errors import RecordIOError
from recordio.format.page import Indices
from recordio.reader.batches.fetch_plan import MAPPED_NBYTES
from recordio.reader.batches.index_batch import IndexBatch
from recordio.reader.batches.maker import BatchMaker
from recordio.reader.batches.memory import Arena, ArenaPool, arenas_of
from recordio.reader.batches.requests import BatchResult, IndexRequest
from recordio.reader.dataset import ShardDataset
from recordio.reader.fetch_threads import FetchThreads
from recordio.reader.loading.joint_access import joint_access
from recordio.reader.loading.lookahead import Lookahead, Widened, widened_to_units
from recordio.reader.loading.options import LoaderOptions
from recordio.reader.loading.prefetch import FetchContext, WindowPrefetcher
from recordio.reader.loading.stats import LoaderStats
from recordio.reader.loading.stream import Stream, Work, requests
from recordio.reader.loading.together import SeveralBatches, batches_together
from recordio.reader.order.shuffle import SHUFFLE_WINDOW_BYTES, WindowPlan
from recordio.reader.workers.inline_threads import InlineWorkers, ThreadWorkers
from recordio.reader.workers.pool import WorkerPool
from recordio.reader.workers.processes import ProcessWorkers, seed_worker, slots_for
from recordio.reader.workers.protocol import Task, Workers
from recordio.reader.workers.slots import Region, SharedMemory
from recordio.reader.workers.thread_trial import ThreadTrial

Following = Callable[[], Sequence[Iterator[WindowPlan]]]
_Submitted = tuple[Task, int]  # and when, in nanoseconds
_REST_SECONDS = 5.0  # for what is on its way when an epoch is left: a network may take for ever
_MEMORIES = 2  # for each dataset: a window being delivered, and one being loaded


class EpochRun:
    """The workers and windows of a loader. Runs one epoch at a time, in the process that made it.

    Args:
        make: makes the batches.
        options: the options of the loader.
        epoch_key: the key of the first epoch.
        trial: says how many threads make batches at a time.
        stats: counts what is done.

    Raises WorkerError when the workers cannot be started.
    """

    def __init__(
        self, make: BatchMaker, options: LoaderOptions, epoch_key: int, trial: ThreadTrial, stats: LoaderStats
    ) -> None:
        self._make = make
        self._options = options
        self._trial = trial
        self._stats = stats
        self._process = os.getpid()
        self._pools = [arenas_of(dataset.parts[0].store) for dataset in make.datasets]
        self._shared = [SharedMemory() for _ in range(_MEMORIES)] if options.has_processes else []
        self._memories = [self._new_memories(pool) for pool in self._pools]
        self._prefetchers: list[WindowPrefetcher] = []
        accesses, _ = joint_access([part.store for one in make.datasets for part in one.parts])
        self._threads = FetchThreads(max(access.reads for access in accesses.values()))
        self._workers = self._new_workers(epoch_key)
        limit = MAPPED_NBYTES + (options.order.window_bytes or SHUFFLE_WINDOW_BYTES)
        self._context = FetchContext(self._threads, self._workers.forget, limit, stats, accesses)

    def _new_memories(self, pool: ArenaPool) -> list[Region] | list[Arena]:
        if self._options.has_processes:
            return [Region(memory) for memory in self._shared]
        return [pool.take() for _ in range(_MEMORIES)]

    def _new_workers(self, epoch_key: int) -> Workers:
        options, make = self._options, self._make
        if not options.num_workers:
            return InlineWorkers(make)
        if options.worker_type == "thread":
            choose = partial(self._stats.flow.sampling.choose, make)
            return ThreadWorkers(options.num_workers, make.timed, options.timeout, self._trial, choose)
        start = partial(
            WorkerPool,
            options.num_workers,
            context=options.multiprocessing_context,
            slots=slots_for(options.ahead),
            timeout=options.timeout,
            init=partial(seed_worker, epoch_key, options.worker_init_fn),
            count_handover=self._stats.flow.add_handover,
        )
        return ProcessWorkers(replace(make, finish=None), self._shared, start)

    def windowed(
        self,
        plans: Sequence[Iterator[WindowPlan]],
        sources: Iterator[Indices] | None,
        samples: int,
        batch_size: int,
        views: Sequence[ShardDataset],
        following: Following | None = None,
    ) -> Iterator[BatchResult]:
        """The batches of an epoch or of its rest.

        Args:
            plans: the windows of each dataset.
            sources: the dataset of each sample, in chunks; None for a single dataset.
            samples: the number of samples, or of bins.
            batch_size: samples a batch, or bins.
            views: of which samples of each dataset they are, for what is fetched ahead.
            following: gives the windows of each dataset in the next epoch.
        """
        widened = [widened_to_units(view, self._options.order) for view in views]
        self._prefetchers = [
            self._new_prefetcher(source, *one, following) for source, one in enumerate(zip(plans, widened, strict=True))
        ]
        streams = [
            Stream(prefetcher, self._make.read_early, self._options.has_bins) for prefetcher in self._prefetchers
        ]
        together = 1 if self._options.has_bins else batches_together(self._make, batch_size, self._options.ahead)
        work = requests(streams, sources, samples, batch_size, together)
        return self._deliver(work) if together == 1 else chain.from_iterable(self._deliver(work, batch_size))

    def _new_prefetcher(
        self, source: int, plans: Iterator[WindowPlan], widened: Widened | None, following: Following | None
    ) -> WindowPrefetcher:
        dataset = self._make.datasets[source]
        if dataset.store.storage.is_remote:
            limit = self._options.prefetch_bytes // len(self._make.datasets)
            later = None if following is None else lambda: following()[source]
            plans = Lookahead(dataset.store, dataset.fields, plans, limit, self._threads, later, widened)
        return WindowPrefetcher(
            source=source,
            dataset=dataset.store,
            fields=dataset.fields,
            plans=plans,
            memories=self._memories[source],
            context=self._context,
        )

    def indexed(self, batches: Iterator[Sequence[int]], start: int, epoch_key: int) -> Iterator[BatchResult]:
        """The batches of these indices of the first dataset, in the epoch of this key; the first is number `start`."""
        return self._deliver((_index_request(one, epoch_key, number), []) for number, one in enumerate(batches, start))

    def _deliver(self, work: Iterator[Work], several: int | None = None) -> Iterator[Any]:
        """The batches, with `options.ahead` requests more being made.

        `several`: the requests are for several batches of this size, and each gives an iterator of them.
        """
        submit: Callable[[Any], Task] = self._workers.submit
        if several is not None:
            submit = partial(SeveralBatches, submit, several)
        limit = self._options.ahead
        ahead: deque[_Submitted] = deque()
        flow, now = self._stats.flow, perf_counter_ns
        asked = flow.begin()
        source: Iterator[Work | None] = chain(work, repeat(None))
        while (one := next(source)) is not None or ahead:
            if one is not None:
                task = submit(one[0])
                for lease in one[1]:
                    lease.hand_to(task)
                ahead.append((task, asked))
                if len(ahead) <= limit:
                    continue
            task, flow.submitted = self._next(ahead)
            made = [task.result()]
            del task
            flow.handed = handed = now()
            flow.waited += handed - asked
            yield made.pop()
            asked = now()
            flow.held += asked - handed
        for prefetcher in self._prefetchers:
            prefetcher.check_leases()

    def _next(self, ahead: deque[_Submitted]) -> _Submitted:
        """The oldest task; with in_order=False the oldest that is done, as soon as there is one."""
        if self._options.in_order:
            return ahead.popleft()
        tasks = [task for task, _ in ahead]
        if not any(task.done() for task in tasks):
            tasks[0].wait(tasks)
        position = next(k for k, task in enumerate(tasks) if task.done())
        found = ahead[position]
        del ahead[position]
        return found

    @property
    def makes_columns(self) -> bool:
        """Whether batches are dicts of columns, and not what a `collate_fn` makes, nor single samples."""
        return self._make.makes_columns

    @property
    def is_ours(self) -> bool:
        """False in a fork, which has none of the threads and must not touch their data."""
        return os.getpid() == self._process

    def rest(self) -> bool:
        """Waits for everything under way. Whether the run can be used for another epoch."""
        if not (self.is_ours and all(prefetcher.has_loaded(_REST_SECONDS) for prefetcher in self._prefetchers)):
            return False
        try:
            for prefetcher in self._prefetchers:
                prefetcher.finish()
        except RecordIOError:
            return False
        return True

    def close(self) -> None:
        """Ends workers and threads, and frees all memory."""
        if not self.is_ours:
            return
        self._threads.give_up()  # else the workers would wait for them, and they for the network
        all_ended = self._workers.close()
        self._threads.close()
        for prefetcher in self._prefetchers:
            prefetcher.unmap()
        for shared in self._shared:
            shared.close()
        for pool, memories in zip(self._pools, self._memories, strict=True):
            for memory in memories:
                if isinstance(memory, Arena) and all_ended:
                    pool.give_back(memory)


def _index_request(indices: Any, epoch_key: int, number: int) -> IndexRequest:
    if isinstance(indices, IndexBatch):  # a tool has rebuilt a loader with its own order
        return indices.request(number)
    if isinstance(indices, list) or hasattr(indices, "__array__"):
        indices = list(indices) if isinstance(indices, list) else np.array(indices)  # a sampler may reuse it
    return IndexRequest(indices, epoch_key, number)
