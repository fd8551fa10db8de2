"""How one process hands objects and errors to another."""

from __future__ import annotations

import pickle
import sys
import traceback
from dataclasses import dataclass
from typing import Any

from recordio.errors import WorkerError


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
