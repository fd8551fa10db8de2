"""The interface between the loader and its workers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from recordio.reader.batches.requests import BatchRequest, IndexRequest, Window


class Task(Protocol):
    """A batch or window being made. `result` is called once, so that the task need not keep it."""

    def result(self) -> Any: ...
    def done(self) -> bool: ...
    def wait(self, others: Iterable[Any] = ()) -> None:
        """Until this task or one of `others`, tasks of the same workers, is done. Raises WorkerError."""


class Workers(Protocol):
    """Makes batches. Used by one thread of the process that made it."""

    def submit(self, request: BatchRequest | IndexRequest) -> Task:
        """Begins a batch. The windows of its slices stay loaded until the task is done."""

    def forget(self, window: Window) -> None:
        """No request reads from this window any more."""

    def close(self) -> bool:
        """Ends the workers. False if one of them may still read from the windows."""


@dataclass(slots=True)
class CompletedTask:
    """A task that was done at once."""

    value: Any

    def result(self) -> Any:
        return self.value

    def done(self) -> bool:
        return True

    def wait(self, others: Iterable[Any] = ()) -> None: ...


@dataclass(slots=True)
class FailedTask:
    """A task that failed at once."""

    error: Exception

    def result(self) -> Any:
        raise self.error

    def done(self) -> bool:
        return True

    def wait(self, others: Iterable[Any] = ()) -> None: ...
