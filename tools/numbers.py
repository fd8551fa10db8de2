"""Numbers on the command line, as types of its arguments. They raise ArgumentTypeError."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number from `least` to `most`."""

    def read(text: str) -> int:
        value = int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else -1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected a number from {least} to {most:,}, got {text!r}")
        return value

    return read


def amount(most: float) -> Callable[[str], float]:
    """Reads a number above 0, up to `most`."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value <= most:
            raise argparse.ArgumentTypeError(f"expected a number above 0, up to {most:,}, got {text!r}")
        return value

    return read
