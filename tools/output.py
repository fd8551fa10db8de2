"""Output of the commands: line by line, and safe on a terminal whatever a stranger's dataset holds.

Contract: text from data passes through `clean`; all output passes through `say`, which tells a closed pipe from other
errors.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from recordio.display.text import columns_of


class OutputClosed(Exception):
    """The reader of our output has exited, such as `| head`."""


def say(line: str = "", stream: TextIO | None = None) -> None:
    """Prints a line to standard output. Raises OutputClosed."""
    write(stream or sys.stdout, line + "\n")


def write(stream: TextIO, text: str, flush: bool = False) -> None:
    """Writes any text, escaping characters that the stream cannot encode. Raises OutputClosed."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        if flush:
            stream.flush()
    except BrokenPipeError as error:
        raise OutputClosed from error


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
