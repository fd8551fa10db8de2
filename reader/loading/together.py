"""Several batches made together: from many datasets a batch has few samples of each, and each costs a gather.

The batches are those that would be made one by one. If making them together fails, they are made one by one, so that an
error stays with its batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from recordio.errors import WorkerError
from recordio.reader.batches.maker import BatchMaker
from recordio.reader.batches.requests import BatchRequest, BatchResult
from recordio.reader.workers.protocol import CompletedTask, FailedTask, Task

_EACH = 64  # samples of each dataset: then a gather costs a sample little more than with a single dataset
_LEAST = 2048  # samples in all
_NBYTES = 32 << 20  # of all batches that are made together and not delivered yet

Submit = Callable[[BatchRequest], Task]


def batches_together(make: BatchMaker, batch_size: int, ahead: int) -> int:
    """How many batches to make together, so that with as many more `ahead` they stay within 32 MiB.

    One if there is a single dataset, or if making a batch takes more than gathers.
    """
    stores = [dataset.store for dataset in make.datasets]
    if len(stores) == 1 or not make.is_gather:
        return 1
    largest = max(store.content_nbytes // max(1, store.samples) for store in stores)
    samples: int = min(max(_LEAST, _EACH * len(stores)), _NBYTES // (ahead + 1) // max(1, largest))
    return max(1, samples // batch_size)


class SeveralBatches:
    """The task of several batches. It keeps none that was delivered: leases can keep a task for the whole epoch.

    Args:
        submit: begins to make a batch, or several.
        batch_size: rows of each batch; the last one may be smaller.
        request: the request for all of them.
    """

    def __init__(self, submit: Submit, batch_size: int, request: BatchRequest) -> None:
        self._submit = submit
        self._batch_size = batch_size
        self._together: tuple[BatchRequest, Task] | None = request, _attempt(submit, request)
        self._each: deque[Task] = deque()  # a task for each batch, once making them together has ended
        self._is_done = False

    def result(self) -> Iterator[BatchResult]:
        """The batches in order. Raises the error of a batch in its place."""
        self.wait()
        while self._each:
            yield self._each.popleft().result()

    def done(self) -> bool:
        self._is_done = self._is_done or self._unfinished() is None
        return self._is_done

    def wait(self, others: Iterable[SeveralBatches] = ()) -> None:
        every = [self, *others]
        while not self.done():
            waiting = [task for one in every if (task := one._unfinished()) is not None]
            if len(waiting) < len(every):  # a task may end at any moment, so each is looked at once
                return
            waiting[0].wait(waiting[1:])

    def _unfinished(self) -> Task | None:
        """A task that has not ended yet."""
        if self._together is not None:
            request, task = self._together
            if not task.done():
                return task
            self._each.extend(self._tasks(request, task))
            self._together = None
        return next((task for task in self._each if not task.done()), None)

    def _tasks(self, request: BatchRequest, together: Task) -> Iterator[Task]:
        """The task of each batch, when the one of all has ended."""
        try:
            result: BatchResult = together.result()
        except WorkerError as error:  # there are no workers any more
            yield FailedTask(error)
        except Exception:  # noqa: BLE001 the batch that it belongs to raises it again
            yield from (_attempt(self._submit, one) for one in request.each(self._batch_size))
        else:
            yield from map(CompletedTask, result.each(self._batch_size))


def _attempt(submit: Submit, request: BatchRequest) -> Task:
    """Begins to make a batch, or several."""
    try:
        return submit(request)
    except Exception as error:  # noqa: BLE001 raised where the batch is asked for
        return FailedTask(error)
