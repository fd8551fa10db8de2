"""A value as the content of a file, with the extension that says what it is; also for `recordio show --save`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np

from recordio.display.media import extension_of
from recordio.display.text import exact_json

_NAME_CHARACTERS = 60


def file_names(fields: Iterable[str]) -> Mapping[str, str]:
    """A part of a file's name for each field, all different, of plain characters alone."""
    names: dict[str, str] = {}
    for number, field in enumerate(fields):
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", field)[:_NAME_CHARACTERS]
        while name.lower() in {one.lower() for one in names.values()}:
            name += f"_{number}"
        names[field] = name
    return names


def file_of(value: Any) -> tuple[str, bytes] | None:
    """The extension and content of a value's file; None for numbers and missing values."""
    if value is None or isinstance(value, (np.generic, bool, int, float, complex)):
        return None
    if isinstance(value, bytes):
        return extension_of(value), value
    if isinstance(value, str):
        return ".txt", value.encode("utf-8")
    if isinstance(value, np.ndarray):
        return ".npy", npy_bytes(value)
    return ".json", exact_json(value).encode()


def npy_bytes(array: np.ndarray[Any, Any]) -> bytes:
    """An array as a .npy file."""
    return npy_header(array.dtype, array.shape) + array.tobytes()


@lru_cache(1024)
def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The beginning of a .npy file of version 1, before the elements in C order."""
    file = BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)
    return file.getvalue()
