"""`recordio.clean`: what writers have left beside a dataset, and nothing refers to."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass

from recordio.arguments import flag, numbers
from recordio.edit.copy_ends import open_end, source_manifest
from recordio.format.manifest import Manifest
from recordio.format.parity import parity_number
from recordio.remote.opening import StorageArgument
from recordio.remote.write_target import PROBE
from recordio.storage.dataset_files import STAGING
from recordio.writer.shard_sink import shard_number

_NOTE = re.compile(re.escape(STAGING) + r"/[0-9a-f]{32}/\d+\.json")


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that nothing refers to: its name, its length, and how many hours old it is."""

    name: str
    nbytes: int
    hours: float


@dataclass(frozen=True, slots=True)
class CleanReport:
    """What a cleaning found.

    Attributes:
        location: the place of the dataset.
        leftovers: what nothing refers to, and is old enough.
        newer: how many files nothing refers to, but are newer: a writer may be at work.
        removed: whether the leftovers were removed.
    """

    location: str
    leftovers: tuple[Leftover, ...]
    newer: int
    removed: bool

    @property
    def nbytes(self) -> int:
        """The length of the leftovers in all."""
        return sum(one.nbytes for one in self.leftovers)


def clean(
    path: str | os.PathLike[str], *, hours: float = 24.0, remove: bool = False, storage: StorageArgument = None
) -> CleanReport:
    """Finds what writers have left beside a dataset, such as the shards of one that was replaced, and may remove it.

    Only files with names of recordio's own are looked at: shards and parity that the manifest does not name, and, in an
    object store, the notes of conversions that were not finished. No writer should be going on with what an earlier one
    has left while it is removed, and no reader be at work on a dataset that was replaced.

    Args:
        path: the folder of the dataset, or "s3://bucket/path", "gs://", "az://container/path".
        hours: what is newer stays.
        remove: removes what was found; otherwise it is only listed.
        storage: how an object store is reached, see `recordio.remote.options.StorageOptions`.

    Raises:
        DatasetError: there is no dataset: all that is there may belong to one whose manifest was lost.
        StorageError: the system or the store refused.
    """
    (least,) = numbers("hours", [hours])
    end = open_end("path", path, storage)
    # Before the manifest is read: what is published meanwhile is named there.
    found = list(end.listed())
    named = Manifest.decode(source_manifest(end)).files
    unnamed = [one for one in found if _is_ours(one.name) and one.name not in named]
    now = time.time()
    old = [Leftover(one.name, one.nbytes, (now - one.modified) / 3600) for one in unnamed]
    leftovers = tuple(one for one in old if one.hours >= least)
    if flag("remove", remove):
        end.delete([one.name for one in leftovers])
    return CleanReport(end.location, leftovers, len(old) - len(leftovers), remove)


def _is_ours(name: str) -> bool:
    return (
        shard_number(name) is not None
        or parity_number(name) is not None
        or name.startswith(PROBE)
        or _NOTE.fullmatch(name) is not None
    )
