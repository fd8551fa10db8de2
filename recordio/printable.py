"""Text from anywhere, safe to print."""

from __future__ import annotations


def clean(text: str) -> str:
    """Escapes control characters, and format characters that hide or reorder text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\N{IDEOGRAPHIC SPACE}" else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
