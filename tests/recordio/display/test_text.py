"""Text from data is safe, fits, and is readable."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recordio.display.text import bytes_text, clean, columns_of, count_text, cut, json_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words, naïve 日本　語", "plain words, naïve 日本　語"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("two\nlines\r\tand\x7f", "two\\nlines\\r\\tand\\x7f"),
        ("c1 \x9b31m", "c1 \\x9b31m"),
        ("turn \u202e around \u2066", "turn \\u202e around \\u2066"),
        ("lone \udc80", "lone \\udc80"),
        ("line \u2028 separator", "line \\u2028 separator"),
    ],
)
def test_terminal_control_characters_are_escaped(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_every_control_and_format_character_is_escaped() -> None:
    harmful = [*range(32), *range(127, 160), 0xAD, 0x200B, *range(0x200E, 0x2010), *range(0x202A, 0x202F)]
    assert all(clean(chr(code)).startswith("\\") for code in harmful)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 10, 11, 12])
@pytest.mark.parametrize("text", ["hello world", "日本語日本語", "\x1b" * 9, "a\x1b" * 50, ""])
def test_cut_text_never_exceeds_the_width(text: str, width: int) -> None:
    assert columns_of(cut(text, width)) <= width


def test_text_that_fits_is_not_cut() -> None:
    assert cut("hello world", 11) == "hello world"
    assert cut("hello world", 10) == "hello w..."
    assert cut("日本語", 6) == "日本語"
    assert cut("日本語", 5) == "日..."


@pytest.mark.parametrize(
    ("nbytes", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (1234567, "1.23 MB"),
        (99_960_000, "100 MB"),
        (5e12, "5.00 TB"),
        (2**62, "4,612 PB"),
    ],
)
def test_byte_sizes_have_three_digits(nbytes: float, words: str) -> None:
    assert bytes_text(nbytes) == words


def test_count_of_one_is_singular() -> None:
    assert [count_text(n, "shard") for n in (0, 1, 1234)] == ["0 shards", "1 shard", "1,234 shards"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"abc", {"bytes": 3}),
        (float("nan"), "NaN"),
        ([float("inf"), -float("inf")], ["Infinity", "-Infinity"]),
        (1 + 2j, [1.0, 2.0]),
        ({"a": (1, None, True)}, {"a": [1, None, True]}),
    ],
)
def test_non_json_values_get_a_json_form(value: Any, shown: Any) -> None:
    assert json.loads(json_line(value)) == shown


def test_json_is_one_line_of_printable_ascii() -> None:
    line = json_line({"\x1b[2J": "a\nb\x7f\x9b\u2028é"})
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == {"\x1b[2J": "a\nb\x7f\x9b\u2028é"}


def test_object_deeper_than_the_stack_is_cut() -> None:
    value: Any = 0
    for _ in range(5000):
        value = [value]
    assert '"..."' in json_line(value)
