"""Single samples of an open shard, by the kernels in C where its pages have been checked."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from recordio import kernels
from recordio.errors import CorruptError
from recordio.reader.field_reader import Getter
from recordio.reader.page_access import Projection

if TYPE_CHECKING:
    from recordio.reader.open_shard import OpenShard

Sampler = Callable[[int], dict[str, Any]]


def sampler_of(shard: OpenShard, fields: Projection) -> Sampler:
    """A function from a number within the shard to the sample; images as stored."""
    ready = bytearray(len(shard.index.samples))
    sample = _sampled(shard, fields, ready)
    if kernels.c is None:
        return sample
    sources = tuple(shard.reader(column).source() for column in fields.columns)
    rows: Sampler = kernels.c.Rows(shard.index.first, ready, tuple(fields.schema), sources, sample).sample
    return rows


def _sampled(shard: OpenShard, fields: Projection, ready: bytearray) -> Sampler:
    """The same in Python. `ready` has a byte for each block, set once its pages have been checked."""
    columns = zip(fields.schema, fields.columns, strict=True)
    getters = [(name, shard.reader(column).getter()) for name, column in columns]
    first = shard.index.first.tolist()
    shard = weakref.proxy(shard)

    def sample(number: int) -> dict[str, Any]:
        block = bisect_right(first, number) - 1
        if not ready[block]:
            ready[block] = shard.make_ready(block, fields)
        row, found = number - first[block], {}
        try:
            for name, get in getters:  # not a comprehension, which costs a frame
                found[name] = get(block, row)
            return found
        except CorruptError as error:
            raise error.at(file=shard.file.name, block=block, field=_at_fault(getters, block, row))

    return sample


def _at_fault(getters: Sequence[tuple[str, Getter]], block: int, row: int) -> str | None:
    """The first field whose value cannot be read, if any."""
    for name, get in getters:
        try:
            get(block, row)
        except CorruptError:
            return name
    return None
