"""Strategies for the inputs of an epoch's order, and small datasets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import strategies as st

import tests.plain_order as plain
from recordio import Array, ConcatDataset, DatasetWriter, Scalar, ShardDataset
from recordio.reader.combined import Combined
from recordio.reader.order.blocks import Blocks
from recordio.reader.order.ranks import RankShare, window_plans
from recordio.reader.order.shuffle import Order, OrderOptions, WindowPlan

View = range | list[int]


def blocks_of(shape: plain.Blocks) -> Blocks:
    """The same blocks in the reader's form."""
    first = np.cumsum([0, *(samples for samples, _ in shape.all)])
    shards = np.cumsum([0, *map(len, shape.shards)])
    return Blocks(first, np.array([weight for _, weight in shape.all], np.int64), shards)


@st.composite
def shapes(draw: st.DrawFn, least: int = 0, most: int = 16) -> plain.Blocks:
    """Shards of blocks of samples; a shard may be empty."""
    block = st.tuples(st.integers(1, 9), st.integers(1, 50))
    blocks = draw(st.lists(block, min_size=least, max_size=most))
    cuts = sorted(draw(st.lists(st.integers(0, len(blocks)), max_size=4)))
    return plain.Blocks([blocks[a:b] for a, b in zip([0, *cuts], [*cuts, len(blocks)], strict=True)])


@st.composite
def views(draw: st.DrawFn, samples: int) -> View:
    """A range of the samples that may begin and end inside a block, or a list: any with repeats, or a sorted one."""
    a, b = sorted(draw(st.tuples(st.integers(0, samples), st.integers(0, samples))))
    if not samples or draw(st.booleans()):
        return range(samples)[a : b : draw(st.sampled_from([1, 1, 1, 2, 7]))][:: draw(st.sampled_from([1, 1, 1, -1]))]
    found = draw(st.lists(st.integers(0, samples - 1), max_size=40, unique=draw(st.booleans())))
    return draw(st.sampled_from([found, sorted(found), sorted(found, reverse=True)]))


def orders(shuffle: bool = True, by_lane: bool = True) -> st.SearchStrategy[OrderOptions]:
    """Windows from one sample to all of them, in bytes or in samples; also by lane, unless `by_lane` is false."""
    return st.builds(
        OrderOptions,
        shuffle=st.just(shuffle),
        window_bytes=st.integers(1, 400),
        window_samples=st.one_of(st.none(), st.none(), st.integers(1, 50)),
        unit_bytes=st.sampled_from([1, 1, 30, 90, 10**6]),
        lanes=st.sampled_from([1, 2, 3, 4, 6, 8, 12, 30, 64]),
        **({"pool_bytes": st.sampled_from([0, 0, 1, 100, 1000]), "lane_affinity": st.booleans()} if by_lane else {}),
    )


WORKERS: list[dict[str, Any]] = [
    {},
    {"num_workers": 1},
    {"num_workers": 3},
    {"num_workers": 2, "worker_type": "process", "multiprocessing_context": "fork"},
]
NO_WORKERS = WORKERS[0]
any_workers = st.sampled_from([NO_WORKERS, *WORKERS])


def plans_of_ranks(order: Order, ranks: int, stop: int) -> Iterator[WindowPlan]:
    """The windows of every rank; each delivers its own positions, in order, and loads no block in vain."""
    for rank in range(ranks):
        last = -1
        for plan in window_plans(order, RankShare(rank=rank, world=ranks, start=0, stop=stop)):
            positions = plan.position.tolist()
            assert positions == sorted(positions)
            assert all(p % ranks == rank and p > last for p in positions)
            assert sorted(set(plan.slot.tolist())) == list(range(len(plan.blocks)))
            yield plan
            last = positions[-1]


def write_rows(folder: Path, count: int, **options: Any) -> Path:
    """A dataset of numbers, each also as a row of 256 times itself, under zstd."""
    schema = {"number": Scalar("int64"), "x": Array("int32", (256,))}
    with DatasetWriter(folder, schema, compression="zstd", **options) as writer:
        for n in range(count):
            writer.write({"number": n, "x": np.full(256, n, np.int32)})
    return folder


def write_numbers(folder: Path, numbers: Iterable[int], **options: Any) -> ShardDataset:
    """A dataset of numbers, each also as text, about ten samples to a block."""
    with DatasetWriter(folder, **{"block_bytes": 200, "shard_samples": 70} | options) as writer:
        for n in numbers:
            writer.write({"number": n, "text": str(n)})
    return ShardDataset(folder)


def numbers_of(batch: dict[str, Any]) -> list[int]:
    """The numbers of a batch, checked against their texts."""
    numbers: list[int] = batch["number"].tolist()
    assert batch["text"] == [str(n) for n in numbers]
    return numbers


class Listed:
    """A stand-in for a dataset without files: blocks and sample numbers, all that a mixture's plan needs."""

    def __init__(self, shape: plain.Blocks, view: View) -> None:
        self.store = SimpleNamespace(blocks=blocks_of(shape))
        self.numbers = view if isinstance(view, range) else np.array(view, np.int64)

    def __len__(self) -> int:
        return len(self.numbers)


def combined(
    kind: type[Combined], parts: Sequence[tuple[plain.Blocks, View]], draws: Sequence[int] | None = None
) -> Combined:
    """A mixture or concatenation of datasets without files."""
    out = object.__new__(kind)
    out.parts = tuple(Listed(shape, view) for shape, view in parts)  # type: ignore[misc]
    if isinstance(out, ConcatDataset):
        out._sources = None
    out.draws = [len(view) for _, view in parts] if draws is None else list(draws)
    return out


def plain_options(options: OrderOptions) -> plain.Options:
    """The same options for tests/plain_order.py."""
    return plain.Options(
        options.window,
        options.window_samples,
        options.unit_bytes,
        options.lanes,
        options.pool_bytes,
        options.lane_affinity,
    )


def plain_blocks(dataset: ShardDataset) -> plain.Blocks:
    """The blocks of a dataset, weighed as docs/order.md says."""
    manifest = json.loads((Path(dataset.store.storage.folder) / "manifest.json").read_text())  # type: ignore[attr-defined]
    shards = []
    for shard in manifest["shards"]:
        weight = shard["content_bytes"] // shard["samples"] + 48
        shards.append([(samples, samples * weight) for samples, blocks in shard["blocks"] for _ in range(blocks)])
    return plain.Blocks(shards)
