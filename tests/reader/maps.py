"""What workers make of samples in these tests. A spawned process can import it, and by itself it imports no torch."""

from __future__ import annotations

import os
import sys
import time
from typing import Any


def with_worker(sample: dict[str, Any]) -> dict[str, Any]:
    """With the process that it was made in, whether that has torch, and the number that `makers.note_number` noted."""
    worker = int(os.environ.get("WORKER", "-1"))
    return {**sample, "pid": os.getpid(), "torch": "torch" in sys.modules, "worker": worker}


def paired(sample: dict[str, Any]) -> Any:
    return sample["row"], {"label": sample["label"]}, sample["text"]


def counted(sample: dict[str, Any]) -> Any:
    """A pair, with the number of threads of a torch that nothing else has imported yet."""
    has_torch = "torch" in sys.modules
    import torch

    return sample["row"], {"threads": torch.get_num_threads(), "had torch": has_torch}


def slow(sample: dict[str, Any]) -> dict[str, Any]:
    time.sleep(30)
    return sample


def failing(sample: dict[str, Any]) -> dict[str, Any]:
    raise LookupError(f"not {sample['label']}")
