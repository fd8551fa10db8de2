"""One value of a sample as a line of text, and as JSON.

Contract: takes any value that a dataset can hold; the text is clean and fits the width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.display.text import bytes_text, columns_of, cut, error_text, json_text, object_text, plain
from recordio.errors import DecodeError
from recordio.format.image_field import image_format
from recordio.format.numeric import Scalar
from recordio.format.schema import Schema
from recordio.images.header import image_size

LABELS = ("label", "labels")  # the fields that index metadata["classes"]
JSON_ELEMENTS = 64  # larger arrays are summarised
FIRST = 8
HEX_BYTES = 16


@dataclass(frozen=True, slots=True)
class Damaged:
    """Stands for a value that cannot be read."""

    reason: str


def sample_lines(sample: Mapping[str, Any], metadata: Mapping[str, Any], columns: int) -> Iterator[str]:
    """A line for each field, its name and its value, of at most `columns` columns."""
    names = {name: cut(name, columns // 3) for name in sample}
    width = max(map(columns_of, names.values()), default=0)
    for name, value in sample.items():
        head = f"  {names[name]}{' ' * (width - columns_of(names[name]))}  "
        yield head + value_text(value, columns - columns_of(head), classes_of(name, metadata))


def classes_of(name: str, metadata: Mapping[str, Any]) -> list[Any] | None:
    """The names of a field's classes, None for a field that is no label: `label`, and the labels of boxes, `labels`."""
    classes = metadata.get("classes")
    return classes if name in LABELS and isinstance(classes, list) else None


def label_field(schema: Schema, metadata: Mapping[str, Any]) -> str | None:
    """The field that says the class of a sample, an integer; None if there is none, or the classes have no names."""
    for name, kind in schema.items():
        if isinstance(kind, Scalar) and kind.dtype.kind in "iu" and classes_of(name, metadata) is not None:
            return name
    return None


def value_text(value: Any, width: int, classes: Any = None) -> str:
    """At most `width` columns of clean text. `classes`: class names by label, if any. Never raises."""
    try:
        words, name = _text(value, width), _class_name(value, classes)
    except Exception as error:  # noqa: BLE001 maps return any object, and its code runs in here
        words, name = f"{type(value).__name__} that cannot be shown: {error_text(error)}", None
    return cut(f"{words} ({name})" if name is not None else words, width)


def json_value(value: Any) -> Any:
    """Numbers, text and small arrays unchanged; bytes as their length; large arrays as dtype, shape, min and max."""
    if isinstance(value, np.generic):
        return plain(value.item())
    if not isinstance(value, np.ndarray):
        return plain(value)
    if value.size <= JSON_ELEMENTS:
        return plain(value.tolist())
    least, most = _extremes(value)
    return plain({"dtype": str(value.dtype), "shape": list(value.shape), "min": least, "max": most})


def _class_name(value: Any, classes: Any) -> str | None:
    """The name of a label, None unless `classes` is a list with an item for it: metadata may hold anything."""
    if not isinstance(classes, list) or not isinstance(value, (int, np.integer)) or not 0 <= value < len(classes):
        return None
    return str(classes[value])


def _text(value: Any, width: int) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return f'"{cut(value, width - 2)}"'
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _bytes_text(bytes(value))
    if isinstance(value, np.ndarray) and value.shape:
        return _array_text(value)
    if isinstance(value, (bool, int, float, complex, np.generic, np.ndarray)):
        return _number(value)
    return json_text(value) if isinstance(value, (dict, list, tuple)) else object_text(value)


def _number(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    return f"{value:.6g}" if isinstance(value, (float, complex, np.inexact)) else str(value)


def _bytes_text(data: bytes) -> str:
    kind = image_format(data[:16])
    if not data:
        return "0 B"
    if kind is None:
        more = " ..." if len(data) > HEX_BYTES else ""
        return f"{bytes_text(len(data))}: {data[:HEX_BYTES].hex(' ')}{more}"
    return f"{kind} {_size_text(data)}, {bytes_text(len(data))}"


def _size_text(data: bytes) -> str:
    try:
        height, width = image_size(data)
    except DecodeError:
        return "of unknown size"
    return f"{height} x {width}"


def _array_text(array: npt.NDArray[Any]) -> str:
    head = f"{array.dtype}{list(array.shape)}"
    if not array.size:
        return f"{head} empty"
    first = " ".join(_number(v) for v in array.reshape(-1)[:FIRST])
    least, most = _extremes(array)
    spread = f" min {_number(least)} max {_number(most)}" if least is not None else ""
    return f"{head}{spread}: {first}{' ...' if array.size > FIRST else ''}"


def _extremes(array: npt.NDArray[Any]) -> tuple[Any, Any]:
    """Minimum and maximum, ignoring NaN and what is masked; None without values that have an order."""
    values = array.compressed() if isinstance(array, np.ma.MaskedArray) else array
    if values.dtype.kind not in "buifmM" or not values.size:
        return None, None
    return np.fmin.reduce(values, axis=None).item(), np.fmax.reduce(values, axis=None).item()
