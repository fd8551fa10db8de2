"""How the datasets of one loader are read: each as it chose, unless they do not fit into memory together."""

from __future__ import annotations

from collections.abc import Collection

from recordio.reader.io_choice import fits_into_memory
from recordio.reader.open_dataset import OpenDataset
from recordio.reader.page_access import PageAccess


def joint_access(datasets: Collection[OpenDataset]) -> tuple[dict[OpenDataset, PageAccess], str]:
    """How to read each dataset, and why, in a line.

    Datasets that fit into memory one by one may not do so together; then all but those that were told how to read are
    read as larger ones are.
    """
    distinct = dict.fromkeys(datasets)
    small = [one for one in distinct if one.options.io == "auto" and one.io.fits]
    fits, size = fits_into_memory(sum(one.nbytes for one in small))
    why = dict.fromkeys(str(one.io) for one in distinct if fits or one not in small)
    accesses = {one: one.access for one in distinct}
    if not fits:
        accesses |= {one: one.access.for_large() for one in small}
        why[f"direct: {len(small)} datasets of together {size}"] = None
    return accesses, "; ".join(why)
