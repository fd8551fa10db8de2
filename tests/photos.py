"""A synthetic photograph, and its encoded bytes."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
H, W = 90, 120


def photo(height: int = H, width: int = W, seed: int = 0) -> Array:
    """Gradients, edges and noise."""
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 200 / width, y * 200 / height, 100 + 60 * np.sin(x / 9) * np.cos(y / 7)], axis=-1)
    smooth[height // 3 : height // 2, width // 4 :] += 50
    return (smooth + np.random.default_rng(seed).normal(0, 6, smooth.shape)).clip(0, 255).astype("u1")


def encode(pixels: Array, kind: str = "JPEG", **options: Any) -> bytes:
    out = BytesIO()
    Image.fromarray(pixels.squeeze()).save(out, kind, **options)
    return out.getvalue()
