"""PyTorch tensors as NumPy arrays: the numbers exactly, or a SchemaError. Does not import PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import SchemaError


def is_tensor(value: Any) -> bool:
    """Whether this is a torch.Tensor, by its methods."""
    return hasattr(value, "resolve_conj") and hasattr(value, "requires_grad")


def tensor_array(tensor: Any) -> npt.NDArray[Any]:
    """The numbers of a tensor: without its gradient, on the host, conjugated or negated where a bit says so.

    Raises SchemaError if NumPy has no array for it, with the call that makes one.
    """
    try:
        array: npt.NDArray[Any] = np.asarray(tensor.numpy(force=True))
    except (TypeError, ValueError, RuntimeError) as error:
        raise SchemaError(f"a tensor ({_describe(tensor)}) cannot be stored as it is: {_advice(tensor)}") from error
    return array


def _describe(tensor: Any) -> str:
    layout = str(tensor.layout).removeprefix("torch.")
    words = [str(tensor.dtype).removeprefix("torch."), *([] if layout == "strided" else [layout])]
    return ", ".join([*words, *([f"on {tensor.device.type}"] if tensor.device.type == "meta" else [])])


def _advice(tensor: Any) -> str:
    if tensor.device.type == "meta":
        return "it holds no numbers"
    if getattr(tensor, "is_nested", False):
        return "its rows differ in shape; give those of tensor.unbind()"
    if str(tensor.layout) != "torch.strided":
        return "tensor.to_dense() can be"
    if tensor.is_quantized:
        return "tensor.dequantize() or tensor.int_repr() can be"
    if tensor.is_floating_point():
        return "NumPy has no such type, but tensor.float() keeps every value"
    return "NumPy has no such type; convert it with tensor.to(dtype) first"
