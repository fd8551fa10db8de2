"""Output of the commands: line by line, and safe on a terminal whatever a stranger's dataset holds.

Contract: text from data passes through `clean`; all output passes through `say`, which tells a closed pipe from other
errors.
"""

from __future__ import annotations

import sys
from typing import TextIO

from recordio.display.text import seconds_text as seconds_text, table as table  # commands take all output from here


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
