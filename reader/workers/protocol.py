"""What the loader asks of whoever makes its batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from recordio.reader.batches.requests import BatchRequest, IndexRequest, Window


class Task(Protocol):
    """Work that was handed to a pool. `result` is called once: the task keeps nothing of it."""

    def result(self) -> Any: ...
    def done(self) -> bool: ...
    def wait(self, others: Iterable[Any] = ()) -> None:
        """Until it is done, or one of `others`: tasks that were handed to the same pool. Raises WorkerError."""


class Workers(Protocol):
    """Who makes batches. For one thread of the process that made it."""

    def submit(self, request: BatchRequest | IndexRequest) -> Task:
        """Has a batch made. The windows of its slices stay loaded until the task is done."""

    def forget(self, window: Window) -> None:
        """No request reads from this window any more."""

    def close(self) -> bool:
        """Ends them. False when one may go on reading from the windows."""


@dataclass(slots=True)
class CompletedTask:
    """A task that was done as it was handed in."""

    value: Any

    def result(self) -> Any:
        return self.value

    def done(self) -> bool:
        return True

    def wait(self, others: Iterable[Any] = ()) -> None: ...


@dataclass(slots=True)
class FailedTask:
    """A task that cannot be done."""

    error: Exception

    def result(self) -> Any:
        raise self.error

    def done(self) -> bool:
        return True

    def wait(self, others: Iterable[Any] = ()) -> None: ...
