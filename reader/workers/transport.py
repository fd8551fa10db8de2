"""How one process hands objects and errors to another."""

from __future__ import annotations

import pickle
import sys
import traceback
from dataclasses import dataclass, field
from multiprocessing import reduction, spawn
from typing import Any

from recordio.errors import WorkerError
from recordio.process_guard import main_module


class TensorPickler(pickle.Pickler):
    """Pickles tensors of PyTorch, if there are any, as the arrays that they are: its own way makes several copies."""

    def reducer_override(self, value: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch is None or type(value) is not torch.Tensor or value.requires_grad:
            return NotImplemented
        try:
            return torch.from_numpy, (value.numpy(),)
        except (TypeError, RuntimeError):  # on another device, or of a dtype that NumPy does not have
            return NotImplemented


@dataclass(slots=True)
class DeferredPickle:
    """Objects for a process that is being started. They are unpickled by `open`, where an error can be reported.

    A spawned process imports its parent's main module when it must: when something that it gets was defined there.
    """

    objects: Any
    pickled: bytes | None = None
    main: dict[str, Any] = field(default_factory=main_module)  # for multiprocessing.spawn.prepare

    def __reduce__(self) -> tuple[Any, ...]:
        return DeferredPickle, (None, bytes(reduction.ForkingPickler.dumps(self.objects)), self.main)

    def open(self) -> Any:
        return self.objects if self.pickled is None else self.loads(self.pickled)

    def loads(self, pickled: bytes) -> Any:
        """The object that the parent pickled."""
        if self.main and b"main__" in pickled:
            main, self.main = self.main, {}
            spawn.prepare(main)
        return pickle.loads(pickled)


@dataclass(frozen=True, slots=True)
class Failure:
    """What one process tells another of an error."""

    who: str
    summary: str
    traceback: str
    pickled: bytes | None

    @classmethod
    def of(cls, error: Exception, who: str) -> Failure:
        try:
            pickled = pickle.dumps(error)
        except Exception:  # noqa: BLE001 there are many ways not to be picklable
            pickled = None
        summary = "".join(traceback.format_exception_only(error)).strip()
        return cls(who, summary, "".join(traceback.format_exception(error)), pickled)

    def error(self) -> Exception:
        """The error itself, with the worker's traceback as a note; a WorkerError that tells all if it cannot travel."""
        try:
            error: Exception = pickle.loads(self.pickled or b"")
            error.add_note(f"in {self.who}:\n{self.traceback}")
        except Exception:  # noqa: BLE001 nor to be unpicklable, or to take no notes
            error = WorkerError(f"{self.who}: {self.summary}\n\n{self.traceback}")
        return error
