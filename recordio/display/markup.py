"""HTML that is safe by construction: text becomes markup in `tag` alone, which escapes it.

Contract: every string is text from data until it is a Markup; nothing else makes one from a plain string but constants.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from html import escape
from importlib import resources

from recordio.display.text import clean

_EMPTY = {"img", "input", "meta", "link", "br"}


class Markup(str):
    """HTML that may stand as it is."""

    __slots__ = ()


def text(words: str) -> Markup:
    """Any text as markup: control characters and those that reorder text are shown, not obeyed."""
    return words if isinstance(words, Markup) else Markup(escape(clean(words)))


def tag(name: str, /, *content: str, **attributes: str | None) -> Markup:
    """An element. Attributes that are None are left out; `class_` is class, and `data_index` data-index."""
    given = ""
    for key, value in attributes.items():
        if value is not None:
            given += f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
    if name in _EMPTY:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{''.join(map(text, content))}</{name}>")


def joined(parts: Iterable[str], separator: str = "") -> Markup:
    """The parts one after the other, text among them escaped."""
    return Markup(text(separator).join(map(text, parts)))


@cache
def asset(package: str, name: str) -> Markup:
    """A file of style or script that is part of this program."""
    return Markup(resources.files(package).joinpath(name).read_text("utf-8"))


def style() -> Markup:
    """The style of the pieces that notebooks and pages share."""
    return Markup(f"<style>{asset('recordio.display', 'style.css')}</style>")
