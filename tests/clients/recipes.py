"""The recipes of docs/training.md, and the data that they read."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import recordio
from tests.photos import encode, photo
from tests.processes_seen import python_on

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
_BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```sh\n(.*?)```)?", re.DOTALL)
_IMPORT = re.compile(r"^(?:import|from) (\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Recipe:
    """A program of the page: its title, its text with the lines that all begin with, and its command."""

    title: str
    text: str
    command: str

    @property
    def missing(self) -> list[str]:
        """The packages that it imports and that are not installed."""
        return sorted({name for name in _IMPORT.findall(self.text) if find_spec(name) is None})

    def arguments(self) -> list[str]:
        """The command, with this Python."""
        words = shlex.split(self.command)
        ranks = re.fullmatch(r"torchrun --nproc-per-node=(\d+) train.py", self.command)
        return [*python_on(int(ranks[1])), "train.py"] if ranks else [sys.executable, *words[1:]]


def recipes() -> list[Recipe]:
    """All of the page, in its order."""
    first, *sections = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    ((beginning, _),) = _BLOCK.findall(first)
    return [
        Recipe(section.split("\n", 1)[0], f"{beginning}\n\n{text}", command.strip() or "python train.py")
        for section in sections
        for text, command in _BLOCK.findall(section)
    ]


def write_data(folder: Path) -> None:
    """train.rio, held-out.rio, documents.rio, photos.rio and pictures.rio."""
    rng = np.random.default_rng(0)
    for name, samples in (("train.rio", 1000), ("held-out.rio", 100)):
        x = rng.standard_normal((samples, 8)).astype(np.float32)
        with recordio.DatasetWriter(folder / name, block_bytes=4096) as writer:
            writer.write_batch({"id": np.arange(samples), "x": x, "y": x[:, :1] * 2})
    with recordio.DatasetWriter(folder / "documents.rio", {"input_ids": recordio.Array("int64", (None,))}) as writer:
        for length in rng.integers(0, 900, 100).tolist():
            writer.write({"input_ids": rng.integers(0, 100, length)})
    with recordio.DatasetWriter(folder / "photos.rio") as writer:
        writer.write_batch({"image": rng.integers(0, 256, (64, 40, 48, 3), np.uint8), "label": np.arange(64) % 10})
    with recordio.DatasetWriter(folder / "pictures.rio", {"image": recordio.Image()}) as writer:
        for number, (height, width) in enumerate([(60, 80), (80, 60), (64, 64), (50, 90)] * 25):
            writer.write({"image": encode(photo(height, width, number))})
