"""Tells a lack of memory from damage, which libraries that decode pictures report alike.

A damaged picture may be skipped; one that memory was short for is good, and may not.
"""

from __future__ import annotations

import numpy as np

_PIXEL_NBYTES = 6  # three channels, as they are decoded and as they are given back
_OPENCV_SAYS = "Insufficient memory"


def require_memory(pixels: int, error: Exception) -> None:
    """To be called once decoding so many pixels has failed. Raises MemoryError where its memory cannot be had."""
    try:
        if _OPENCV_SAYS in str(error):
            raise MemoryError
        np.empty(pixels * _PIXEL_NBYTES, np.uint8)
    except MemoryError:
        text = f"a picture of {pixels:,} pixels takes {pixels * _PIXEL_NBYTES >> 20:,} MiB to decode"
        raise MemoryError(text) from error
