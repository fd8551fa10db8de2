"""A tuning as a picture: bars for the stages and for what was tried, as SVG, alone or in a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from recordio.display.markup import Markup, joined, tag
from recordio.display.text import clean, cut
from recordio.reader.loading.profile_text import headspace_text, rate_text

if TYPE_CHECKING:
    from recordio.tuning.tune import Tuning

_WIDTH, _ROW, _NAME, _BAR = 760, 22, 250, 330
_BLUE, _GREEN, _GREY = "#1f6fb4", "#3a8f3a", "#8a8a8a"
_COLUMNS, _NAME_COLUMNS = 104, 38


def svg(tuning: Tuning) -> Markup:
    """The picture, 760 pixels wide."""
    rows = list(_rows(tuning))
    width, height = str(_WIDTH), str(_ROW * len(rows) + 16)
    drawn = [element for number, row in enumerate(rows) for element in _drawn(row, number * _ROW + 8)]
    return tag(
        "svg",
        tag("rect", width=width, height=height, fill="#ffffff"),
        *drawn,
        xmlns="http://www.w3.org/2000/svg",
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
        font_family="sans-serif",
        font_size="12",
    )


def page(tuning: Tuning) -> Markup:
    """The picture in a page."""
    head = [tag("meta", charset="utf-8"), tag("title", "recordio tune")]
    return joined([Markup("<!doctype html>"), tag("html", *head, svg(tuning), lang="en")], Markup("\n"))


_Row = tuple[str, float | None, str, str]  # text, length of the bar from 0 to 1 or None, colour, text behind the bar


def _rows(tuning: Tuning) -> Iterator[_Row]:
    profile = tuning.profile
    yield f"{rate_text(profile.rate)} with {profile.workers}", None, "", ""
    yield headspace_text(profile), None, "", ""
    yield f"bottleneck: {tuning.bottleneck or 'not known'}; {tuning.why}", None, "", ""
    if profile.stages:
        yield "work on a sample", None, "", ""
    for stage in profile.stages:
        alone = "" if stage.alone is None else f", alone {rate_text(stage.alone)}"
        yield stage.name, stage.share, _BLUE, f"{stage.share:.0%}{alone}"
    gains = [one for one in tuning.trials if one.gain is not None]
    if gains:
        yield "gain of what was tried", None, "", ""
    most = max((one.gain or 0 for one in gains), default=1)
    for one in gains:
        gain = one.gain or 0
        yield one.name, gain / max(most, 1), _GREEN if one in tuning.advice else _GREY, f"{gain:.2f} times"


def _drawn(row: _Row, top: int) -> Iterator[Markup]:
    words, length, colour, behind = row
    base = str(top + 15)
    if length is None:
        yield tag("text", cut(clean(words), _COLUMNS), x="8", y=base, font_weight="bold")
        return
    width = max(1, round(_BAR * min(1.0, length)))
    bar = {"x": str(_NAME), "y": str(top + 4), "width": str(width), "height": str(_ROW - 8), "fill": colour}
    yield tag("text", cut(clean(words), _NAME_COLUMNS), x=str(_NAME - 8), y=base, text_anchor="end")
    yield tag("rect", **bar)
    yield tag("text", cut(clean(behind), _NAME_COLUMNS), x=str(_NAME + width + 6), y=base)
