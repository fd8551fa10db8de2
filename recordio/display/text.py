"""Plain text from any data: safe to print, short, readable.

Contract: what comes from data passes through `clean` before it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from recordio.errors import SchemaError
from recordio.printable import clean as clean  # where text is made for a display, it is looked for here

TAIL = "..."
MAX_DEPTH = 200  # deeper objects would exhaust the stack
CLASSES_SHOWN = 10


def columns_of(text: str) -> int:
    """Terminal columns of clean text: East Asian wide characters take two."""
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, width: int) -> str:
    """Clean text of at most `width` columns, ending in three dots if cut."""
    text = clean(text[: width + 1])
    if columns_of(text) <= width:
        return text
    text = text[: max(width - len(TAIL), 0)]
    while columns_of(text) > width - len(TAIL) and text:
        text = text[:-1]
    return text + TAIL[:width]


def bytes_text(nbytes: float) -> str:
    """1234567 -> '1.23 MB'. Powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if nbytes < 999.5:
            return f"{nbytes:.0f} B" if unit == "B" else f"{_three_digits(nbytes)} {unit}"
        nbytes /= 1000
    return f"{nbytes:,.0f} PB"


def _three_digits(value: float) -> str:
    digits = (value < 9.995) + (value < 99.95)
    return f"{value:.{digits}f}"


def seconds_text(seconds: float) -> str:
    """3725 -> '1:02:05', 75 -> '1:15', 2.5 -> '2.5 s', 0.012 -> '12 ms'."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """The lines of a table. `right`: numbers of the right-aligned columns. Cells are clean already."""
    rows, right = [head, *rows], set(right)
    widths = [max(map(columns_of, cells)) for cells in zip(*rows, strict=True)]
    return ["  ".join(_pad(row[i], widths[i], i in right) for i in range(len(head))).rstrip() for row in rows]


def _pad(cell: str, width: int, right: bool) -> str:
    space = " " * (width - columns_of(cell))
    return space + cell if right else cell + space


def count_text(number: int, noun: str) -> str:
    """1 -> '1 shard', 1234 -> '1,234 shards'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[object]) -> str:
    """The first of the names, cleaned: 'cat, dog, ...'."""
    more = ", ..." if len(names) > CLASSES_SHOWN else ""
    return clean(", ".join(map(str, names[:CLASSES_SHOWN])) + more)


def json_line(value: Any) -> str:
    """The value as one line of printable ASCII JSON, safe on a terminal."""
    import json

    return json.dumps(plain(value), allow_nan=False).replace("\x7f", "\\u007f")


def json_text(value: Any) -> str:
    """The value as readable JSON. Not clean yet."""
    import json

    return json.dumps(plain(value), ensure_ascii=False)


def exact_json(value: Any) -> str:
    """JSON that keeps what is in an object: bytes as {"base64": ...}, NaN and infinities as text. Not clean yet.

    Raises SchemaError for an object that is nested too deeply.
    """
    import json

    try:
        return json.dumps(_encoded(value), allow_nan=False, ensure_ascii=False)
    except RecursionError:
        raise SchemaError("an object is nested too deeply to be written as JSON") from None


def _encoded(value: Any) -> Any:
    if isinstance(value, bytes):
        from base64 import b64encode

        return {"base64": b64encode(value).decode("ascii")}
    if isinstance(value, dict):
        return {name: _encoded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return list(map(_encoded, value))
    return plain(value) if isinstance(value, float) else value


def plain(value: Any, depth: int = MAX_DEPTH) -> Any:
    """A JSON-compatible form: bytes become their length; NaN, infinities and unknown types become text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else _odd_float(value)
    if isinstance(value, complex):
        return [plain(value.real), plain(value.imag)]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"bytes": len(value)}
    if isinstance(value, (dict, list, tuple)) and not depth:
        return TAIL
    if isinstance(value, dict):
        return {str(key): plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth - 1) for item in value]
    return object_text(value)


def object_text(value: Any) -> str:
    """Pictures of PIL as mode and size, tensors as dtype and shape, anything else as it says itself. Not clean yet."""
    if hasattr(value, "mode") and isinstance(size := getattr(value, "size", None), tuple) and len(size) == 2:
        return f"picture {value.mode} {size[1]} x {size[0]}"
    if type(value).__module__ != "numpy" and hasattr(value, "dtype") and getattr(value, "shape", None):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return str(value)


def error_text(error: BaseException) -> str:
    """'ValueError: what it says', whatever the error's own code does. Not clean yet."""
    try:
        words = str(error)
    except Exception:  # noqa: BLE001 it is the user's
        words = ""
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _odd_float(value: float) -> str:
    if value != value:
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
