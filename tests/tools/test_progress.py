"""Progress: a bar on a terminal, lines in a pipe, rate-limited, erased at the end."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios

import pytest

from recordio.tools.progress import ERASE_LINE, Progress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(text: str) -> str:
    """The last line on a terminal after this text."""
    cells: list[str] = []
    at = 0
    for character in text.replace(ERASE_LINE, "\0"):
        if character == "\r":
            at = 0
        elif character == "\0":
            del cells[at:]
        else:
            cells[at : at + 1] = [character]
            at += 1
    return "".join(cells).rstrip()


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")


def test_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    clock, terminal = Clock(), Terminal()
    with Progress("verify", "bytes", stream=terminal, clock=clock) as progress:
        progress(0, 2)
        clock.now += 5
        progress(1, 2)
    assert terminal.getvalue() == "verify   50 %  1 B of 2 B  0 B/s  ETA 5.0 s\n"


def test_bar_shows_percent_rate_and_time_left() -> None:
    clock, terminal = Clock(), Terminal()
    progress = Progress("verify", "bytes", stream=terminal, clock=clock)
    progress(0, 400_000_000)
    clock.now += 2
    progress(100_000_000, 400_000_000)
    shown = screen(terminal.getvalue())
    assert shown == "verify  [=====                 ]   25 %  100 MB of 400 MB  50.0 MB/s  ETA 6.0 s"


def test_samples_are_counted_as_samples() -> None:
    clock, terminal = Clock(), Terminal()
    progress = Progress("convert", "samples", stream=terminal, clock=clock)
    progress(0, 10_000)
    clock.now += 1
    progress(5_000, 10_000)
    assert "5,000 of 10,000 samples" in screen(terminal.getvalue())


def test_terminal_is_redrawn_at_most_ten_times_a_second() -> None:
    clock, terminal = Clock(), Terminal()
    progress = Progress("verify", "bytes", stream=terminal, clock=clock)
    for step in range(1000):  # one second
        clock.now = 100 + step / 1000
        progress(step, 1000)
    assert 5 <= terminal.getvalue().count("\r") <= 10


def test_bar_is_erased_at_the_end() -> None:
    terminal = Terminal()
    with Progress("verify", "bytes", stream=terminal, clock=Clock()) as progress:
        progress(1, 2)
        assert screen(terminal.getvalue()) != ""
    assert screen(terminal.getvalue()) == ""


def test_bar_is_erased_on_an_error() -> None:
    terminal = Terminal()

    def work() -> None:
        with Progress("verify", "bytes", stream=terminal, clock=Clock()) as progress:
            progress(1, 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert terminal.getvalue() != ""
    assert screen(terminal.getvalue()) == ""


def test_shorter_line_erases_a_longer_one() -> None:
    clock, terminal = Clock(), Terminal()
    progress = Progress("verify", "bytes", stream=terminal, clock=clock)
    progress(123_456, 10_000_000)
    clock.now += 1
    progress(5_000_000_000, 10_000_000_000)
    assert screen(terminal.getvalue()).endswith("of 10.0 GB")


def test_pipe_gets_a_line_every_five_seconds() -> None:
    clock, pipe = Clock(), io.StringIO()
    with Progress("verify", "bytes", stream=pipe, clock=clock) as progress:
        for second in range(20):
            clock.now = 100.0 + second
            progress(second * 1_000_000, 20_000_000)
    lines = pipe.getvalue().splitlines()
    assert [line.split("  ")[1].strip() for line in lines] == ["25 %", "50 %", "75 %"]
    assert "\r" not in pipe.getvalue()
    assert "[" not in pipe.getvalue()


def test_short_work_prints_nothing_in_a_pipe() -> None:
    pipe = io.StringIO()
    with Progress("verify", "bytes", stream=pipe, clock=Clock()) as progress:
        progress(1, 1)
    assert pipe.getvalue() == ""


def test_quiet_prints_nothing() -> None:
    clock, terminal = Clock(), Terminal()
    with Progress("verify", "bytes", quiet=True, stream=terminal, clock=clock) as progress:
        progress(0, 2)
        clock.now += 60
        progress(1, 2)
    assert terminal.getvalue() == ""


def test_work_of_an_earlier_run_does_not_count_as_speed() -> None:
    clock, terminal = Clock(), Terminal()
    progress = Progress("convert", "samples", stream=terminal, clock=clock)
    progress(900, 1000)
    clock.now += 10
    progress(950, 1000)
    assert "5.0 samples/s" in screen(terminal.getvalue())


def test_the_next_part_starts_its_own_count() -> None:
    clock, terminal = Clock(), Terminal()
    progress = Progress("convert", "samples", stream=terminal, clock=clock)
    progress(0, 1000)
    clock.now += 1
    progress(1000, 1000)
    clock.now += 100
    progress(0, 500)
    clock.now += 1
    progress(100, 500)
    assert "100 samples/s" in screen(terminal.getvalue())


@pytest.mark.parametrize(("done", "total"), [(0, 0), (5, 0), (7, 5)])
def test_zero_or_exceeded_totals_are_accepted(done: int, total: int) -> None:
    clock, terminal = Clock(), Terminal()
    progress = Progress("convert", "samples", stream=terminal, clock=clock)
    progress(0, total)
    clock.now += 1
    progress(done, total)
    assert "ETA" not in screen(terminal.getvalue())


def test_bar_does_not_wrap_a_real_terminal() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    label = "a label that is long"
    with os.fdopen(theirs, "w") as stream, Progress(label, "bytes", stream=stream, clock=Clock()) as progress:
        progress(500, 1000)
        drawn = os.read(ours, 1000).decode()
    os.close(ours)
    assert screen(drawn).startswith("a label that is long   50 %  500 B")
    assert len(screen(drawn)) < 40
