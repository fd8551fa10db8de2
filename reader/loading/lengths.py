"""How long each sample of a view is, by the offsets of its pages or a field that says it: no value is made.

Every rank must find the same lengths, or their bins would not fit together: so pages are checked before their offsets
are believed, also where a rank delivers none of their samples. With verify="never" the offsets alone are read of plain
pages in a map, 8 bytes a sample, and must be in order and fill their page. Other pages are read and decoded as a whole,
64 MiB at a time.

The length of an image is its width at a height of 1,024 pixels, of which its header is enough.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.display.text import bytes_text
from recordio.errors import SchemaError
from recordio.format.fields import Bytes, Field, Text
from recordio.format.image_field import Image
from recordio.format.numeric import Array, Scalar
from recordio.format.page import Indices, VariablePages, overlapping
from recordio.format.schema import Schema
from recordio.images.aspects import aspects
from recordio.images.header import stated_size
from recordio.reader.batches.fetch_plan import MAPPED_NBYTES, FetchPlan
from recordio.reader.dataset import ShardDataset
from recordio.reader.fetch_threads import FetchThreads
from recordio.reader.loading.options import MAX_TOKENS
from recordio.reader.open_dataset import OpenDataset
from recordio.reader.order.numbers import numbers_at
from recordio.reader.order.selection import selection_of
from recordio.reader.page_access import Projection
from recordio.storage.memory import new_memory

_log = logging.getLogger("recordio")
_NBYTES = 64 << 20  # of pages in memory at a time
_SAMPLES = 1 << 20
_MUCH = 32 << 30  # bytes to read for the aspects of images, of which a loader says so
_MUCH_REMOTE = 1 << 30
_TASKS = 8  # into which the checks of so many pages are cut, for threads

Measured = npt.NDArray[Any]
Measure = Callable[[VariablePages, Indices, Indices], Measured]  # (pages, page, row) -> a number each


def is_sequence(kind: Field) -> bool:
    """Whether values are arrays whose first dimension alone is free, such as the tokens of a document."""
    return isinstance(kind, Array) and kind.shape[0] is None and None not in kind.shape[1:]


def sequences_of(schema: Schema) -> list[str]:
    """The arrays that are padded and packed: those of any length; without any, those of one length.

    The schema of documents that happen to be equally long, when it was inferred, has no others.
    """
    found = [name for name, kind in schema.items() if is_sequence(kind)]
    return found or [name for name, kind in schema.items() if _is_fixed(kind)]


def _is_fixed(kind: Field) -> bool:
    return isinstance(kind, Array) and len(kind.shape) > 0 and None not in kind.shape


def has_aspect(kind: Field) -> bool:
    """Whether values have an aspect: images, and arrays (height, width, ...) of which just these two are free."""
    return isinstance(kind, Image) or (
        isinstance(kind, Array) and kind.shape[:2] == (None, None) and None not in kind.shape[2:]
    )


def lengths_of(dataset: ShardDataset, name: str) -> Measured:
    """(len(dataset),), integers: the length of each sample by this field.

    That is the first dimension of an array whose other dimensions are fixed, the bytes of text (UTF-8) or of bytes, the
    value of an integer, or the width of an image at a height of 1024. An image whose header cannot be read counts as a
    square: making a batch of it says what is wrong. Raises SchemaError for other fields, CorruptError, StorageError.
    """
    kind = dataset.store.manifest.schema.select([name])[name]
    if kind.optional:
        raise SchemaError(f"field {name!r} is optional, and a missing value has no length: name another by bucket_by=")
    if isinstance(kind, Scalar) and kind.dtype.kind in "iu":
        found: Measured = dataset._only([name]).column(name)
        wrong = np.flatnonzero((found < 0) | (found > MAX_TOKENS))
        if len(wrong):
            raise SchemaError(f"field {name!r} has the length {found[wrong[0]]}, of sample {wrong[0]}")
        return found
    if isinstance(kind, Text | Bytes):
        return _measured(dataset, name, _nbytes)
    if has_aspect(kind):
        return _aspects(dataset, name, kind)
    if _is_fixed(kind):
        return _of_all(dataset, kind.shape[0])  # type: ignore[attr-defined]
    if not is_sequence(kind):
        raise SchemaError(
            f"field {name!r} is {kind}, which has no length: bucket_by= names an array of which no dimension but the "
            "first is free, text, bytes, an image, or an integer that says how long the sample is"
        )
    size = max(1, kind.dtype.itemsize * math.prod(kind.shape[1:]))  # type: ignore[attr-defined]
    return _measured(dataset, name, lambda *at: (_nbytes(*at) - 8) // size)


def _of_all(dataset: ShardDataset, length: int) -> Measured:
    """One length for every sample."""
    return np.full(len(dataset), length, np.min_scalar_type(length))


def _nbytes(pages: VariablePages, page: Indices, row: Indices) -> Indices:
    begins, ends = pages.spans(page, row)
    return ends - begins


def _aspects(dataset: ShardDataset, name: str, kind: Any) -> Measured:
    """The width of each image at a height of 1024: by the headers of files, by the dimensions of arrays."""
    if kind.row_nbytes is not None and kind.shape is not None:
        return _of_all(dataset, int(aspects(*kind.shape[:2])))
    access, nbytes = dataset.store.access, dataset.store.content_nbytes
    if nbytes > (_MUCH_REMOTE if access.remote else _MUCH) and not (access.mapped and access.verify == "never"):
        _log.warning(
            "the aspects of field %r are in its images: every rank reads and checks them first, in a dataset of %s. An "
            "integer field of 1024 * width // height, named by bucket_by=, gives the same batches without that",
            name,
            bytes_text(nbytes),
        )
    return _measured(dataset, name, _of_files if kind.shape is None else partial(_of_arrays, kind.shape[:2]))


def _of_files(pages: VariablePages, page: Indices, row: Indices) -> Indices:
    buffer = memoryview(pages.buffer)
    spans = zip(*(one.tolist() for one in pages.spans(page, row)), strict=True)
    sizes = np.array([stated_size(buffer[begin:end]) for begin, end in spans], np.int64)
    return aspects(sizes[:, 0], sizes[:, 1])


def _of_arrays(shape: Sequence[int | None], pages: VariablePages, page: Indices, row: Indices) -> Indices:
    begins, _ = pages.spans(page, row)
    stored = overlapping(pages.buffer, np.dtype("<u8"), ())  # a free dimension each, before the elements
    sizes: list[Any] = []
    for number, size in enumerate(shape):
        before = 8 * sum(one is None for one in shape[:number])
        sizes.append(np.full(len(begins), size) if size is not None else stored[begins + before].astype(np.int64))
    return aspects(*sizes)


def _measured(dataset: ShardDataset, name: str, measure: Measure) -> Measured:
    """The measure of each sample of the view."""
    store, numbers = dataset.store, dataset.numbers
    first = store.blocks.first
    chosen = selection_of(first, numbers)
    blocks = chosen.blocks_at(np.arange(len(chosen)))
    counts = store.samples_of(blocks)
    threads = FetchThreads(store.access.reads)
    try:
        found = [_of_blocks(store, name, run, measure, threads) for run in _runs(store, blocks)]
    finally:
        threads.close()
    every = np.concatenate(found) if found else np.zeros(0, np.int64)
    before = np.zeros(len(first) - 1, np.int64)  # samples of blocks without any of the view
    before[blocks] = first[blocks] - np.cumsum(counts) + counts
    out = np.empty(len(numbers), every.dtype)
    for at in range(0, len(numbers), _SAMPLES):
        run = numbers_at(numbers, np.arange(at, min(at + _SAMPLES, len(numbers))))
        out[at : at + len(run)] = every[run - before[np.searchsorted(first, run, side="right") - 1]]
    return out


def _runs(store: OpenDataset, blocks: Indices) -> Iterator[Indices]:
    """The blocks, in runs of one shard and of up to 64 MiB."""
    part = np.cumsum(store.blocks.nbytes[blocks].astype(np.float64)) // _NBYTES
    cuts = np.flatnonzero((np.diff(store.shard_of(blocks)) != 0) | (np.diff(part) != 0)) + 1
    return (run for run in np.split(blocks, cuts) if len(run))


def _of_blocks(store: OpenDataset, name: str, blocks: Indices, measure: Measure, threads: FetchThreads) -> Measured:
    """The measure of every sample of these blocks of a shard."""
    fields = store.projection([name])
    counts = store.samples_of(blocks)
    slot = np.repeat(np.arange(len(blocks)), counts)
    row = np.arange(len(slot)) - np.repeat(np.cumsum(counts) - counts, counts)
    pages = _mapped(store, fields, blocks, slot, row, threads) or _loaded(store, fields, blocks, threads)
    found = measure(pages, slot, row)
    if store.content_nbytes > MAPPED_NBYTES:  # as windows are: a large dataset is not kept in the process's memory
        number = int(store.shard_of(blocks[:1])[0])
        store.shard(number).unmap(blocks - store.blocks.shard[number])
    return found.astype(np.min_scalar_type(int(found.max())))  # they stay in memory


def _mapped(
    store: OpenDataset, fields: Projection, blocks: Indices, slot: Indices, row: Indices, threads: FetchThreads
) -> VariablePages | None:
    """The pages of these blocks as they lie in the map of their shard; None if they do not. Raises CorruptError."""
    number = int(store.shard_of(blocks[:1])[0])
    shard, column = store.shard(number), fields.columns[0]
    local = blocks - store.blocks.shard[number]
    reader = shard.reader(column)
    if reader.mapped is None or not reader.in_place[local].all():
        return None
    pages = reader.mapped.only(local)
    assert isinstance(pages, VariablePages)
    counts = store.samples_of(blocks)
    want = shard.index.pages["nbytes"][local, column].astype(np.int64) - 8 * (counts + 1)
    if store.access.verify != "never" or not _fill(want, _nbytes(pages, slot, row), counts):
        threads.run(partial(shard.touch_all, fields, some) for some in np.array_split(local, _TASKS) if len(some))
    return pages


def _fill(nbytes: Indices, lengths: Indices, counts: Indices) -> bool:
    """Whether values of these lengths, so many in each page, can be all that lies in pages of these sizes."""
    sums = np.add.reduceat(lengths, np.cumsum(counts) - counts)
    return bool(lengths.min() >= 0 and lengths.max() <= nbytes.max() and np.array_equal(sums, nbytes))


def _loaded(store: OpenDataset, fields: Projection, blocks: Indices, threads: FetchThreads) -> VariablePages:
    """The pages of these blocks, checked and decoded into memory."""
    access = replace(store.access, mapped=False)
    fetch = FetchPlan(store, fields, blocks, access=access)
    (column,) = fetch.load(new_memory(fetch.layout.nbytes), threads.run).columns.values()
    for error in fetch.failed.values():
        raise error
    (pages,) = column.groups
    assert isinstance(pages, VariablePages)
    return pages
