"""Gathers values of several sizes from pages into one array: a `Ragged` column, in place of a list."""

from __future__ import annotations

from collections.abc import Sequence
from mmap import mmap
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from recordio import kernels
from recordio.errors import CorruptError
from recordio.format.fields import Field
from recordio.format.layout import MAX_ROW_NBYTES
from recordio.format.numeric import Numeric, empty_shape, is_array
from recordio.format.page import Indices, VariablePages, overlapping
from recordio.format.ragged import Mask, Ragged, joined, offsets_of, shaped
from recordio.storage.machine import share_of_files

_SHORT_NBYTES = 24  # on average; up to here an index for each byte costs less than a memoryview for each value
_LARGE_NBYTES = 4 << 10  # on average; from here on, values stay in their map

Pick = tuple[VariablePages, Indices, Indices]  # pages, and the page and row of each value
_Spans = tuple[memoryview, Indices, Indices]  # a buffer, and where each value begins and ends in it
# Arrays over whole maps, by the id of the map. Values of columns are views of them, so they live as long as those do.
_held: WeakValueDictionary[int, npt.NDArray[np.uint8]] = WeakValueDictionary()


def gathered(kind: Field, picks: Sequence[Pick], order: Indices | None) -> Ragged:
    """The values of all picks, as a column.

    Args:
        kind: their field.
        picks: at least one.
        order: int64 (n,): value k of all picks, counted through, goes to order[k]; None to keep them.

    Raises CorruptError for arrays whose dimensions do not fit their bytes, and for offsets that have changed since
    their page was checked.
    """
    present = [pages.present(page, row) if kind.optional else np.ones(len(row), bool) for pages, page, row in picks]
    spans = [_spans(kind, pick, there) for pick, there in zip(picks, present, strict=True)]
    missing = ~_in_order(present, order) if kind.optional else None
    shapes = None
    if is_array(kind):
        assert isinstance(kind, Numeric)
        shapes = _in_order([_dimensions(kind, *one, there) for one, there in zip(spans, present, strict=True)], order)
        header = 8 * kind.shape.count(None)
        spans = [(buffer, np.minimum(begin + header, end), end) for buffer, begin, end in spans]
    sizes = _in_order([end - begin for _, begin, end in spans], order)
    offsets = offsets_of(sizes)
    if shapes is None and int(offsets[-1]) >= _LARGE_NBYTES * max(1, len(sizes)) and (held := _of_held_maps(spans)):
        return Ragged(kind, _parts(held, order), offsets, None, missing)
    values = _joined(spans, order, offsets)
    if shapes is None:
        return Ragged(kind, values, offsets, None, missing)
    assert isinstance(kind, Numeric)
    return Ragged(kind, *shaped(kind, values.view(kind.dtype), shapes), missing)


def joined_in_c(
    kind: Field, groups: tuple[Any, ...], group: Indices | None, page: Indices, row: Indices
) -> Ragged | None:
    """Text or bytes as a column, by the kernels; None if they decline, as for large values, which may stay in a map.

    Args:
        kind: their field.
        groups: `Pages.kernel` of one group of pages or more.
        group: int64 (n,), which of them has each value; None for the first.
        page, row: int64 (n,).
    """
    offsets, missing = np.empty(len(row) + 1, np.int64), np.empty(len(row), bool)
    memory = kernels.c.join(groups, group, page, row, _LARGE_NBYTES * len(row) - 1, offsets, missing)
    if memory is None:
        return None
    return Ragged(kind, np.ndarray(len(memory), np.uint8, memory), offsets, None, missing if kind.optional else None)


def _spans(kind: Field, pick: Pick, there: Mask) -> _Spans:
    """Where the values lie; of those that are not there, nothing."""
    pages, page, row = pick
    buffer, (begin, end) = memoryview(pages.buffer), pages.spans(page, row)
    if kind.optional:
        end = np.where(there, end, begin)
    if (len(row) and not 0 <= begin.min() <= end.max() <= len(buffer)) or (end < begin).any():
        raise CorruptError("page offsets are not in order")
    return buffer, begin, end


def _of_held_maps(spans: Sequence[_Spans]) -> list[_Spans] | None:
    """The same, for views that a column may hold: only of maps of files, to which nobody writes, unlike a window's
    memory. A map keeps a file open after its shard has been closed: None if that would be more than a sixteenth of all.
    """
    found = []
    for buffer, begin, end in spans:
        if not isinstance(buffer.obj, mmap) or not buffer.readonly:
            return None
        whole = _held.get(id(buffer.obj))
        if whole is None:
            if len(_held) >= share_of_files(16):
                return None
            whole = _held[id(buffer.obj)] = np.frombuffer(buffer, np.uint8)
        found.append((whole.data, begin, end))
    return found


def _joined(spans: Sequence[_Spans], order: Indices | None, offsets: Indices) -> npt.NDArray[np.uint8]:
    if len(spans) > 1:
        return joined(_parts(spans, order))
    buffer, begin, end = spans[0]
    total = int(offsets[-1])
    breaks = np.flatnonzero(begin[1:] != end[:-1])  # values that are neighbours in the page are copied together
    if 2 * len(breaks) < len(begin):
        return joined(_parts([(buffer, begin[np.append(0, breaks + 1)], end[np.append(breaks, -1)])], None))
    if total > _SHORT_NBYTES * len(begin):
        return joined(_parts(spans, None))
    source: npt.NDArray[np.uint8] = np.ndarray(len(buffer), np.uint8, buffer)
    return source.take(np.repeat(begin - offsets[:-1], end - begin) + np.arange(total))


def _parts(spans: Sequence[_Spans], order: Indices | None) -> list[memoryview]:
    parts = []
    for buffer, begin, end in spans:
        parts += [buffer[a:b] for a, b in zip(begin.tolist(), end.tolist(), strict=True)]
    if order is None:
        return parts
    out = parts[:]
    for k, part in zip(order.tolist(), parts, strict=True):
        out[k] = part
    return out


def _in_order(each: Sequence[npt.NDArray[Any]], order: Indices | None) -> npt.NDArray[Any]:
    whole = each[0] if len(each) == 1 else np.concatenate(each)
    if order is None:
        return whole
    out = np.empty_like(whole)
    out[order] = whole
    return out


def _dimensions(kind: Numeric, buffer: Any, begin: Indices, end: Indices, there: Mask) -> Indices:
    """int64 (n, dimensions): the shapes of stored arrays; 0 in the free dimensions of those that are not there."""
    shapes = np.tile(np.array(empty_shape(kind), np.int64), (len(begin), 1))
    free = [axis for axis, size in enumerate(kind.shape) if size is None]
    begin, nbytes = begin[there], (end - begin)[there] - 8 * len(free)
    if (nbytes < 0).any():
        raise CorruptError(f"an array is too short: its dimensions alone take {8 * len(free)} bytes")
    found = np.empty((len(begin), len(kind.shape)))
    found[:] = empty_shape(kind)
    words = overlapping(buffer, np.dtype("<u8"), ())
    for k, axis in enumerate(free):
        found[:, axis] = words[begin + 8 * k]
    # In floats, which do not overflow and are exact up to far above any size that passes.
    fits = found.prod(axis=1) * kind.dtype.itemsize == nbytes
    if not (fits & (np.maximum(found, 1).prod(axis=1) <= MAX_ROW_NBYTES)).all():
        raise CorruptError(f"the dimensions of an array of {kind} do not fit its bytes")
    shapes[there] = found
    return shapes
