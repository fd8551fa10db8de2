"""How a loader delivers, beside the order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from recordio.arguments import choice, integer
from recordio.errors import SchemaError

_MAX_TIMEOUT = 10**6  # seconds; the system cannot wait for many more


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """How a loader delivers, beside the order; see DataLoader."""

    batch_size: int | None
    drop_last: bool
    even_batches: bool
    num_workers: int
    worker_type: Literal["thread", "process"]
    multiprocessing_context: Any
    persistent_workers: bool
    prefetch_factor: int
    in_order: bool
    timeout: float
    worker_init_fn: Callable[[int], Any] | None
    on_error: Literal["raise", "skip"]

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("num_workers", 0), ("prefetch_factor", 1)):
            found = integer(name, getattr(self, name), least, optional=name == "batch_size")
            object.__setattr__(self, name, found)
        for name, choices in (("on_error", ("raise", "skip")), ("worker_type", ("thread", "process"))):
            choice(name, getattr(self, name), choices)
        if not isinstance(self.timeout, (int, float)) or not 0 <= self.timeout <= _MAX_TIMEOUT:
            raise SchemaError(f"timeout is {self.timeout!r}: expected seconds, or 0 for none")
        if self.multiprocessing_context is not None and self.worker_type == "thread":
            raise SchemaError("multiprocessing_context is for worker_type='process'")

    @property
    def has_processes(self) -> bool:
        return self.num_workers > 0 and self.worker_type == "process"

    @property
    def ahead(self) -> int:
        """Batches made before they are asked for."""
        return self.num_workers * self.prefetch_factor
