"""Objects for a process that is being started, with an error that helps where they cannot get there."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field
from io import BytesIO
from multiprocessing import reduction, spawn
from types import FunctionType
from typing import Any

from recordio.errors import WorkerError
from recordio.process_guard import main_module


class _FunctionsByName(reduction.ForkingPickler):
    """Refuses, by name, what a new process could not import, and objects that cannot be pickled.

    `main` is the location of the main module. In a notebook, with -c, or read from stdin, it has no file.
    """

    def __init__(self, file: Any, main: dict[str, Any], advice: str) -> None:
        super().__init__(file)
        self._advice = advice
        self._seen: list[Any] = []
        path = main.get("init_main_from_path")
        self._main_has_a_file = "init_main_from_name" in main or (path is not None and os.path.exists(path))

    def dump(self, objects: Any) -> None:
        try:
            super().dump(objects)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise WorkerError(
                f"worker processes cannot be given {type(self._holder()).__qualname__}: {error}. Make what cannot be "
                f"pickled when it is first used, in the process that uses it, {self._advice}"
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
            raise self._unreachable(value, f"is a lambda or was defined inside a function ({where})", "at the top of")
        if isinstance(value, type) and "<" in value.__qualname__:
            raise self._unreachable(value, f"was defined inside a function (of {value.__module__})", "at the top of")
        is_named = isinstance(value, (FunctionType, type)) and value.__module__ == "__main__"
        if is_named and not self._main_has_a_file:
            raise self._unreachable(value, "was defined in a notebook, with -c or on stdin", "in")
        return NotImplemented

    def _unreachable(self, value: Any, why: str, where: str) -> WorkerError:
        return WorkerError(
            f"worker processes cannot import {value.__qualname__}: it {why}. Put it {where} a module and import it, "
            + self._advice
        )


@dataclass(slots=True)
class DeferredPickle:
    """Objects for a process that is being started. `open` unpickles them, where an error can be reported.

    A spawned process imports its parent's main module only if one of its objects was defined there. Pickling raises
    WorkerError for a function that the process could not import; `advice` is how its message ends, "or ...".
    """

    objects: Any
    pickled: bytes | None = None
    main: dict[str, Any] = field(default_factory=main_module)  # for multiprocessing.spawn.prepare
    advice: str = "or do without processes"

    def __reduce__(self) -> tuple[Any, ...]:
        pickled = BytesIO()
        _FunctionsByName(pickled, self.main, self.advice).dump(self.objects)
        return DeferredPickle, (None, pickled.getvalue(), self.main)

    def refusal(self) -> WorkerError | None:
        """The error of pickling the objects, if they cannot be. Keeps none of the bytes."""
        try:
            _FunctionsByName(_Nowhere(), self.main, self.advice).dump(self.objects)
        except WorkerError as error:
            return error
        return None

    def open(self) -> Any:
        return self.objects if self.pickled is None else self.loads(self.pickled)

    def loads(self, pickled: bytes) -> Any:
        """Unpickles an object of the parent."""
        if self.main and b"main__" in pickled:
            main, self.main = self.main, {}
            _import_main(main)
        return pickle.loads(pickled)


class _Nowhere(BytesIO):
    """Keeps nothing of what is written."""

    def write(self, data: Any) -> int:
        return len(data)


_importing_main = False


def _import_main(main: dict[str, Any]) -> None:
    global _importing_main
    _importing_main = True
    try:
        spawn.prepare(main)
    finally:
        _importing_main = False


def refuse_in_imported_main(what: str) -> None:
    """Raises WorkerError if a worker process is importing the main module, which would run `what` once more."""
    if _importing_main:
        raise WorkerError(
            f"worker processes import the script for the functions in it, and would run {what} again: put the call "
            'under `if __name__ == "__main__":`'
        )
