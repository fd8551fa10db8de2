"""How the datasets of one loader are read: each as it chose, unless they do not fit into memory together."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from recordio.reader.io_choice import fits_into_memory
from recordio.reader.open_dataset import OpenDataset
from recordio.reader.open_shards import most_open_shards
from recordio.reader.page_access import PageAccess
from recordio.reader.page_table import MAX_MAPS
from recordio.storage.machine import share_of_files


def joint_access(datasets: Collection[OpenDataset]) -> tuple[dict[OpenDataset, PageAccess], str]:
    """How to read each dataset, and why, in a line. One that is listed twice is read twice at a time.

    Datasets that fit into memory one by one may not do so together; then all but those that were told how to read are
    read as larger ones are.
    """
    distinct = dict.fromkeys(datasets)
    small = [one for one in distinct if one.options.io == "auto" and one.io.fits]
    fits, size = fits_into_memory(sum(one.nbytes for one in small))
    why = dict.fromkeys(str(one.io) for one in distinct if fits or one not in small)
    maps = MAX_MAPS
    if sum(len(one.first) - 1 for one in distinct) > most_open_shards():
        # A map in use is an open file, whether or not its shard is open, and two windows of each dataset are in memory.
        maps = min(maps, share_of_files(16) // len(datasets))
    accesses = {one: replace(one.access, maps=maps) for one in distinct}
    if not fits:
        accesses |= {one: accesses[one].for_large() for one in small}
        why[f"direct: {len(small)} datasets of together {size}"] = None
    return accesses, "; ".join(why)
