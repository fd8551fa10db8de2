"""What each stage of a loader takes by itself: in one thread, over the same pages, while nothing else is done.

While a loader runs, stages that are one pass cannot be told apart: checksums and decompression, pictures and the
transforms that decode them. So each of them is done alone here, for a few blocks that are spread over the dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import cycle
from statistics import mean, median
from time import perf_counter
from typing import Any

import numpy as np

from recordio.format.checksum import checksum
from recordio.format.codec import Codec
from recordio.format.coded import decode_page_into
from recordio.format.image_field import Image
from recordio.format.page import Indices
from recordio.images.transform import Transform, function_name
from recordio.process_guard import ThreadPool
from recordio.reader.batches.fetch_plan import FetchPlan
from recordio.reader.batches.maker import BatchMaker
from recordio.reader.batches.memory import Arena
from recordio.reader.batches.requests import IndexRequest
from recordio.reader.dataset import ShardDataset
from recordio.reader.loading.options import LoaderOptions
from recordio.reader.page_reads import PageReads, one_by_one
from recordio.reader.page_table import PageTable
from recordio.reader.workers.slots import Slot, load

STORAGE, CHECKSUM, DECOMPRESSION, GATHERING = "storage", "checksum", "decompression", "gathering"
DECODING, COLLATION, HANDOVER = "image decoding", "collation", "hand-over"
_BLOCKS = 256
_NBYTES = 64 << 20  # of decoded pages: more than a processor's caches hold, as the windows of an epoch are
_SECONDS = 0.25  # for a stage
_BATCH = 256  # samples at most of a batch
_TOGETHER = 4  # samples that pass through functions at a time

Cost = dict[str, float]  # seconds a sample, by stage


def stages_alone(part: ShardDataset, options: LoaderOptions, processes: bool) -> Cost:
    """Seconds a sample of every stage that a dataset has. `processes`: whether batches come from worker processes.

    Raises CorruptError, StorageError, and what the functions of the dataset raise.
    """
    blocks = _some_blocks(part)
    table, cost = _loaded(part, blocks)
    slot, row = _rows(part, blocks)
    size = min(len(slot), options.batch_size or 1)
    cost[GATHERING] = _timed(
        lambda begin: table.take(slot[begin : begin + size], row[begin : begin + size]), len(slot), size
    )
    cost |= _functions(part, _processing)
    return cost | _batches(part, options, processes)


def _some_blocks(part: ShardDataset) -> Indices:
    """Blocks with samples of the view, spread evenly."""
    first = part.store.blocks.first
    numbers = part.numbers_of(np.unique(np.linspace(0, len(part) - 1, _BLOCKS * 8).astype(np.int64)))
    found = np.unique(np.searchsorted(first, numbers, side="right") - 1)
    found = found[np.linspace(0, len(found) - 1, min(len(found), _BLOCKS)).astype(np.int64)]
    entries, failed = part.store.entries(found, part.fields.columns)
    for error in failed.values():
        raise error
    sizes = np.cumsum(entries.nbytes.sum(axis=1))
    return found[: max(1, int(np.searchsorted(sizes, _NBYTES)))]


def _loaded(part: ShardDataset, blocks: Indices) -> tuple[PageTable, Cost]:
    """The pages of some blocks, and what storage, checksums and decompression took."""
    store = part.store
    entries, _ = store.entries(blocks, part.fields.columns)
    samples = store.samples_of(blocks)
    every = np.ones(entries.offset.shape, bool)
    access = replace(store.access, verify="never", drops=False)
    reads = PageReads(entries, every, store.shard_of(blocks), samples, part.fields.schema.values(), access)
    memory = Arena().reserve(max(1, reads.nbytes))
    one_by_one(reads.work(memoryview(memory), store.file, lambda done, failed: None))
    count = int(samples.sum())
    cost = {STORAGE: sum(read for read, _ in reads.spent) * 1e-9 / count}
    checking = decoding = 0.0
    for number, block in zip(store.shard_of(blocks).tolist(), range(len(blocks)), strict=True):
        file = store.file(number)
        for column, kind in enumerate(part.fields.schema.values()):
            at = block, column
            stored = file.read(int(entries.offset[at]), int(entries.end[at] - entries.offset[at]))
            began = perf_counter()
            checksum(stored)
            checked = perf_counter()
            checking += checked - began
            if (codec := int(entries.codec[at])) != int(Codec.PLAIN):
                page = memoryview(stored)[: int(entries.stored_nbytes[at])]
                decode_page_into(codec, kind, int(samples[block]), page, memoryview(memory)[: int(entries.nbytes[at])])
                decoding += perf_counter() - checked
    if part.store.options.verify != "never":
        cost[CHECKSUM] = checking / count
    if decoding:
        cost[DECOMPRESSION] = decoding / count
    fetch = FetchPlan(store, part.fields, blocks)
    return fetch.load(Arena().reserve(max(1, fetch.layout.nbytes)), one_by_one), cost


def _rows(part: ShardDataset, blocks: Indices) -> tuple[Indices, Indices]:
    """The slot and the row of every sample of some blocks, mixed as a loader does."""
    counts = part.store.samples_of(blocks)
    slot = np.repeat(np.arange(len(blocks)), counts)
    row = np.concatenate([np.arange(count) for count in counts.tolist()])
    mixed = np.random.default_rng(0).permutation(len(slot))
    return slot[mixed], row[mixed]


def _timed(work: Callable[[int], Any], total: int, size: int) -> float:
    """Seconds a sample of work that takes `size` samples from a position on, the median of what there is time for."""
    end, took = perf_counter() + _SECONDS, list[float]()
    for begin in cycle(range(0, max(1, total - size + 1), size)):
        began = perf_counter()
        work(begin)
        now = perf_counter()
        took.append(now - began)
        if now >= end:
            break
    return median(took) / size


def views_by_step(part: ShardDataset) -> Iterator[tuple[str, ShardDataset]]:
    """The steps that samples pass through after they are gathered, each with the view that ends with it."""
    transforms, maps = part._transforms, part._maps
    bare = part._with(_transforms=(), _maps=(), tuple_fields=None)
    decoding = {name for name, kind in part.schema.items() if isinstance(kind, Image) and kind.encoded}
    if part._decode is not None and decoding:
        fused, rest = _that_decode(part, decoding)
        names = [f"{DECODING} with {_name(function)}" for _, function in fused]
        bare = bare._with(_transforms=tuple(fused))
        yield (names[0] if names else DECODING), bare
        transforms = tuple(rest)
    done = bare._transforms
    for field, function in transforms:
        done = (*done, (field, function))
        yield f"transform {_name(function)}", bare._with(_transforms=done)
    for k, function in enumerate(maps, 1):
        yield f"map {_name(function)}", bare._with(_transforms=done, _maps=maps[:k])


def _that_decode(part: ShardDataset, images: set[str]) -> tuple[list[Any], list[Any]]:
    """The transforms that decode their picture by themselves, and all others."""
    fused: list[Any] = []
    rest: list[Any] = []
    begun: set[str] = set()
    for field, function in part._transforms:
        decodes = isinstance(function, Transform) and function.encoded and part._decode == "numpy"
        (fused if field in images - begun and decodes else rest).append((field, function))
        begun.add(field)
    return fused, rest


def _name(function: Any) -> str:
    return function_name(function).rpartition(".<locals>.")[2]


def functions_together(part: ShardDataset, threads: int) -> Cost:
    """Seconds a sample of every function while so many threads run it: more than alone if they wait for each other."""
    with ThreadPool(threads) as pool:
        return _functions(part, lambda view: mean(pool.map(_processing, [view] * threads)))


def _functions(part: ShardDataset, measure: Callable[[ShardDataset], float]) -> Cost:
    """Of every function: the difference between the view that ends with it and the one before."""
    cost: Cost = {}
    before = 0.0
    for name, view in views_by_step(part):
        took = measure(view)
        cost[name] = cost.get(name, 0.0) + max(0.0, took - before)
        before = max(before, took)
    return cost


def _processing(view: ShardDataset) -> float:
    """Seconds a sample of the processing of a view, the median of what there is time for."""
    processed = view.processing.samples if view.processing.maps else view.processing.columns
    end, took = perf_counter() + _SECONDS, list[float]()
    for begin in cycle(range(0, len(view), _TOGETHER)):
        numbers = view.numbers_of(np.arange(begin, min(begin + _TOGETHER, len(view))))
        columns, origin = view.read(numbers), view.origin(numbers, numbers, 0)
        began = perf_counter()
        processed(columns, origin)
        now = perf_counter()
        took.append((now - began) / len(numbers))
        if now >= end and len(took) > 1:
            break
    return median(took)


def _batches(part: ShardDataset, options: LoaderOptions, processes: bool) -> Cost:
    """What collation takes, where batches are made of samples, and the way from a process to another."""
    size = min(len(part), options.batch_size or 1, _BATCH)
    maker = BatchMaker([part], options.collate_fn, unbatched=options.batch_size is None)
    cost: Cost = {}
    if part.processing.maps or options.collates:
        result = maker(IndexRequest(list(range(size)), 0))
        assert result.times is not None
        cost[COLLATION] = result.times.collate * 1e-9 / size
    if processes:
        result = maker(IndexRequest(list(range(size)), 0))
        slot = Slot()
        cost[HANDOVER] = _timed(partial(_handed_over, slot, result), size, size)
        slot.close()
    return cost


def _handed_over(slot: Slot, result: Any, begin: int) -> Any:
    slot.put(result)
    return load(slot.contents(), copy=False)


def split(seconds: float, costs: Mapping[str, float]) -> Cost:
    """Seconds shared out among stages in proportion to what they cost alone."""
    every = sum(costs.values())
    if not every:
        return dict.fromkeys(list(costs)[:1], seconds)
    return {name: seconds * cost / every for name, cost in costs.items()}
