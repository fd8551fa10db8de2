"""Pixels that are padding or cut off in batches of images of many aspects, and what finding the aspects takes.

    python benchmarks/aspects.py [--samples 10000] [--nbytes 65536] [--rounds 3] [--json]

    padded     every image scaled as for torchvision's detectors (shorter side 800, longer 1333 at most), and padded to
               the largest height and width of its batch of 32
    cropped    every image cropped in the middle to the aspect of its batch: a square, or the nearest of the nine sizes
               of about a million pixels that SDXL trains at most

The aspects are made up: cameras' 3:2 and telephones' 4:3 and 16:9, a third of them upright, squares, and a fifth
cropped to anything from 1:2.5 to 2.5:1. `grouped` is the rule of torchvision's detection reference: a random order,
collected into groups by aspect, a batch as soon as a group has 32. `small window` mixes an eighth of the dataset at a
time. The files are headers with a thumbnail's 8 KB of EXIF and noise behind: nothing decodes them.
The second table plans epochs of 200,000 such images with `buckets`; the third has the seconds that making a loader
takes, the files in the system's cache, or dropped from it.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Row, machine, say, scratch, show

import recordio
from recordio.format.page import Indices
from recordio.images.aspects import aspects, aspects_of, checked_buckets, nearest
from recordio.reader.order.binned import Binned
from recordio.reader.order.bins import BinRule
from recordio.reader.order.blocks import Blocks
from recordio.reader.order.ranks import RankShare, window_plans
from recordio.reader.order.shuffle import OrderOptions, order_of

BATCH = 32
SIZES = [(1024, 1024), (896, 1152), (1152, 896), (832, 1216), (1216, 832), (768, 1344), (1344, 768), (640, 1536),
         (1536, 640)]  # fmt: skip


def photographs(samples: int, rng: np.random.Generator) -> Indices:
    """int64 (n, 2): heights and widths."""
    kinds = np.array([(3000, 4000), (2000, 3000), (2160, 3840), (1080, 1080)])
    found = kinds[rng.choice(4, samples, p=[0.45, 0.35, 0.1, 0.1])]
    upright = rng.random(samples) < 1 / 3
    found[upright] = found[upright, ::-1]
    cropped = rng.random(samples) < 0.2
    ratio = 2.5 ** rng.uniform(-1, 1, samples)
    found[cropped, 1] = (found[cropped, 0] * ratio[cropped]).astype(np.int64)
    return found


def padding(batches: list[Indices], sizes: Indices) -> float:
    scale = np.minimum(800 / sizes.min(1), 1333 / sizes.max(1))
    scaled = np.rint(sizes * scale[:, None])
    held = sum(len(batch) * scaled[batch].max(0).prod() for batch in batches)
    return 1 - sum(scaled[batch].prod(1).sum() for batch in batches) / held


def cut_off(sizes: Indices, buckets: Any) -> float:
    """The share of an image that is not in its crop, on average."""
    checked = checked_buckets(buckets)
    own = aspects(sizes[:, 0], sizes[:, 1])
    ratio = own / aspects_of(checked)[nearest(own, checked)]
    return float(1 - np.minimum(ratio, 1 / ratio).mean())


def grouped(sizes: Indices, rng: np.random.Generator) -> list[Indices]:
    group = np.searchsorted(2 ** np.linspace(-1, 1, 7), sizes[:, 1] / sizes[:, 0])
    order = rng.permutation(len(sizes))
    return [
        own[at : at + BATCH] for k in range(8) for own in [order[group[order] == k]] for at in range(0, len(own), BATCH)
    ]


def of_loader(ds: recordio.ShardDataset, seed: int, small: bool) -> list[Indices]:
    window = ds.store.content_nbytes // 8 if small else None
    loader = recordio.DataLoader(ds, BATCH, shuffle=True, seed=seed, bucket_by="image", window_bytes=window)
    return [batch["number"] for batch in loader]


def wasted(ds: recordio.ShardDataset, sizes: Indices, rounds: int) -> list[Row]:
    found: dict[str, list[float]] = {}
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(sizes))
        ways = {
            "padded, random": [order[at : at + BATCH] for at in range(0, len(order), BATCH)],
            "padded, grouped": grouped(sizes, rng),
            "padded, recordio": of_loader(ds, seed, small=False),
            "padded, recordio, small window": of_loader(ds, seed, small=True),
        }
        for name, batches in ways.items():
            found.setdefault(name, []).append(padding(batches, sizes))
    found["cropped to a square"] = [cut_off(sizes, [(1, 1)])]
    found["cropped to one of nine"] = [cut_off(sizes, SIZES)]
    return [{"batches": name, "wasted %": round(100 * float(np.mean(shares)), 2)} for name, shares in found.items()]


def windows(nbytes: int) -> list[Row]:
    """How full the batches of nine sizes are, and what one of four ranks reads: planned, of 200,000 images."""
    lengths = photographs(200_000, np.random.default_rng(0))
    own, buckets = aspects(lengths[:, 0], lengths[:, 1]), checked_buckets(SIZES)
    own = aspects_of(buckets)[nearest(own, buckets)]
    samples = (1 << 20) // nbytes
    count = len(own) // samples
    blocks = Blocks(np.arange(count + 1) * samples, np.full(count, 1 << 20), np.linspace(0, count, 21).astype(np.int64))
    rows: list[Row] = []
    for given in (
        {},
        {"window_bytes": 1 << 30},
        {"window_samples": 28_800},
        {"window_samples": 28_800, "lanes": 4},
        {"window_samples": 115_200, "lanes": 4},
    ):
        options = OrderOptions(True, **given)
        order = order_of(blocks, range(count * samples), options, 7)
        every, full = (
            Binned(order, own, BinRule("counted", BATCH, only_full=only, equal=True), True, 7) for only in (False, True)
        )
        share = RankShare(rank=1, world=4, start=0, stop=len(every))
        rows.append(
            {"window": ", ".join(f"{name}={value}" for name, value in given.items()) or "default"}
            | {"batches": len(every), "full %": round(100 * len(full) / len(every), 1)}
            | {"dropped with drop_last %": round(100 * full.counts.dropped / (count * samples), 1)}
            | {"blocks read %": round(100 * sum(len(one.blocks) for one in window_plans(every, share)) / count)}
        )
    return rows


def drop(folder: Path) -> None:
    """Drops the files from the system's cache."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def starts(folder: Path, rounds: int) -> list[Row]:
    ways: dict[str, tuple[str, Any]] = {
        "image": ("image", "first"),
        'image, verify="never"': ("image", "never"),
        "integer": ("width", "first"),
    }
    found: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for cold in (False, True):
            for name, (field, verify) in ways.items():
                if cold:
                    drop(folder)
                else:
                    for path in folder.iterdir():
                        path.read_bytes()
                ds = recordio.ShardDataset(folder, verify=verify)
                wall, cpu = time.perf_counter(), time.process_time()
                recordio.DataLoader(ds, BATCH, shuffle=True, bucket_by=field)
                times = time.perf_counter() - wall, time.process_time() - cpu
                found.setdefault((name, cold), []).append(times)
                del ds
    return [
        {"bucket_by": name, "files": "dropped" if cold else "cached"}
        | {unit: round(value, 3) for unit, value in zip(("s", "CPU s"), np.min(times, axis=0).tolist(), strict=True)}
        for (name, cold), times in found.items()
    ]


