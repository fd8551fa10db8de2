"""docs/guarantees.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
NAMED = re.findall(
    r"`([a-z_/]+/test_[a-z_0-9]+\.py)(?:::(test_\w+))?`", (TESTS.parent / "docs/guarantees.md").read_text()
)


def test_every_guarantee_names_a_test_that_is_there() -> None:
    assert len(NAMED) > 60
    gone = [
        f"{file}::{name}"
        for file, name in NAMED
        if not (TESTS / file).is_file() or (name and f"def {name}(" not in (TESTS / file).read_text("utf-8"))
    ]
    assert not gone
