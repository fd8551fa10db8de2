"""How one process hands objects and errors to another."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from dataclasses import dataclass, field
from io import BytesIO
from multiprocessing import reduction, spawn
from types import FunctionType
from typing import Any

from recordio.errors import WorkerError
from recordio.process_guard import main_module

_NO_PICKLES = 'or use worker_type="thread" or multiprocessing_context="fork"'


class TensorPickler(pickle.Pickler):
    """Pickles PyTorch's tensors as arrays: torch's own way makes several copies."""

    def reducer_override(self, value: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch is None or type(value) is not torch.Tensor or value.requires_grad:
            return NotImplemented
        try:
            return torch.from_numpy, (value.numpy(),)
        except (TypeError, RuntimeError):  # on another device, or with a dtype that NumPy lacks
            return NotImplemented


class _FunctionsByName(reduction.ForkingPickler):
    """Refuses, by name, what a new process could not import, and objects that cannot be pickled.

    `main` is the location of the main module. In a notebook, with -c, or read from stdin, it has no file.
    """

    def __init__(self, file: Any, main: dict[str, Any]) -> None:
        super().__init__(file)
        self._seen: list[Any] = []
        path = main.get("init_main_from_path")
        self._main_has_a_file = "init_main_from_name" in main or (path is not None and os.path.exists(path))

    def dump(self, objects: Any) -> None:
        try:
            super().dump(objects)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise WorkerError(
                f"worker processes cannot be given {type(self._holder()).__qualname__}: {error}. Make what cannot be "
                f"pickled when it is first used, in the process that uses it, {_NO_PICKLES}"
            ) from error

    def _holder(self) -> Any:
        """The object that has what could not be pickled as an attribute; that itself if there is none."""
        *before, failed = self._seen or [None]
        holds = (
            one for one in reversed(before) if any(value is failed for value in getattr(one, "__dict__", {}).values())
        )
        return next(holds, failed)

    def reducer_override(self, value: Any) -> Any:
        self._seen.append(value)
        if isinstance(value, FunctionType) and "<" in value.__qualname__:
            where = f"{value.__code__.co_filename}, line {value.__code__.co_firstlineno}"
            raise _unreachable(value, f"is a lambda or was defined inside a function ({where})", "at the top of")
        if isinstance(value, type) and "<" in value.__qualname__:
            raise _unreachable(value, f"was defined inside a function (of {value.__module__})", "at the top of")
        is_named = isinstance(value, (FunctionType, type)) and value.__module__ == "__main__"
        if is_named and not self._main_has_a_file:
            raise _unreachable(value, "was defined in a notebook, with -c or on stdin", "in")
        return NotImplemented


def _unreachable(value: Any, why: str, where: str) -> WorkerError:
    return WorkerError(
        f"worker processes cannot import {value.__qualname__}: it {why}. Put it {where} a module and import it, "
        + _NO_PICKLES
    )


@dataclass(slots=True)
class DeferredPickle:
    """Objects for a process that is being started. `open` unpickles them, where an error can be reported.

    A spawned process imports its parent's main module only if one of its objects was defined there. Pickling raises
    WorkerError for a function that the process could not import.
    """

    objects: Any
    pickled: bytes | None = None
    main: dict[str, Any] = field(default_factory=main_module)  # for multiprocessing.spawn.prepare

    def __reduce__(self) -> tuple[Any, ...]:
        pickled = BytesIO()
        _FunctionsByName(pickled, self.main).dump(self.objects)
        return DeferredPickle, (None, pickled.getvalue(), self.main)

    def open(self) -> Any:
        return self.objects if self.pickled is None else self.loads(self.pickled)

    def loads(self, pickled: bytes) -> Any:
        """Unpickles an object of the parent."""
        if self.main and b"main__" in pickled:
            main, self.main = self.main, {}
            spawn.prepare(main)
        return pickle.loads(pickled)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error on its way to another process."""

    who: str
    summary: str
    traceback: str
    pickled: bytes | None

    @classmethod
    def of(cls, error: Exception, who: str) -> Failure:
        try:
            pickled = pickle.dumps(error)
        except Exception:  # noqa: BLE001 pickling fails in many ways
            pickled = None
        summary = "".join(traceback.format_exception_only(error)).strip()
        return cls(who, summary, "".join(traceback.format_exception(error)), pickled)

    def error(self) -> Exception:
        """The error with the worker's traceback as a note. A WorkerError with both as text if it cannot be pickled."""
        try:
            error: Exception = pickle.loads(self.pickled or b"")
            error.add_note(f"in {self.who}:\n{self.traceback}")
        except Exception:  # noqa: BLE001 it cannot be unpickled, or takes no notes
            error = WorkerError(f"{self.who}: {self.summary}\n\n{self.traceback}")
        return error
