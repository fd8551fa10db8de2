"""Values of samples as JSON and back: bytes as hex, NumPy arrays and scalars with their dtype."""

from __future__ import annotations

from typing import Any

import numpy as np


def to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, (np.ndarray, np.generic)):
        return {"dtype": value.dtype.name, "shape": list(value.shape), "hex": value.tobytes().hex()}
    if isinstance(value, dict):
        return {"dict": {name: to_json(found) for name, found in value.items()}}
    return [to_json(found) for found in value] if isinstance(value, list) else value


def from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [from_json(found) for found in value]
    if not isinstance(value, dict):
        return value
    if "bytes" in value:
        return bytes.fromhex(value["bytes"])
    if "dict" in value:
        return {name: from_json(found) for name, found in value["dict"].items()}
    return np.frombuffer(bytes.fromhex(value["hex"]), value["dtype"]).reshape(value["shape"])
