"""Generated parts of pages, between markers, and how two of them differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benching.figures import MEASURES, Figure, geometric_median

_PLACE = re.compile(r'<a id="[^"]*"></a>')
_POWERS = {measure.unit: measure.power for measure in MEASURES}


class NoMarkerError(Exception):
    """A page has no place for what was generated."""


def markers(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin, written by make bench -->", f"<!-- {name}: end -->"


def cut(page: str, name: str) -> tuple[str, str, str]:
    """A page before, between and after its markers. Raises NoMarkerError."""
    begin, end = markers(name)
    before, found, rest = page.partition(begin + "\n")
    inside, closed, after = rest.partition(end)
    if not (found and closed) or begin in rest or end in after:
        raise NoMarkerError(f"expected one line {begin!r}, and after it one {end!r}")
    return before, inside, after


def replaced(page: str, name: str, lines: str) -> str:
    """The page with other lines between its markers. Raises NoMarkerError."""
    before, _, after = cut(page, name)
    begin, end = markers(name)
    return f"{before}{begin}\n{lines}{end}{after}"


def write(path: Path, name: str, lines: str) -> None:
    """Puts the lines between the markers of a page; a page that is not there yet begins with them."""
    page = path.read_text("utf-8") if path.exists() else "\n".join(markers(name)) + "\n"
    path.write_text(replaced(page, name, lines), "utf-8")


Key = tuple[str, str, str]  # heading, row, column


def figures(text: str) -> Iterator[tuple[Key, Figure]]:
    """Every figure with its noise in the tables of a text."""
    heading, columns = "", list[str]()
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if line.startswith("|--"):
            continue
        if not line.startswith("| "):
            columns = []
            continue
        first, *rest = (part.strip() for part in line.strip("|").split("|"))
        if not columns:
            columns = rest
            continue
        for column, cell in zip(columns, rest, strict=True):
            if (figure := Figure.parsed(cell)) is not None:
                yield (heading, _PLACE.sub("", first), column), figure


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs. `factor`: how fast the machine of the new one was beside that of the old one, by the median figure."""

    compared: int
    factor: float
    differing: tuple[tuple[Key, Figure, Figure], ...]
    only_old: tuple[Key, ...]
    only_new: tuple[Key, ...]

    def lines(self) -> Iterator[str]:
        if not self.compared:
            yield "no figure of the page was measured again"
            return
        same = self.compared - len(self.differing)
        yield (
            f"{same} of {self.compared} figures are those of the page within the noise of both, the machine being "
            f"{self.factor:.2f} times as fast; {len(self.differing)} differ"
        )
        for (heading, row, column), old, new in self.differing:
            yield f"  {heading} | {row} | {column}: {old.text()} on the page, {new.text()} now"
        for what, keys in (("on the page only", self.only_old), ("now only", self.only_new)):
            if keys:
                yield f"{what}: {'; '.join(sorted({f'{heading} | {row}' for heading, row, _ in keys}))}"


def compared(old: str, new: str) -> Comparison:
    """Compares the figures in the tables of two texts, with the speed of the machine divided out of rates and times."""
    was, now = dict(figures(old)), dict(figures(new))
    both = [key for key in was if key in now]
    powers = {key: 0 if is_ratio(key) else _POWERS.get(key[0].rpartition(", ")[2], 0) for key in both}
    factor = geometric_median(
        (now[key].value / was[key].value) ** power for key, power in powers.items() if power and was[key].value
    )
    differing = tuple(
        (key, was[key], now[key]) for key in both if not now[key].is_beside(was[key], factor ** powers[key])
    )
    only_old, only_new = (tuple(key for key in one if key not in other) for one, other in ((was, now), (now, was)))
    return Comparison(len(both), factor, differing, only_old, only_new)


def is_ratio(key: Key) -> bool:
    return " : " in key[1]
