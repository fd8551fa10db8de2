"""docs/order.md in plain Python: lists of integers, whole epochs at once, no code of the reader.

Written from the document alone, so that tests find where code and document differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

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


def windows(blocks: Blocks, view: Sequence[int], epoch_key: int, options: Options) -> list[list[int]]:
    """The blocks of each window."""
    members = selection_of(blocks, view)
    weights = [weight for _, weight in blocks.all]
    units: list[list[int]] = []
    first = 0
    for shard in blocks.shards:
        unit: dict[int, list[int]] = {}
        before = 0
        for block in range(first, first + len(shard)):
            if members[block]:
                unit.setdefault(before // options.unit_bytes, []).append(block)
                before += weights[block]
        units += unit.values()
        first += len(shard)
    mixed = [block for u in permutation(len(units), key(0, after=epoch_key)) for block in units[u]]
    if options.window_samples is not None:
        weights = [len(indices) for indices in members]
        budget = options.window_samples
    elif sum(weights[block] for block in mixed) <= options.window_bytes:
        budget = options.window_bytes
    else:
        budget = max(1, options.window_bytes // 2)
    found: dict[int, list[int]] = {}
    before = 0
    for block in mixed:
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
    members, mixed = selection_of(blocks, view), windows(blocks, view, epoch_key, options)
    lanes = options.lanes if len(mixed) > 1 else 1
    out: dict[int, int] = {}
    start = 0
    for number, window in enumerate(mixed):
        indices = [index for block in window for index in members[block]]
        n, k = len(indices), key(number + 1, after=epoch_key)
        low, top, at = max(1, bits_of(n)), bits_of(lanes), 0
        for part, lane in enumerate(parts(lanes)):
            positions = [p for p in range(start, start + n) if p % lanes == lane]
            words = []
            for i in range(at, at + len(positions)):
                hashed = mix((k + GAMMA * (i + 1)) % WORD) // 2**top + part * 2 ** (64 - top) * (lanes > 1)
                words.append(hashed // 2**low * 2**low + i)
            for position, one in zip(positions, sorted(words), strict=True):
                out[position] = indices[one % 2**low]
            at += len(positions)
        start += n
    return [out[position] for position in range(len(view))]


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
    samples = options.window_samples
    return Options(
        max(1, options.window_bytes * part // whole),
        None if samples is None else max(1, samples * part // whole),
        options.unit_bytes,
        1,
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
