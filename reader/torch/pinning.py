"""Batches in page-locked memory, from which a GPU copies while the training goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recordio.reader.torch.tensors import dtype_of


def to_pinned(batch: Any) -> Any:
    """The columns of a batch as pinned tensors, by the thread that made it; all but plain arrays stays as it is.

    torch's `pin_memory` copies with all cores, which the workers need, in the thread that trains. Its allocator gives
    the memory of a tensor away again once the GPU has copied from it: so this tensor is handed over, and not another
    one with the same memory.
    """
    if type(batch) is not dict:
        return batch
    return {name: _pinned(value) if type(value) is np.ndarray else value for name, value in batch.items()}


def _pinned(array: npt.NDArray[Any]) -> Any:
    if (dtype := dtype_of(array)) is None:
        return array
    tensor = new_pinned(array.shape, dtype)
    np.copyto(tensor.numpy(), array)
    return tensor


def new_pinned(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor in pinned memory; the contents are undefined."""
    return torch.empty(shape, dtype=dtype, pin_memory=True)