def written(folder: Path, sizes: Indices, nbytes: int) -> None:
    schema = {"image": recordio.Image(), "width": recordio.Scalar("int32"), "number": recordio.Scalar("int64")}
    noise = np.random.default_rng(0).bytes(2 * nbytes)
    exif = b"\xff\xe1\x20\x00" + bytes(0x2000 - 2)
    with recordio.DatasetWriter(folder, schema, compression=None) as writer:
        for number, (height, width) in enumerate(sizes.tolist()):
            frame = b"\xff\xc0\x00\x11\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + bytes(10)
            start = number * 7919 % nbytes
            data = b"\xff\xd8" + exif + frame + b"\xff\xda\x00\x0c" + bytes(10) + noise[start : start + nbytes]
            writer.write({"image": data, "width": width * 1024 // height, "number": number})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--nbytes", type=int, default=65_536)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    say(machine(("numpy",)))
    sizes = photographs(options.samples, np.random.default_rng(0))
    with scratch(None) as folder:
        written(folder / "photos", sizes, options.nbytes)
        ds = recordio.ShardDataset(folder / "photos", fields=["number"])
        show(wasted(ds, sizes, options.rounds), options.json)
        show(windows(options.nbytes + 9000), options.json, "Batches of nine sizes, and what one of four ranks reads")
        show(starts(folder / "photos", options.rounds), options.json, "What making a loader takes")


if __name__ == "__main__":
    main()
