"""`on_damage="skip"`: the damaged blocks of a dataset are found once, when it is opened, and left out of it.

They are those of the list that `verify --quarantine` has written beside the manifest, and of the shards whose length or
footer is wrong. Of shards that no list knows, every page is read. So what is left out depends on the files alone, and
is the same in every process, rank and run. A page that is damaged later is an error as ever.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from recordio.display.text import bytes_text, clean, count_text
from recordio.errors import CorruptError, DatasetError, RecordIOError
from recordio.format.manifest import Manifest
from recordio.format.quarantine import FILE_NAME, DamagedBlocks, Quarantine, damaged_blocks
from recordio.reader.order.numbers import Numbers, without
from recordio.reader.verify import find_damage
from recordio.storage.base import Storage
from recordio.storage.dataset_files import find_quarantine

if TYPE_CHECKING:
    from recordio.reader.open_dataset import OpenDataset

OnDamage = Literal["raise", "skip"]

_log = logging.getLogger("recordio")


def found_quarantine(
    storage: Storage, location: str, manifest: Manifest, problems: Sequence[RecordIOError]
) -> Quarantine:
    """The damaged blocks of a dataset. `problems`: of its shards, as far as opening shows them.

    Raises CorruptError if the list is damaged, DatasetError if there is none for a dataset that is read over a network.
    """
    listed = find_quarantine(storage, location)
    if listed is not None and not listed.is_of(manifest):
        _log.warning("%s: %s was made for another version of this dataset, and is ignored", location, FILE_NAME)
        listed = None
    known = 0 if listed is None else listed.shards
    damaged = [] if listed is None else _checked(listed, manifest)
    if known < len(manifest.table):
        problems = [*problems, *_found_damage(storage, location, manifest, known)]
    new = damaged_blocks(manifest, problems)
    numbers = {one.number for one in new}  # of a shard of the list these are all blocks: it was cut or lost since
    return Quarantine.of(manifest, [*(one for one in damaged if one.number not in numbers), *new])


def _found_damage(storage: Storage, location: str, manifest: Manifest, known: int) -> list[RecordIOError]:
    if storage.is_remote:
        raise DatasetError(
            f'on_damage="skip" needs {FILE_NAME} beside the manifest where a dataset is read over a network: '
            "`recordio verify --quarantine` writes it"
        ).at(file=location)
    nbytes = int(manifest.table.nbytes[known:].astype(np.float64).sum())
    _log.warning(
        "%s: reading %s to find damage; `recordio verify --quarantine` keeps what it finds",
        location,
        bytes_text(nbytes),
    )
    return find_damage(storage, manifest, known)


def _checked(listed: Quarantine, manifest: Manifest) -> list[DamagedBlocks]:
    """The blocks of a list. Raises CorruptError if the dataset cannot have them."""
    blocks = _blocks(manifest)
    for one in listed.damaged:
        if one.first + one.blocks > blocks.get(one.number, 0):
            raise CorruptError(f"{one.file} has no block {one.first + one.blocks - 1}").at(file=FILE_NAME)
    return list(listed.damaged)


def _blocks(manifest: Manifest) -> dict[int, int]:
    """How many blocks each shard has, by its number."""
    return dict(zip(manifest.table.numbers.tolist(), manifest.table.blocks.tolist(), strict=True))


def kept_numbers(dataset: OpenDataset, quarantine: Quarantine | None) -> Numbers:
    """The samples of a dataset but those in damaged blocks."""
    if quarantine is None or not quarantine.damaged:
        return range(dataset.samples)
    return without(dataset.samples, _merged(_samples(dataset, one) for one in quarantine.damaged))


def _samples(dataset: OpenDataset, damaged: DamagedBlocks) -> tuple[int, int]:
    """The first sample of these blocks, and the one after the last."""
    position = int(np.flatnonzero(dataset.manifest.table.numbers == damaged.number)[0])
    first = int(dataset.blocks.shard[position]) + damaged.first
    return int(dataset.blocks.first[first]), int(dataset.blocks.first[first + damaged.blocks])


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same samples, each once, ascending and apart."""
    out: list[tuple[int, int]] = []
    for begin, end in sorted(ranges):
        if out and begin <= out[-1][1]:
            out[-1] = out[-1][0], max(end, out[-1][1])
        else:
            out.append((begin, end))
    return out


def log_damage(location: str, dataset: OpenDataset, quarantine: Quarantine) -> None:
    """Logs the damaged blocks, each run once, and how many samples are left out."""
    for one in quarantine.damaged:
        begin, end = _samples(dataset, one)
        last = one.first + one.blocks - 1
        where = f"block {last}" if one.blocks == 1 else f"blocks {one.first} to {last}"
        _log.warning(
            "%s: left out: %s, %s, samples %d to %d: %s", location, one.file, where, begin, end - 1, clean(one.fault)
        )
    if quarantine.damaged:
        lost = dataset.samples - len(kept_numbers(dataset, quarantine))
        _log.warning("%s: %s left out, of %d", location, count_text(lost, "sample"), dataset.samples)
