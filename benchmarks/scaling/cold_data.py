"""The data of the cold section: rows of 64 KiB, made as they are asked for, and how each contender stores them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from contender import Contender
from contenders import ALL
from workloads import Sample, kinds_of

import recordio

ROW_BYTES = 64 << 10
BLOCK_BYTES = 256 << 10
PEERS = ("bagz", "litdata", "mds")


class Rows(Sequence[Sample]):
    """Samples {"row": uint8 (65536,), "y": int} at random, by number; `halved` ones have 4 bits a byte."""

    def __init__(self, numbers: range, halved: bool = False) -> None:
        self._numbers, self._halved = numbers, halved

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Rows(self._numbers[index], self._halved)
        number = self._numbers[index]
        row = np.frombuffer(np.random.default_rng(number).bytes(ROW_BYTES), np.uint8)
        return {"row": row & 15 if self._halved else row, "y": number}


def rows_of(data: str, nbytes: int) -> Rows:
    """As many rows as fill `nbytes` on the disk: zstd codes its rows to a half."""
    halved = data == "zstd"
    return Rows(range(nbytes // ROW_BYTES * (2 if halved else 1)), halved)


def write(data: str, folder: Path, nbytes: int) -> None:
    """Writes "plain", "zstd", or the data of a peer by its name."""
    rows = rows_of(data, nbytes)
    if data in PEERS:
        contender(data, folder).write(rows)
        return
    compression = None if data == "plain" else "zstd"
    with recordio.DatasetWriter(folder, compression=compression, block_bytes=BLOCK_BYTES) as writer:
        for row in rows:
            writer.write(row)


def contender(name: str, folder: Path) -> Contender:
    return ALL[name](folder, kinds_of(Rows(range(1))[0]))
