"""The bins of docs/order.md in plain Python, as tests/plain_order.py has the rest of it: no code of the reader."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from tests.plain_order import (
    Blocks,
    Options,
    _share,
    key,
    parts,
    permutation,
    selection_of,
    shuffled,
    turns,
    windows,
)

Part = tuple[Blocks, Sequence[int], Sequence[int]]  # a dataset: its blocks, the view, the lengths of the view
LEAST = 64
BUCKET = 200


@dataclass(frozen=True)
class Rule:
    """`kind` is "padded", "packed" or "counted"."""

    kind: str
    size: int
    on_overlong: str = "raise"
    only_full: bool = False
    equal: bool = False


@dataclass(frozen=True)
class Item:
    index: int
    piece: int
    length: int
    block: int  # where the sample's block stands in the window


def binned(
    blocks: Blocks,
    view: Sequence[int],
    lengths: Sequence[int],
    rule: Rule,
    epoch_key: int,
    options: Options,
    *,
    shuffle: bool = True,
) -> list[list[tuple[int, int]]]:
    """The bins of an epoch, in order, each as (index in the view, piece) of its items. `lengths`: of the view."""
    found: list[list[tuple[int, int]]] = []
    if shuffle:
        mixed = windows(blocks, view, epoch_key, options)
        members = selection_of(blocks, view)
        lanes, order = options.lanes if len(mixed) > 1 else 1, shuffled(blocks, view, epoch_key, options)
        sizes = [sum(len(members[block]) for block in window) for window in mixed]
    else:
        lanes, order, sizes = 1, list(range(len(view))), unshuffled_windows(blocks, view, options)
        mixed = [list(range(len(blocks.all)))] * len(sizes)
    at = 0
    for number, (window, size) in enumerate(zip(mixed, sizes, strict=True)):
        items = items_of(order[at : at + size], blocks, view, lengths, window, rule)
        window_key = key(number + 1, after=epoch_key)
        found += window_bins(items, rule, lanes, len(found), window_key, shuffle=shuffle)
        at += size
    assert at == len(view)
    return found


def mixed_bins(
    datasets: Sequence[Part],
    draws: Sequence[int],
    rule: Rule,
    epoch_key: int,
    options: Options,
    *,
    shuffle: bool = True,
) -> list[tuple[int, list[tuple[int, int]]]]:
    """The bins of an epoch of several datasets: (dataset, its bin)."""
    of_datasets = []
    for dataset, (blocks, view, lengths) in enumerate(datasets):
        own, bins = _share(options, draws[dataset], sum(draws)), []
        for number in range(math.ceil(draws[dataset] / len(view)) if view else 0):
            found = binned(blocks, view, lengths, rule, key(dataset, number, after=epoch_key), own, shuffle=shuffle)
            rest = draws[dataset] - number * len(view)
            if rest < len(view):
                found = found[: max(1, round(Fraction(len(found) * rest, len(view))))]
            bins += found
        of_datasets.append(bins)
    counts = [len(bins) for bins in of_datasets]
    order = turns(counts, epoch_key) if shuffle else [d for d, count in enumerate(counts) for _ in range(count)]
    each = [iter(bins) for bins in of_datasets]
    return [(dataset, next(each[dataset])) for dataset in order]


def aspect(height: int, width: int) -> int:
    return min(max(width * 1024 // height, 1), 2**30) if height and width else 1024


def bucket(height: int, width: int, sizes: Sequence[Sequence[int]]) -> tuple[int, int]:
    """The size of the bucket that an image goes to."""
    (best, *others), own = sorted(sizes, key=lambda size: aspect(*size)), aspect(height, width)
    for other in others:
        if own**2 >= aspect(*best) * aspect(*other):
            best = other
    return best[0], best[1]


def block_of(blocks: Blocks, number: int) -> int:
    for block, (samples, _) in enumerate(blocks.all):
        if number < samples:
            return block
        number -= samples
    raise AssertionError("no such sample")


def unshuffled_windows(blocks: Blocks, view: Sequence[int], options: Options) -> list[int]:
    """How many samples each window has."""
    of, weights = [block_of(blocks, number) for number in view], [weight for _, weight in blocks.all]
    ascends = all(a <= b for a, b in pairwise(view))
    counts: dict[int, int] = {}
    before = last = 0
    for place, block in enumerate(of):
        enters = place == 0 or of[place - 1] != block
        if ascends and not enters:
            counts[last] += 1
            continue
        last = before // (options.window_samples or options.window_bytes)
        counts[last] = counts.get(last, 0) + 1
        if options.window_samples is None:
            before += weights[block] * enters
        else:
            before += of.count(block) if ascends else 1
    return list(counts.values())


def items_of(
    indices: Sequence[int], blocks: Blocks, view: Sequence[int], lengths: Sequence[int], window: list[int], rule: Rule
) -> list[Item]:
    items = []
    for index in indices:
        block, length = window.index(block_of(blocks, view[index])), max(1, lengths[index])
        if rule.kind == "packed" and rule.on_overlong == "split":
            pieces = math.ceil(length / rule.size)
            items += [Item(index, p, min(rule.size, length - p * rule.size), block) for p in range(pieces)]
        elif rule.kind == "packed":
            items.append(Item(index, 0, min(length, rule.size), block))
        else:
            items.append(Item(index, 0, length, block))
    return items


def cost(item: Item, rule: Rule) -> int:
    return 1 if rule.kind == "counted" else item.length


def least_prime_factor(n: int) -> int:
    return next(factor for factor in range(2, n + 1) if n % factor == 0)


def runs(items: Sequence[Item], rule: Rule, count: int) -> list[list[Item]]:
    """The items in `count` runs that cost about the same."""
    total, before = sum(cost(item, rule) for item in items), 0
    out: list[list[Item]] = [[] for _ in range(count)]
    for item in items:
        out[before * count // total].append(item)
        before += cost(item, rule)
    return out


def window_bins(
    items: list[Item], rule: Rule, lanes: int, first: int, window_key: int, *, shuffle: bool
) -> list[list[tuple[int, int]]]:
    total, count = sum(cost(item, rule) for item in items), lanes
    while count > 1 and total < count * rule.size * LEAST:
        count //= least_prime_factor(count)
    of_parts = [part_bins(sorted(run, key=items.index), rule) for run in runs(by_block(items), rule, count)]
    if rule.only_full:
        of_parts = [[one for one in bins if len(one) == rule.size] for bins in of_parts]
    most = max(map(len, of_parts))
    for number, bins in enumerate(of_parts):
        while not rule.only_full and len(bins) < most and any(len(one) > 1 for one in bins):
            largest = max(range(len(bins)), key=lambda k: (len(bins[k]), -k))
            half = (len(bins[largest]) + 1) // 2
            bins[largest : largest + 1] = [bins[largest][:half], bins[largest][half:]]
        if shuffle:
            order = permutation(len(bins), key(number, after=window_key))
            of_parts[number] = [bins[k] for k in order]
    out = []
    turns = sorted(range(count), key=lambda number: (parts(count)[number] - first) % count)
    for turn in range(most):
        out += [of_parts[number][turn] for number in turns if turn < len(of_parts[number])]
    return [[(item.index, item.piece) for item in one] for one in out]


def by_block(items: list[Item]) -> list[Item]:
    return sorted(items, key=lambda item: item.block)


def part_bins(items: list[Item], rule: Rule) -> list[list[Item]]:
    if not items:
        return []
    total = sum(cost(item, rule) for item in items)
    count = 1 if rule.equal else max(1, (total + BUCKET * rule.size // 2) // (BUCKET * rule.size))
    bins = []
    for bucket in runs(items, rule, count):
        longest_first = sorted(bucket, key=lambda item: -item.length)
        if rule.kind == "packed":
            bins += rows(longest_first, rule.size)
            continue
        while longest_first:
            n = rule.size if rule.kind == "counted" else rule.size // longest_first[0].length
            if rule.equal:
                n = min(n, [item.length for item in longest_first].count(longest_first[0].length))
            bins.append(longest_first[:n])
            longest_first = longest_first[n:]
    return bins


def rows(items: Sequence[Item], size: int) -> list[list[Item]]:
    out: list[list[Item]] = []
    for item in items:
        rooms = [size - sum(one.length for one in row) for row in out]
        fitting = [room for room in rooms if room >= item.length]
        if fitting:
            out[rooms.index(min(fitting))].append(item)
        else:
            out.append([item])
    return out
