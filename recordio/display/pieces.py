"""The pieces of HTML that notebooks and pages are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from recordio.display.markup import Markup, joined, tag
from recordio.display.media import sound_type
from recordio.display.pictures import Picture, data_uri, picture_of
from recordio.display.summary import Bars
from recordio.display.text import bytes_text
from recordio.display.values import Damaged, value_text
from recordio.format.schema import Schema

WORDS = 240  # columns of a value's text
SOUND_NBYTES = 1 << 20  # longer sounds are not put into a page


def bars_of(bars: Bars) -> Markup:
    """A histogram: named bars below each other, intervals side by side. The counts are shown, or tell on hover."""
    most = max((count for _, count in bars.bars), default=0) or 1
    if bars.of_names:
        rows = [
            tag("tr", tag("td", name), tag("td", _bar(count, most), class_="r-track"), tag("td", f"{count:,}"))
            for name, count in bars.bars
        ]
        return tag("table", *rows, class_="r-names", title=bars.title)
    columns = [
        tag("i", tag("b", style=f"height:{_percent(count, most)}"), title=f"{name}: {count:,}")
        for name, count in bars.bars
    ]
    first, last = bars.bars[0][0].split(" to ")[0], bars.bars[-1][0].split(" to ")[-1]
    ends = tag("div", tag("span", first), tag("span", bars.title), tag("span", last), class_="r-ends")
    return tag("div", tag("div", *columns, class_="r-columns"), ends, class_="r-histogram")


def _bar(count: int, most: int) -> Markup:
    return tag("b", style=f"width:{_percent(count, most)}")


def _percent(count: int, most: int) -> str:
    return f"{max(100 * count / most, 1.5 if count else 0):.3g}%"


def value_of(value: Any, classes: Sequence[Any] | None = None) -> Markup:
    """A value as it is best looked at: a picture, a sound, or its text."""
    picture = drawn(value)
    if picture is not None:
        return picture_html(picture)
    if type(value) is bytes and (kind := sound_type(value)):
        return _sound(value, kind)
    return tag("span", value_text(value, WORDS, classes), class_="r-none" if value is None else None)


def drawn(value: Any) -> Picture | Damaged | None:
    """The value as a picture; a Damaged as it is."""
    return value if type(value) is Damaged else picture_of(value)  # isinstance would run code of the value's class


def picture_html(picture: Picture | Damaged) -> Markup:
    """The picture, or why there is none."""
    if isinstance(picture, Damaged):
        return tag("span", picture.reason, class_="r-damaged")
    if not picture.source:
        return tag("span", picture.note, class_="r-none")
    look = "r-tiny" if picture.is_tiny else None
    return tag("img", src=picture.source, alt="", title=picture.note or None, class_=look)


def _sound(data: bytes, kind: str) -> Markup:
    if len(data) > SOUND_NBYTES:
        return tag("span", f"{kind}, {bytes_text(len(data))}")
    return tag("audio", controls="", preload="none", src=data_uri(data, kind))


def fields_of(schema: Schema, most: int) -> Markup:
    """The first fields with their types."""
    rows = [tag("tr", tag("td", name), tag("td", kind_text(kind))) for name, kind in islice(schema.items(), most)]
    rest = paragraph(f"and {len(schema) - most:,} more fields") if len(schema) > most else ""
    return joined([tag("table", tag("tr", tag("th", "field"), tag("th", "type")), *rows, class_="r-fields"), rest])


def kind_text(kind: Any) -> str:
    """The type of a field in words."""
    return f"{kind}, optional" if kind.optional else str(kind)


def sample_table(samples: Iterable[tuple[int, Mapping[str, Any]]], classes: Mapping[str, Any]) -> Markup:
    """A row for each sample, a column for each field. `classes`: the names of classes by field."""
    names = dict[str, None]()
    rows = []
    for number, sample in samples:
        names |= dict.fromkeys(sample)
        rows.append((number, {name: value_of(value, classes.get(name)) for name, value in sample.items()}))
    head = tag("tr", tag("th", "sample"), *(tag("th", name) for name in names))
    body = [
        tag("tr", tag("td", str(number)), *(tag("td", cells.get(name, "")) for name in names)) for number, cells in rows
    ]
    return tag("div", tag("table", head, *body, class_="r-samples"), class_="r-wide")


def cards_of(cards: Iterable[Markup]) -> Markup:
    """Cards side by side."""
    return tag("div", *cards, class_="r-cards")


def sample_card(
    number: int,
    sample: Mapping[str, Any],
    classes: Mapping[str, Any],
    files: Sequence[str] = (),
    full: Callable[[int, str, Any], str | None] = lambda *_: None,
    undecoded: Callable[[str, Damaged], None] = lambda *_: None,
) -> Markup:
    """The pictures of a sample, and below them its number and its other values.

    Args:
        classes: the names of classes by field.
        files: fields with the name of the sample's file, which stands beside the number.
        full: the address of the picture of a sample's field at full size, None if there is none.
        undecoded: is told of each field whose picture does not decode, and why.
    """
    pictures, rows = [], []
    for name, value in sample.items():
        if name in files and isinstance(value, str):
            continue
        picture = drawn(value)
        if isinstance(picture, Damaged) and picture is not value:
            undecoded(name, picture)
        if picture is None:
            rows.append(tag("div", tag("em", name), " ", value_of(value, classes.get(name))))
        elif isinstance(picture, Damaged) or not picture.source:
            pictures.append(tag("div", tag("em", name), " ", picture_html(picture)))
        else:
            image, address = picture_html(picture), full(number, name, value)
            pictures.append(image if address is None else tag("a", image, href=address, class_="r-full"))
    said = [str(sample[name]) for name in files if isinstance(sample.get(name), str)]
    head = tag("div", tag("b", f"{number}"), *(tag("span", f" {words}") for words in said))
    return tag("figure", *pictures, tag("figcaption", head, *rows), data_sample=str(number))


def paragraph(*words: str) -> Markup:
    """A line in small letters."""
    return tag("p", joined(words), class_="r-note")
