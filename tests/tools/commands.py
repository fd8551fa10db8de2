"""Commands in this process, and datasets to run them on."""

from __future__ import annotations

from pathlib import Path

import pytest

from recordio.tools.main import main


def printed(command: str, capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    """What a command prints, which ends with this code and without a word on stderr."""
    assert main([command, *map(str, words)]) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def flip(dataset: Path) -> None:
    """Flips a bit in the first picture of the only shard."""
    (shard,) = dataset.glob("*.rio")
    data = bytearray(shard.read_bytes())
    data[data.index(b"\x89PNG") + 20] ^= 1
    shard.write_bytes(data)
