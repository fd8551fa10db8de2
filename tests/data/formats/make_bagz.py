"""Writes the files in bagz/ with bagz, and beside them what bagz reads from them.

    python make_bagz.py

Written with bagz 0.3.8.
"""

from __future__ import annotations

import json
from pathlib import Path

import bagz
from plain_json import to_json

OUT = Path(__file__).parent / "bagz"


def write(name: str, records: list[bytes]) -> list[bytes]:
    with bagz.Writer(str(OUT / name)) as writer:
        for record in records:
            writer.write(record)
    return list(bagz.Reader(str(OUT / name)))


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    records = [bytes(range(number)) * 3 for number in range(0, 40, 5)]
    expected = {name: write(name, records) for name in ("packed.bagz", "plain.bag")}
    (OUT / "expected.json").write_text(json.dumps(to_json(expected)) + "\n")
