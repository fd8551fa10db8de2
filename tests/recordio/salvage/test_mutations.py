"""Tests of the checks of a repair: with any one removed, something that is not good is saved, or nothing is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import recordio.salvage.blocks
import recordio.salvage.mending
from recordio import RecordIOError, ShardDataset, repair, verify
from recordio.format.block import BlockHeader
from recordio.format.layout import BLOCK_MAGIC
from recordio.format.manifest import FILE_NAME
from tests.recordio.salvage.damage import cut, flip, numbers, shard, write


def bad_page(folder: Path) -> None:
    """In a shard without an index, so that its blocks are found one by one."""
    flip(shard(folder, 1), int(ShardDataset(folder).store.shard(1).index.page_offsets[1, 0]))
    cut(shard(folder, 1), shard(folder, 1).stat().st_size - 200)


def block_of_another_shard(folder: Path) -> None:
    """A whole block of shard 0 where one of shard 1 was, in a shard without an index."""
    ours, theirs = shard(folder, 1).read_bytes(), shard(folder, 0).read_bytes()
    index = ShardDataset(folder).store.shard(0).index
    begin, end = index.block_offsets[:2].tolist()
    shard(folder, 1).write_bytes((ours[:begin] + theirs[begin:end] + ours[end:])[:-200])


def header_of_more_than_there_is(folder: Path) -> None:
    """The header of a block whose page would be as large as a number can say; the next block is then not looked for."""
    data = shard(folder, 1).read_bytes()
    at = data.index(BLOCK_MAGIC)
    header = BlockHeader.decode(data[at:])
    huge = header.pages[0]._replace(nbytes=1 << 40, stored_nbytes=1 << 40)
    pages = (huge, *header.pages[1:])
    forged = BlockHeader(header.dataset_id, 1, 0, at, 0, header.samples, pages).encode()
    shard(folder, 1).write_bytes((data[:at] + forged + data[at + header.nbytes :])[:-200])


DAMAGE = (bad_page, block_of_another_shard, header_of_more_than_there_is)
MUTATIONS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "no checksums of pages": (recordio.salvage.blocks, "check_stored", lambda *_: None),
    "no identity of blocks": (recordio.salvage.blocks, "_require_own", lambda *_: None),
    "no sizes of pages": (recordio.salvage.blocks, "check_pages", lambda *_: None),
}


def is_right(whole: Path, top: Path, damage: Callable[[Path], None]) -> bool:
    """Whether all good samples, and no other, are saved from this damage."""
    folder = shutil.copytree(whole, top / damage.__name__)
    damage(folder)
    (folder / FILE_NAME).unlink()
    index = ShardDataset(whole).store.shard(1).index
    lost = 1 if damage is bad_page else 0
    gone = range(20 + int(index.first[lost]), 20 + int(index.first[lost + 1]))
    try:
        report = repair(folder, in_place=True)
        return bool(report.lost) and numbers(folder) == [n for n in range(60) if n not in gone] and verify(folder).ok
    except (RecordIOError, AssertionError):
        return False


def test_every_damage_costs_its_block_alone(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole")
    assert [is_right(whole, tmp_path, damage) for damage in DAMAGE] == [True] * len(DAMAGE)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_removing_a_check_saves_something_wrong(mutation: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = write(tmp_path / "whole")
    module, name, replacement = MUTATIONS[mutation]
    monkeypatch.setattr(module, name, replacement)
    assert not all(is_right(whole, tmp_path, damage) for damage in DAMAGE)
