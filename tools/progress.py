"""Progress on standard error: a bar on a terminal, otherwise a line every few seconds.

Contract: the library calls `progress(done, total)` as often as it likes. A terminal is redrawn at most ten times a
second, and cleared after the `with` block. The clock is an argument, so that tests need not wait.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TextIO

from recordio.display.text import bytes_text, columns_of, cut
from recordio.tools.output import OutputClosed, seconds_text, write

REDRAW_SECONDS = 0.1
LINE_SECONDS = 5.0
BAR_COLUMNS = 30
ERASE_LINE = "\x1b[K"  # to the end of the line, where the terminal may have echoed ^C; ECMA-48 8.3.41
MIN_BAR_COLUMNS = 5


class Progress:
    """A reporter to hand to the library, as a context manager.

    `unit` is "bytes" or a plural noun. With `quiet` nothing is printed.
    """

    def __init__(
        self,
        label: str,
        unit: str,
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label = label
        self.unit = unit
        self.quiet = quiet
        self.stream = stream or sys.stderr
        self.clock = clock
        self.started = clock()
        self.terminal = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.done = 0
        self._first: tuple[float, int, int] | None = None  # when, done and total of the first call
        self._printed = float("-inf") if self.terminal else self.started
        self._drawn = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OutputClosed):  # must not hide the command's own error
            self.clear()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started

    def __call__(self, done: int, total: int) -> None:
        now = self.clock()
        if self._first is None or done < self.done or total != self._first[2]:
            self._first = (now, done, total)  # the next part of the work has begun
        self.done = done
        every = REDRAW_SECONDS if self.terminal else LINE_SECONDS
        if self.quiet or now - self._printed < every:
            return
        self._printed = now
        words = self._words(now, done, total)
        if self.terminal:
            self._draw(self._bar(done, total, words) + words)
        else:
            write(self.stream, f"{self.label}  {words}\n", flush=True)

    def clear(self) -> None:
        """Erases the bar."""
        if self._drawn:
            write(self.stream, f"\r{ERASE_LINE}", flush=True)

    def _draw(self, line: str) -> None:
        """Leaves the last column free: filling it would wrap the line."""
        line = cut(line, _columns(self.stream) - 1)
        now = columns_of(line)
        write(self.stream, "\r" + line + " " * (self._drawn - now), flush=True)
        self._drawn = now

    def _words(self, now: float, done: int, total: int) -> str:
        parts = [f"{int(min(done / total, 1.0) * 100):3d} %"] if total > 0 else []
        parts.append(self._amount(done, total))
        rate = self._rate(now, done)
        if rate:
            parts.append(rate_text(rate, self.unit))
            parts += [f"ETA {seconds_text((total - done) / rate)}"] if total > done else []
        return "  ".join(parts)

    def _bar(self, done: int, total: int, words: str) -> str:
        """The label and a bar in the columns that are left; no bar on a narrow terminal."""
        width = min(_columns(self.stream) - len(f"{self.label}  []  {words}") - 1, BAR_COLUMNS)
        if total <= 0 or width < MIN_BAR_COLUMNS:
            return f"{self.label}  "
        full = int(min(done / total, 1.0) * width)
        return f"{self.label}  [{'=' * full}{' ' * (width - full)}]  "

    def _amount(self, done: int, total: int) -> str:
        if self.unit == "bytes":
            return f"{bytes_text(done)} of {bytes_text(total)}" if total > 0 else bytes_text(done)
        return f"{done:,} of {total:,} {self.unit}" if total > 0 else f"{done:,} {self.unit}"

    def _rate(self, now: float, done: int) -> float:
        """Units per second since the first call, so that work of an earlier run does not count."""
        when, before, _ = self._first or (now, done, 0)
        return (done - before) / (now - when) if now > when else 0.0


def rate_text(rate: float, unit: str) -> str:
    """A rate in a second: '512 MB/s', '1,234 samples/s'."""
    if unit == "bytes":
        return f"{bytes_text(rate)}/s"
    return f"{rate:,.0f} {unit}/s" if rate >= 9.95 else f"{rate:.1f} {unit}/s"


def _columns(stream: TextIO) -> int:
    """Columns of this stream's terminal; standard output may be another terminal or a pipe."""
    with suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or shutil.get_terminal_size().columns
    return shutil.get_terminal_size().columns
