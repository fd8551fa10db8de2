"""The bins of several datasets, for any number of ranks, exactly as docs/order.md says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, strategies as st

import tests.plain_bins as plain
from recordio.reader.combined import ConcatDataset, Mixture
from recordio.reader.loading.binning import Binning
from recordio.reader.order.bins import BinRule, piece_numbers
from recordio.reader.order.mixed_bins import MixedBins
from recordio.reader.order.ranks import RankShare
from recordio.reader.order.shuffle import OrderOptions
from tests.effort import examples
from tests.epochs import View, combined, orders, plain_options, shapes, views
from tests.plain_order import Blocks, dealt

Bin = tuple[int, list[tuple[int, int]]]  # the dataset; (index in its view, piece) of the items


def bins_of(
    parts: Sequence[tuple[Blocks, View, list[int]]],
    draws: list[int] | None,
    rule: BinRule,
    epoch_key: int,
    options: OrderOptions,
) -> MixedBins:
    """`draws` of a mixture, None for a concatenation."""
    kind = ConcatDataset if draws is None else Mixture
    dataset = combined(kind, [(shape, view) for shape, view, _ in parts], draws)
    lengths = [np.array(of_view, np.int64) for *_, of_view in parts]
    found = Binning(rule, lengths, "field", options, None).order(epoch_key, dataset, lambda: (None, dataset))
    assert isinstance(found, MixedBins)
    return found


def of_rank(bins: MixedBins, share: RankShare) -> list[Bin]:
    """The bins that a rank delivers, in order."""
    streams, turns = bins.plans(share)
    each: list[list[list[tuple[int, int]]]] = []
    for stream in streams:
        found: list[list[tuple[int, int]]] = []
        for plan in stream:
            pieces = [0] * len(plan) if plan.piece is None else piece_numbers(plan.piece).tolist()
            last = None
            for position, index, piece in zip(plan.position.tolist(), plan.index.tolist(), pieces, strict=True):
                if position != last:
                    found.append([])
                found[-1].append((index, piece))
                last = position
        each.append(found)
    rest = [iter(one) for one in each]
    delivered = [(int(source), next(rest[source])) for labels in turns for source in labels]
    assert all(next(one, None) is None for one in rest)
    return delivered


def every_bin(bins: MixedBins) -> list[Bin]:
    return of_rank(bins, RankShare(rank=0, world=1, start=0, stop=len(bins)))


rules: st.SearchStrategy[Any] = st.one_of(
    st.builds(BinRule, st.just("padded"), st.integers(20, 60)),
    st.builds(BinRule, st.just("counted"), st.integers(1, 9), only_full=st.booleans(), equal=st.booleans()),
    st.builds(BinRule, st.just("packed"), st.integers(8, 30), st.sampled_from(["truncate", "split"])),
)


@examples(100)
@given(st.data(), st.integers(1, 3), st.booleans(), st.booleans(), rules, st.integers(0, 2**64 - 1), st.integers(1, 4))
def test_bins_of_several_datasets_follow_the_document_for_any_number_of_ranks(
    data: st.DataObject, count: int, shuffle: bool, is_mixture: bool, rule: BinRule, epoch_key: int, world: int
) -> None:
    options, parts = data.draw(orders(shuffle, by_lane=False)), []
    for _ in range(count):
        shape = data.draw(shapes(least=1))
        view = data.draw(views(shape.samples).filter(len))
        lengths = data.draw(st.lists(st.integers(0, 20), min_size=len(view), max_size=len(view)))
        parts.append((shape, view, lengths))
    draws = [data.draw(st.integers(1, 3 * len(view))) for _, view, _ in parts] if is_mixture else None
    bins = bins_of(parts, draws, rule, epoch_key, options)
    want = plain.mixed_bins(
        parts,
        draws or [len(view) for _, view, _ in parts],
        plain.Rule(rule.kind, rule.size, rule.on_overlong, rule.only_full, rule.equal),
        epoch_key,
        plain_options(options),
        shuffle=shuffle,
    )
    assert every_bin(bins) == want
    start = data.draw(st.integers(0, len(want)))
    for rank in range(world):
        share = RankShare.of(rank, world, start, len(want), 1, drop_last=False, even=True)
        assert of_rank(bins, share) == [want[p] for (p,) in dealt(len(want), start, rank, world, 1)]
