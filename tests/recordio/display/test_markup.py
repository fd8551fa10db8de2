"""Nothing from data becomes HTML by itself."""

from __future__ import annotations

import pytest

from recordio.display.markup import Markup, joined, style, tag, text

ATTACKS = ["<script>alert(1)</script>", "</script>", "\"onload='x'", "&lt;", "\x00\x1b[2J", "\u202egpj.exe", "\udc80"]


@pytest.mark.parametrize("attack", ATTACKS)
def test_text_and_attributes_are_escaped(attack: str) -> None:
    found = tag("td", attack, title=attack, data_name=attack)
    inside = found.removeprefix("<td").removesuffix("</td>")
    assert "<" not in inside
    assert inside.count('"') == 4
    assert found.isprintable()
    found.encode("utf-8")


def test_markup_inside_markup_stays() -> None:
    assert tag("b", tag("i", "1 < 2"), " & ") == "<b><i>1 &lt; 2</i> &amp; </b>"
    assert joined(["<", tag("br")], " > ") == "&lt; &gt; <br>"


def test_attributes_that_are_none_are_left_out() -> None:
    assert tag("a", class_="x", http_equiv="y", href=None) == '<a class="x" http-equiv="y"></a>'


def test_joining_markup_and_text_makes_no_markup_of_the_text() -> None:
    assert text(Markup("<b>") + "<i>") == "&lt;b&gt;&lt;i&gt;"


def test_the_style_loads_nothing_from_elsewhere() -> None:
    assert "url(" not in style()
    assert "@import" not in style()
