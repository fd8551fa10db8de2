"""Sizes on the command line."""

from __future__ import annotations

import argparse
import re

UNITS = {
    "": 1,
    "K": 1 << 10,
    "M": 1 << 20,
    "G": 1 << 30,
    "T": 1 << 40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
LEAST_WITHOUT_UNIT = 4096


def nbytes(text: str) -> int:
    """'256MiB' -> 268435456. K, M, G and T are powers of 1024, KB to TB of 1000. Raises ArgumentTypeError.

    A small number without a unit is refused: '256' was meant as MiB.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(i?B)?", text.strip(), re.IGNORECASE | re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(f"not a size: {text!r}; expected bytes, or such as 256MiB or 64KB")
    number, unit, suffix = found[1], found[2].upper(), (found[3] or "").upper()
    size = float(number) * UNITS[unit + "B" if unit and suffix == "B" else unit]
    if not 1 <= size < 2**63:
        raise argparse.ArgumentTypeError(f"not a size: {text!r} is less than a byte or more than a file can hold")
    if size < LEAST_WITHOUT_UNIT and not unit and not suffix:
        raise argparse.ArgumentTypeError(f"a size of {text} bytes? give the unit: {text}MiB, {text}KiB, or {text}B")
    return round(size)
