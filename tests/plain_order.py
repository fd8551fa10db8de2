"""docs/order.md in plain Python: lists of integers, whole epochs at once, no code of the reader.

Written from the document alone, so that tests find where code and document differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise

WORD = 2**64
GAMMA = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Blocks:
    """The blocks of each shard, as (samples, weight) pairs."""

    shards: Sequence[Sequence[tuple[int, int]]]

    @property
    def all(self) -> list[tuple[int, int]]:
        return list(chain.from_iterable(self.shards))

    @property
    def samples(self) -> int:
        return sum(samples for samples, _ in self.all)


@dataclass(frozen=True)
class Options:
    window_bytes: int = 256 << 20
    window_samples: int | None = None
    unit_bytes: int = 1
    lanes: int = 64
    pool_bytes: int = 0
    lane_affinity: bool = False


def mix(x: int) -> int:
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) % WORD
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) % WORD
    return x ^ x >> 31


def key(*numbers: int, after: int = 0) -> int:
    k = after
    for number in numbers:
        k = mix((k + GAMMA + number) % WORD)
    return k


def bits_of(n: int) -> int:
    """The number of bits for 0 to n - 1."""
    bits = 0
    while 2**bits < n:
        bits += 1
    return bits


def permutation(n: int, k: int) -> list[int]:
    bits = max(1, bits_of(n))
    words = [mix((k + GAMMA * (i + 1)) % WORD) // 2**bits * 2**bits + i for i in range(n)]
    return [word % 2**bits for word in sorted(words)]


def permutation_within(groups: Sequence[int], count: int, k: int) -> list[int]:
    """Permutes the numbers of each group; `groups` ascend."""
    low, top, words = max(1, bits_of(len(groups))), bits_of(count), []
    for i, group in enumerate(groups):
        word = mix((k + GAMMA * (i + 1)) % WORD) // 2**top + group * 2 ** (64 - top) * (count > 1)
        words.append(word // 2**low * 2**low + i)
    return [word % 2**low for word in sorted(words)]


@cache
def parts(lanes: int) -> list[int]:
    """The lane of each part: the lanes by their digits in the mixed base of the prime factors, the least first."""
    factors, rest = [], lanes
    for factor in range(2, lanes + 1):
        while rest % factor == 0:
            factors.append(factor)
            rest //= factor

    def digits(lane: int) -> list[int]:
        found = []
        for factor in factors:
            found.append(lane % factor)
            lane //= factor
        return found

    return sorted(range(lanes), key=digits)


def units_of(blocks: Blocks, view: Sequence[int], options: Options) -> list[list[int]]:
    """The blocks of each unit."""
    members = selection_of(blocks, view)
    units: list[list[int]] = []
    first = 0
    for shard in blocks.shards:
        unit: dict[int, list[int]] = {}
        before = 0
        for block, (_, weight) in enumerate(shard, first):
            if members[block]:
                unit.setdefault(before // options.unit_bytes, []).append(block)
                before += weight
        units += unit.values()
        first += len(shard)
    return units


def budget_of(blocks: Blocks, view: Sequence[int], options: Options) -> tuple[int, bool]:
    """The budget of a window, and whether everything fits into one."""
    if options.window_samples is not None:
        return options.window_samples, len(view) <= options.window_samples
    members = selection_of(blocks, view)
    total = sum(weight for (_, weight), indices in zip(blocks.all, members, strict=True) if indices)
    fits = total <= options.window_bytes
    return options.window_bytes if fits else max(1, options.window_bytes // 2), fits


def windows(blocks: Blocks, view: Sequence[int], epoch_key: int, options: Options) -> list[list[int]]:
    """The blocks of each window."""
    members, weights = selection_of(blocks, view), [weight for _, weight in blocks.all]
    if options.window_samples is not None:
        weights = [len(indices) for indices in members]
    units, (budget, _) = units_of(blocks, view, options), budget_of(blocks, view, options)
    found: dict[int, list[int]] = {}
    before = 0
    for u in permutation(len(units), key(0, after=epoch_key)):
        for block in units[u]:
            found.setdefault(before // budget, []).append(block)
            before += weights[block]
    return list(found.values())


def selection_of(blocks: Blocks, view: Sequence[int]) -> list[list[int]]:
    """The indices in the view of the samples of each block, in the order of the view."""
    block_of = [block for block, (samples, _) in enumerate(blocks.all) for _ in range(samples)]
    members: list[list[int]] = [[] for _ in blocks.all]
    for index, number in enumerate(view):
        members[block_of[number]].append(index)
    return members


def shuffled(blocks: Blocks, view: Sequence[int], epoch_key: int, options: Options) -> list[int]:
    """The index in the view of the sample at each position."""
    if (options.pool_bytes or options.lane_affinity) and not budget_of(blocks, view, options)[1]:
        return by_lane(blocks, view, epoch_key, options)
    members, mixed = selection_of(blocks, view), windows(blocks, view, epoch_key, options)
    lanes = options.lanes if len(mixed) > 1 else 1
    out: dict[int, int] = {}
    start = 0
    for number, window in enumerate(mixed):
        indices = [index for block in window for index in members[block]]
        window_of_parts, at = [], 0
        for lane in parts(lanes):
            n = len([p for p in range(start, start + len(indices)) if p % lanes == lane])
            window_of_parts.append(indices[at : at + n])
            at += n
        out |= placed(window_of_parts, start, key(number + 1, after=epoch_key))
        start += len(indices)
    return [out[position] for position in range(len(view))]


def placed(window: Sequence[Sequence[int]], start: int, window_key: int) -> dict[int, int]:
    """The samples of each part of a window, at the positions of its lane."""
    indices = [index for part in window for index in part]
    groups = [part for part, own in enumerate(window) for _ in own]
    positions = []
    for lane in parts(len(window)):
        positions += [p for p in range(start, start + len(indices)) if p % len(window) == lane]
    order = permutation_within(groups, len(window), window_key)
    return {p: indices[i] for p, i in zip(positions, order, strict=True)}


Piece = tuple[int, list[int]]  # a block, and its samples in the part


def by_lane(blocks: Blocks, view: Sequence[int], epoch_key: int, options: Options) -> list[int]:
    """The index in the view of the sample at each position, where lanes have blocks of their own."""
    lanes, weights = options.lanes, [weight for _, weight in blocks.all]
    pieces = pieces_of_parts(blocks, view, epoch_key, options)
    firsts = []
    for lane, part in zip(parts(lanes), pieces, strict=True):
        position = lane
        for block, indices in part:
            firsts.append((position, weights[block] if options.window_samples is None else len(indices)))
            position += len(indices) * lanes
    budget, starts, before = budget_of(blocks, view, options)[0], {}, 0
    for position, weight in sorted(firsts):
        starts.setdefault(before // budget, position)
        before += weight
    out: dict[int, int] = {}
    ends = [*starts.values(), len(view)]
    samples = [[index for _, indices in part for index in indices] for part in pieces]
    for number, (start, end) in enumerate(pairwise(ends)):
        window = [
            [index for k, index in enumerate(part) if start <= lane + k * lanes < end]
            for lane, part in zip(parts(lanes), samples, strict=True)
        ]
        out |= placed(window, start, key(number + 1, after=epoch_key))
    return [out[position] for position in range(len(view))]


def pieces_of_parts(blocks: Blocks, view: Sequence[int], epoch_key: int, options: Options) -> list[list[Piece]]:
    """The pieces of each part, in the order of the epoch."""
    members, units = selection_of(blocks, view), units_of(blocks, view, options)
    lasting = permutation(len(blocks.all), key(0))
    order = permutation(len(units), key(0, after=epoch_key))
    line = (
        sorted(units, key=lambda unit: lasting.index(unit[0])) if options.lane_affinity else [units[u] for u in order]
    )
    of_parts: list[list[list[Piece]]] = []  # units of each part
    at = 0
    for lane in parts(options.lanes):
        end = at + len(range(lane, len(view), options.lanes))
        part, before = [], 0
        for unit in line:
            found = []
            for block in unit:
                own = members[block][max(0, at - before) : max(0, end - before)]
                if own:
                    found.append((block, own))
                before += len(members[block])
            if found:
                part.append(found)
        of_parts.append(part)
        at = end
    if options.lane_affinity:
        every = [unit for part in of_parts for unit in part]
        groups = [number for number, part in enumerate(of_parts) for _ in part]
        order = permutation_within(groups, options.lanes, key(0, after=epoch_key))
        of_parts = [[every[u] for u in order if groups[u] == number] for number in range(options.lanes)]
    if options.pool_bytes:
        return mixed_in_pools(blocks, of_parts, epoch_key, options)
    return [[piece for unit in part for piece in unit] for part in of_parts]


def mixed_in_pools(
    blocks: Blocks, of_parts: Sequence[Sequence[list[Piece]]], epoch_key: int, options: Options
) -> list[list[Piece]]:
    """The pieces of each part, permuted within pools of units."""
    lanes, share = options.lanes, max(1, options.pool_bytes // options.lanes)
    pieces: list[Piece] = []
    pools: list[tuple[int, int]] = []  # part and number of the pool of each piece
    for number, (lane, part) in enumerate(zip(parts(lanes), of_parts, strict=True)):
        before = share * lane // lanes
        for unit in part:
            pieces += unit
            pools += [(number, before // share)] * len(unit)
            before += sum(blocks.all[block][1] for block, _ in unit)
    distinct = sorted(set(pools))
    order = permutation_within([distinct.index(pool) for pool in pools], len(distinct), key(0, 0, after=epoch_key))
    return [[pieces[i] for i in order if pools[i][0] == number] for number in range(lanes)]


def dealt(
    total: int, start: int, rank: int, world: int, batch_size: int, *, drop_last: bool = False, even: bool = True
) -> list[list[int]]:
    """The positions of each batch of a rank."""
    left = total - start
    if drop_last:
        left = left // (batch_size * world) * (batch_size * world)
    elif even:
        left = math.ceil(left / world) * world
    mine = [p % total for p in range(start, start + left) if p % world == rank]
    return [mine[k : k + batch_size] for k in range(0, len(mine), batch_size)]


def drawn(sizes: Sequence[int], weights: Sequence[float], stop: str) -> list[int]:
    """How many samples an epoch of a mixture draws from each dataset."""
    ratios = [n / weight for n, weight in zip(sizes, weights, strict=True)]
    scale = min(ratios) if stop == "first_exhausted" else max(ratios)
    return [max(1, round(scale * weight)) for weight in weights]


def turns(draws: Sequence[int], epoch_key: int) -> list[int]:
    """The dataset that each position draws from."""
    total = sum(draws)
    chunks = max(1, total // 1024)
    out: list[int] = []
    for chunk in range(chunks):
        counts = [n * (chunk + 1) // chunks - n * chunk // chunks for n in draws]
        labels = [dataset for dataset, count in enumerate(counts) for _ in range(count)]
        out += [labels[i] for i in permutation(len(labels), key(chunk, after=epoch_key))]
    return out


Drawn = tuple[int, int, int]  # the dataset, the key of its pass, the index in its view


def mixed(
    datasets: Sequence[tuple[Blocks, Sequence[int]]],
    draws: Sequence[int],
    epoch_key: int,
    shuffle: Options | None,
    *,
    one_after_the_other: bool = False,
) -> list[Drawn]:
    """The sample at each position. `shuffle` is None for an unshuffled epoch."""
    total, counts = sum(draws), [0] * len(datasets)
    sequences: dict[tuple[int, int], list[int]] = {}
    consecutive = [dataset for dataset, n in enumerate(draws) for _ in range(n)]
    out = []
    for dataset in consecutive if one_after_the_other else turns(draws, epoch_key):
        blocks, view = datasets[dataset]
        passed, index = divmod(counts[dataset], len(view))
        counts[dataset] += 1
        own = key(dataset, passed, after=epoch_key)
        if (dataset, passed) not in sequences:
            sequences[dataset, passed] = list(range(len(view)))
            if shuffle is not None:
                options = _share(shuffle, draws[dataset], total)
                sequences[dataset, passed] = shuffled(blocks, view, own, options)
        out.append((dataset, own, sequences[dataset, passed][index]))
    return out


def _share(options: Options, part: int, whole: int) -> Options:
    samples, pool = options.window_samples, options.pool_bytes
    return Options(
        max(1, options.window_bytes * part // whole),
        None if samples is None else max(1, samples * part // whole),
        options.unit_bytes,
        1,
        max(1, pool * part // whole) if pool else 0,
        options.lane_affinity,
    )


def drawn_by_weight(weights: Sequence[float], epoch_key: int) -> list[int]:
    """The indices in the view of the samples of an epoch, ascending."""
    n, largest, total = len(weights), max(weights), 0.0
    for weight in weights:
        total += weight / largest
    lengths = [round(weight / largest * (2.0**61 / total)) for weight in weights]
    distance = sum(lengths) // n
    lengths[lengths.index(max(lengths))] -= sum(lengths) % n
    first = distance * key(1, after=epoch_key) // 2**64
    counts, end = [0] * n, 0
    for index in permutation(n, key(0, after=epoch_key)):
        before, end = end, end + lengths[index]
        counts[index] = (end + first) // distance - (before + first) // distance
    return [index for index, count in enumerate(counts) for _ in range(count)]
