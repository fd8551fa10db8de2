"""Which fields are read, and how."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field as dataclass_field, replace
from typing import Literal

import numpy as np

from recordio.format.fields import Field
from recordio.format.page import Indices
from recordio.format.schema import Schema
from recordio.lazy import lazy
from recordio.reader.page_cache import PageCache
from recordio.reader.page_table import MAX_MAPS

Verify = Literal["first", "always", "never"]

_CACHED_READS = max(2, min(4, os.cpu_count() or 1))
_DIRECT_READS = 8
_NBYTES = 1 << 20  # of a read, so that several share the work; a single block may be larger
_CACHED_NBYTES = 256 << 10  # fits into the cache of a core, with the pages that are decoded from it


@dataclass(frozen=True, eq=False)
class Projection:
    """The requested fields, in order, and their positions in the dataset's schema.

    Attributes:
        ragged: the variable fields of which batches hold `Ragged` columns.
    """

    schema: Schema
    columns: tuple[int, ...]
    ragged: Mapping[str, Field] = dataclass_field(default_factory=dict)

    @lazy
    def numbers(self) -> Indices:
        """int64 (n,): the same positions."""
        return np.array(self.columns, np.int64)

    @classmethod
    def of(cls, schema: Schema, names: Sequence[str] | None, ragged: Collection[str] = ()) -> Projection:
        """The named fields, or all for None. Raises SchemaError for an unknown name."""
        chosen = schema.select(list(schema) if names is None else names)
        numbers = {name: number for number, name in enumerate(schema)}
        kinds = {name: kind for name, kind in chosen.items() if name in ragged and kind.row_nbytes is None}
        return cls(chosen, tuple(numbers[name] for name in chosen), kinds)


@dataclass(frozen=True, slots=True)
class PageAccess:
    """How the pages of a dataset are read.

    Attributes:
        verify: when to compare the checksums of pages.
        cache: keeps decoded pages.
        mapped: read plain pages from a memory map.
        direct: read past the system's cache.
        drops: tell the system that it need not keep what has been read.
        remote: every read is a request over a network: all of them are asked for before the first is waited for.
        maps: read from the maps of up to so many shards at a time.
    """

    verify: Verify
    cache: PageCache
    mapped: bool = False
    direct: bool = False
    drops: bool = False
    remote: bool = False
    maps: int = MAX_MAPS

    @property
    def reads(self) -> int:
        """How many reads to do at a time: a device idles with fewer, while what is cached keeps the processors busy.

        Over a network they only take what was asked for before.
        """
        return _DIRECT_READS if self.direct else _CACHED_READS

    @property
    def most_nbytes(self) -> int:
        """How much to read at once, of more than one block."""
        return _NBYTES if self.direct or self.drops or self.remote else _CACHED_NBYTES

    def for_large(self) -> PageAccess:
        """The same for data larger than memory."""
        if self.remote:
            return self
        return replace(self, mapped=False, direct=self.direct or self.mapped, drops=not self.mapped)
