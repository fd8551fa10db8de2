"""The orders in which other loaders deliver an epoch, simulated from their sources and documentation.

Each function returns the sample numbers of an epoch, in the order of one stream (a node, and one worker where workers
have streams of their own), with the peer's defaults. Docstrings state choices that a peer leaves to its user, and their
source. `holds` is the number of bytes held at a time, in memory or in a disk cache. No peer is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
MIB = 1 << 20


@dataclass(frozen=True)
class Data:
    """A dataset sorted by class: equal classes, samples of equal size."""

    name: str
    samples: int
    classes: int
    nbytes: int  # of a sample


@dataclass(frozen=True)
class Peer:
    name: str
    order: Callable[[Data, int, np.random.Generator], Indices]  # the data, the batch size, a generator
    holds: Callable[[Data, int], float]


def shards(data: Data, nbytes: float, most: int | None = None) -> Indices:
    """The first sample of each file of `nbytes` bytes and at most `most` samples; and the end."""
    size = min(max(1, int(nbytes) // data.nbytes), most or data.samples)
    return np.append(np.arange(0, data.samples, size), data.samples)


def concatenated(cuts: Indices, order: Indices) -> Indices:
    """The samples of the files, in this order."""
    return np.concatenate([np.arange(cuts[k], cuts[k + 1]) for k in order.tolist()])


def mix_within(stream: Indices, cuts: list[int], draw: np.random.Generator) -> Indices:
    """Permutes each piece of the stream in place."""
    for begin, end in pairwise(cuts):
        draw.shuffle(stream[begin:end])
    return stream


def buffered(stream: Indices, size: int, draw: np.random.Generator) -> Indices:
    """A shuffle buffer: `size` items wait, one of them goes out by chance, and the stream's next takes its slot.

    Item t that goes out is what came last into the slot that is drawn at t. At the end the rest goes out mixed.
    """
    n = len(stream)
    if n <= size:
        return draw.permutation(stream)
    slots = draw.integers(0, size, n - size).astype(np.uint16 if size <= 1 << 16 else np.int64)
    times = np.argsort(slots, kind="stable")
    same = np.zeros(len(times), bool)
    same[1:] = slots[times[1:]] == slots[times[:-1]]
    source = slots.astype(np.int64)  # the first item that leaves a slot is one of those that filled the buffer
    later = np.flatnonzero(same)
    source[times[later]] = times[later - 1] + size
    left = np.ones(n, bool)
    left[source] = False
    return np.concatenate([stream[source], draw.permutation(stream[left])])


def uniform(data: Data, batch: int, draw: np.random.Generator) -> Indices:
    """Every permutation equally likely, or nearly.

    torch's RandomSampler (torch.randperm); Grain's `shuffle` ("global shuffle transformation": index_shuffle permutes
    the index); the map-style `shuffle` of datasets; FFCV's OrderOption.RANDOM; Lance behind torch's sampler.
    """
    return draw.permutation(data.samples)


def streaming_py1e(data: Data, batch: int, draw: np.random.Generator) -> Indices:
    """MosaicML Streaming, the default (`shuffle_algo="py1e"`), shards of 64 MiB (MDSWriter's size_limit, 1 << 26).

    Shards are permuted; each sample moves by a uniform draw so that those of a shard spread over about
    shuffle_block_size samples: max(4,000,000 / canonical nodes, 1 << 18), and there is one canonical node a node
    (streaming/base/shuffle/py1e.py, dataset.py `_set_shuffle_block_size`).
    """
    cuts = shards(data, 64 * MIB)
    order = draw.permutation(len(cuts) - 1)
    stream = mix_within(concatenated(cuts, order), np.cumsum([0, *np.diff(cuts)[order]]).tolist(), draw)
    sizes = np.diff(cuts)[order]
    begins = np.cumsum(sizes) - sizes
    cutoff = np.maximum(0, (draw.integers(3_000_000, 5_000_000, len(sizes)) - sizes) / 2)
    low, high = np.maximum(-cutoff, -begins), np.minimum(cutoff, data.samples - begins - sizes)
    place = np.arange(data.samples) + draw.uniform(np.repeat(low, sizes), np.repeat(high, sizes))
    return stream[np.argsort(place)]


def streaming_py1br(data: Data, batch: int, draw: np.random.Generator) -> Indices:
    """Streaming's "py1br": permuted shards, then a permutation within blocks of about shuffle_block_size samples.

    A block has 0.75 to 1.25 of that size, and the first begins up to 0.75 of it before the first sample
    (streaming/base/shuffle/py1br.py).
    """
    cuts = shards(data, 64 * MIB)
    stream = concatenated(cuts, draw.permutation(len(cuts) - 1))
    ends = draw.integers(3_000_000, 5_000_000, 2 + data.samples // 3_000_000).cumsum() - draw.integers(0, 3_000_000)
    return mix_within(stream, [0, *ends[ends < data.samples].tolist(), data.samples], draw)


def streaming_py1s(data: Data, batch: int, draw: np.random.Generator) -> Indices:
    """Streaming's "py1s": permuted shards, a permutation within each, 64 canonical nodes that take turns on one node.

    (streaming/base/shuffle/py1s.py; dataset.py: "64 * world.num_nodes" for py1s; partition/orig.py transposes them.)
    """
    cuts = shards(data, 64 * MIB)
    order = draw.permutation(len(cuts) - 1)
    nodes = np.arange(65) * data.samples // 64
    ends = np.union1d(np.cumsum([0, *np.diff(cuts)[order]]), nodes)  # a shard is cut where a canonical node ends
    stream = mix_within(concatenated(cuts, order), ends.tolist(), draw)
    turns = np.concatenate([np.arange(count) for count in np.diff(nodes)])
    return stream[np.argsort(turns, kind="stable")]


def litdata(data: Data, batch: int, draw: np.random.Generator) -> Indices:
    """LitData on local disks and object stores: FullShuffle, chunks of 64 MB (README: "Default is 64MB").

    "FullShuffle shuffles the chunks and associates them to the ranks"; the samples of a chunk are permuted
    (src/litdata/streaming/shuffle.py). A batch comes from one worker, which reads one chunk after the other.
    """
    cuts = shards(data, 64e6)
    order = draw.permutation(len(cuts) - 1)
    return mix_within(concatenated(cuts, order), np.cumsum([0, *np.diff(cuts)[order]]).tolist(), draw)


def webdataset(data: Data, batch: int, draw: np.random.Generator) -> Indices:
    """WebDataset as its documents have it: shardshuffle=100 and .shuffle(1000), shards of 1 GB or 100,000 samples.

    Both are shuffle buffers (src/webdataset/filters.py `_shuffle`, bufsize=1000; compat.py makes shardshuffle=True 100;
    ShardWriter's maxcount is 100,000, and its documents have shards of about 1 GB). A worker's stream.
    """
    cuts = shards(data, 1e9, 100_000)
    return buffered(concatenated(cuts, buffered(np.arange(len(cuts) - 1), 100, draw)), 1000, draw)


def hugging_face(data: Data, batch: int, draw: np.random.Generator) -> Indices:
    """datasets' IterableDataset.shuffle, version 5: buffer_size=1000, max_buffer_input_shards=10, shards of 500 MB.

    "it fills the buffer using up to `max_buffer_input_shards` shards at a time and also does shuffle the order of the
    shards" (src/datasets/iterable_dataset.py; config.MAX_SHARD_SIZE). The ten take turns, a sample each.
    """
    cuts = shards(data, 500e6)
    order = draw.permutation(len(cuts) - 1)
    parts = [concatenated(cuts, part) for part in np.array_split(order, min(10, len(order)))]
    turns = np.concatenate([np.arange(len(part)) for part in parts])
    return buffered(np.concatenate(parts)[np.argsort(turns, kind="stable")], 1000, draw)


def tf_data(data: Data, batch: int, draw: np.random.Generator) -> Indices:
    """tf.data's Dataset.shuffle(1000) alone (it has no default; 1,000 is its documents' own example)."""
    return buffered(np.arange(data.samples), 1000, draw)


def tfds(data: Data, batch: int, draw: np.random.Generator) -> Indices:
    """TensorFlow Datasets: shuffle_files=True, 1,024 files as for ImageNet, then tf.data's shuffle(1000).

    Files in random order, 16 open at a time, 16 samples of each in turn (tfds.ReadConfig: interleave_cycle_length 16,
    interleave_block_length 16). Its own preparation of a dataset mixes the samples before; here they are sorted.
    """
    cuts = np.arange(1025) * data.samples // 1024
    waiting = draw.permutation(1024).tolist()
    open_files = [[int(cuts[k]), int(cuts[k + 1])] for k in (waiting.pop() for _ in range(16))]
    begins: list[int] = []
    ends: list[int] = []
    while open_files:
        for file in list(open_files):
            begins.append(file[0])
            file[0] = min(file[0] + 16, file[1])
            ends.append(file[0])
            if file[0] == file[1]:
                if waiting:
                    k = waiting.pop()
                    file[:] = int(cuts[k]), int(cuts[k + 1])
                else:
                    open_files.remove(file)
    counts = np.subtract(ends, begins)
    stream = np.repeat(np.asarray(begins) - (np.cumsum(counts) - counts), counts) + np.arange(data.samples)
    return buffered(stream, 1000, draw)


def ffcv(data: Data, batch: int, draw: np.random.Generator) -> Indices:
    """FFCV's OrderOption.QUASI_RANDOM: pages of 8 MiB (DatasetWriter's page_size), 2 * batch_size of them open.

    Each sample comes from a random one of the open pages, in the page's own random order; a page that is through makes
    room for the next of a random order (ffcv/traversal_order/quasi_random.py).
    """
    cuts = shards(data, 8 * MIB)
    pages = [draw.permutation(np.arange(a, b)).tolist() for a, b in pairwise(cuts)]
    waiting = draw.permutation(len(pages)).tolist()
    current = [pages[waiting.pop()] for _ in range(min(2 * batch, len(waiting)))]
    out: list[int] = []
    for chance in draw.random(data.samples).tolist():
        at = int(chance * len(current))
        out.append(current[at].pop())
        if not current[at]:
            if waiting:
                current[at] = pages[waiting.pop()]
            else:
                current.pop(at)
    return np.array(out, np.int64)


def lance(data: Data, batch: int, draw: np.random.Generator) -> Indices:
    """Lance's ShardedBatchSampler(randomize=True): "the order in which batches are loaded is randomized"."""
    cuts = np.append(np.arange(0, data.samples, batch), data.samples)
    return concatenated(cuts, draw.permutation(len(cuts) - 1))


def _block(data: Data, batch: int) -> float:
    return float(min(4_000_000, data.samples) * data.nbytes)


def _buffer(data: Data, batch: int) -> float:
    return 1000.0 * data.nbytes


PEERS = (
    Peer(
        "uniform: torch RandomSampler, Grain, FFCV RANDOM", uniform, lambda data, _: float(data.samples * data.nbytes)
    ),
    Peer("Streaming py1e, its default", streaming_py1e, _block),
    Peer("Streaming py1br", streaming_py1br, _block),
    Peer("Streaming py1s", streaming_py1s, lambda data, _: 64.0 * 64 * MIB),
    Peer("FFCV QUASI_RANDOM", ffcv, lambda data, batch: min(2.0 * batch * 8 * MIB, data.samples * data.nbytes)),
    Peer("TFDS: 16 files, shuffle(1000)", tfds, _buffer),
    Peer("HF datasets, streaming", hugging_face, _buffer),
    Peer("LitData", litdata, lambda data, _: 64e6),
    Peer("WebDataset shuffle(1000)", webdataset, _buffer),
    Peer("tf.data shuffle(1000)", tf_data, _buffer),
    Peer("Lance ShardedBatchSampler", lance, lambda data, batch: float(batch * data.nbytes)),
)
