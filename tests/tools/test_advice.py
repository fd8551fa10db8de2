"""Options that the package's messages name are options of the command line."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import recordio
from recordio.tools import main

PACKAGE = Path(recordio.__file__).parent


def _options(parser: argparse.ArgumentParser) -> set[str]:
    """The options of a command and of the commands below it."""
    found: set[str] = set()
    for action in parser._actions:
        found.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            found.update(*map(_options, action.choices.values()))
    return found


def test_every_option_that_the_source_names_exists() -> None:
    folders = (PACKAGE, *(PACKAGE / name for name in ("reader", "writer", "tools")))
    texts = [path.read_text("utf-8") for folder in folders for path in sorted(folder.rglob("*.py"))]
    named = {option for text in texts for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)}
    assert "--on-error" in named
    assert not named - _options(main._parser())
