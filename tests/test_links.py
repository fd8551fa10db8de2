"""Links between the pages of the repository: the file is there, and so is the place in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
PAGES = sorted([*TOP.glob("*.md"), *(TOP / "docs").glob("*.md"), TOP / "benchmarks" / "README.md"])
TIMES = "\N{MULTIPLICATION SIGN}"
_LINK = re.compile(r"(?<!`)\[[^\]\n]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.M | re.S)


def _places(page: Path) -> set[str]:
    """What a link may name: headings as GitHub names them, and places of our own."""
    text = _FENCE.sub("", page.read_text("utf-8"))
    named = set(re.findall(r'<a id="([^"]+)"></a>', text))
    headings = (line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    return named | {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text("utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, place = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (place and target.suffix == ".md" and place not in _places(target)):
            broken.append(link)
    assert not broken


def test_every_speed_of_the_readme_is_a_link() -> None:
    """A row of a table that ends with a factor says how much faster something is."""
    rows = [line for line in (TOP / "README.md").read_text("utf-8").splitlines() if line.rstrip("| ").endswith(TIMES)]
    assert len(rows) > 8
    assert not [row for row in rows if not re.match(r"\| \[[^\]]+\]\(docs/\w+\.md#[\w-]+\) \|", row)]
