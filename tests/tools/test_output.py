"""Output of the commands: written whole, aligned, and a closed pipe is no other error."""

from __future__ import annotations

import io

import pytest

from recordio.tools.output import OutputClosed, say, seconds_text, table, write


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.012, "12 ms"),
        (0.1, "0.1 s"),
        (2.46, "2.5 s"),
        (59.97, "1:00"),
        (75, "1:15"),
        (3725, "1:02:05"),
        (90000, "25:00:00"),
    ],
)
def test_seconds_from_a_minute_on_read_as_a_clock(seconds: float, words: str) -> None:
    assert seconds_text(seconds) == words


def test_table_aligns_wide_characters() -> None:
    lines = table(("field", "bytes"), [("日本", "7"), ("label", "1,234")], right=[1])
    assert lines == ["field  bytes", "日本       7", "label  1,234"]


def test_characters_outside_the_stream_encoding_are_escaped() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "latin-1", write_through=True)
    say("naïve 日本", stream)
    assert raw.getvalue() == b"na\xefve \\u65e5\\u672c\n"


def test_closed_pipe_is_told_from_other_errors() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with pytest.raises(OutputClosed):
        write(Closed(), "words")
