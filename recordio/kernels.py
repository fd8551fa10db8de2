"""The kernels in C, if this installation has them: text, bytes, samples read and written one by one; files; pixels.

`RECORDIO_KERNELS=0` in the environment leaves them out. Each has a twin in Python that serves without them, wherever a
kernel declines, and for whatever is damaged: `Pages.take`, `gathered` of reader/ragged_column.py, the function in
reader/samples.py, `Packer.pack` of writer/packing.py, `read_files` of writer/sources/plain_files.py,
OpenCV in `PixelMoments.of`, Pillow in images/resample.py. _kernels.c and _pixels.c have the reasons.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any


def _loaded() -> tuple[Any, str]:
    """The module, or None and the reason."""
    if os.environ.get("RECORDIO_KERNELS") == "0":
        return None, "left out, since RECORDIO_KERNELS is 0"
    if sys.byteorder != "little":  # they copy numbers as they are in the files
        return None, "not for this processor, which is big-endian"
    if not getattr(sys, "_is_gil_enabled", lambda: True)():  # to load them would turn the lock on, for all threads
        return None, "not for Python without its global lock"
    try:
        module = import_module("recordio._kernels")
        return module, "in use" + ("" if module.PIXELS else ", but for pixels, which take a processor with AVX2")
    except ModuleNotFoundError:
        why = "which takes a C compiler and Python's headers: text, single samples and pictures are slower"
        return None, f"not built when recordio was installed, {why}"
    except ImportError as error:
        return None, f"cannot be loaded: {error}"


c: Any  # None without them
c, state = _loaded()
