"""Speed of image transforms on JPEG bytes in memory: the figures behind `recordio/transforms.py`.

    python benchmarks/image_transforms.py [FOLDER] [--limit 300] [--rounds 7]

FOLDER holds JPEGs, at any depth; default: $BENCH_DATA/imgs, or else synthetic pictures of noise at several scales.
The limits are simplejpeg and OpenCV alone, with reused memory and precomputed boxes. The contenders take turns within a
round, so that a slow moment of the machine affects all, and each figure is the median of the rounds. Every result is
copied into a batch, as a loader does. A second table is for pictures of 12 million pixels. In a third crops decode
the rows they need, beside the same ones with all rows: minima of CPU time, which other work changes least.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from measuring import Row, machine, say, show
from PIL import Image

from recordio.images import pixels as moves
from recordio.images.boxes import Box, random_box
from recordio.images.header import Header, image_size
from recordio.images.jpeg_rows import Rows
from recordio.transforms import (
    CenterCrop,
    Compose,
    Decode,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
)

SIDE, BATCH = 224, 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
Pixels = np.ndarray[Any, Any]
Transform = Callable[[bytes, np.random.Generator], Pixels]
Contenders = dict[str, Callable[[], Transform]]


class Bare:
    """Bare decoding, crop, resize and flip. One per thread."""

    def __init__(self, boxes: dict[bytes, Box], resize: int | None) -> None:
        self.boxes, self.resize = boxes, resize
        self.buffer = np.empty(1 << 26, np.uint8)
        self.small, self.flipped = (np.empty((SIDE, SIDE, 3), np.uint8) for _ in range(2))

    def __call__(self, data: bytes, rng: np.random.Generator) -> Pixels:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", buffer=self.buffer)
        if self.resize is None:
            return pixels[:SIDE, :SIDE]
        box = self.boxes[data]
        shrinks = box.height > SIDE and box.width > SIDE
        flag = self.resize if shrinks else cv2.INTER_LINEAR
        cv2.resize(box.of(pixels), (SIDE, SIDE), dst=self.small, interpolation=flag)
        if data[-3] & 1:  # as good as a coin
            return cv2.flip(self.small, 1, dst=self.flipped)
        return self.small


def by_pillow(data: bytes, rng: np.random.Generator) -> Pixels:
    """Like torchvision on PIL images."""
    picture = Image.open(BytesIO(data)).convert("RGB")
    top, left, height, width = random_box(picture.height, picture.width, SCALE, RATIO, rng)
    picture = picture.crop((left, top, left + width, top + height)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(picture)


def contenders(pictures: Sequence[bytes]) -> Contenders:
    rng = np.random.default_rng(0)
    boxes = {data: random_box(*image_size(data), SCALE, RATIO, rng) for data in pictures}
    train = Compose([RandomResizedCrop(SIDE), RandomHorizontalFlip()])
    plain = Compose([RandomResizedCrop(SIDE, antialias=False), RandomHorizontalFlip()])
    tensor = Compose([*train.transforms, ToTensor(), Normalize(MEAN, STD)])
    return {
        "limit: decode": partial(Bare, boxes, None),
        "limit: decode, INTER_LINEAR, flip": partial(Bare, boxes, cv2.INTER_LINEAR),
        "limit: decode, INTER_AREA, flip": partial(Bare, boxes, cv2.INTER_AREA),
        "recordio, antialias=False": lambda: plain,
        "recordio": lambda: train,
        "recordio, ToTensor and Normalize": lambda: tensor,
        "Pillow, as torchvision": lambda: by_pillow,
    }


def whole_contenders() -> Contenders:
    resize = Resize(256)
    full = Compose([Decode(), resize])
    return {"recordio, decoded in full": lambda: full, "recordio": lambda: resize}


def run(make: Callable[[], Transform], pictures: Sequence[bytes], seed: int) -> None:
    transform, rng = make(), np.random.default_rng(seed)
    batch: dict[Any, Pixels] = {}
    for k, data in enumerate(pictures):
        pixels = transform(data, rng)
        if pixels.shape not in batch:
            batch[pixels.shape] = np.empty((BATCH, *pixels.shape), pixels.dtype)
        batch[pixels.shape][k % BATCH] = pixels


def rate(make: Callable[[], Transform], pictures: Sequence[bytes], threads: int) -> float:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, [make] * threads, [pictures[:2]] * threads, range(threads)))
        start = time.perf_counter()
        list(pool.map(run, [make] * threads, [pictures[k::threads] for k in range(threads)], range(threads)))
        return len(pictures) / (time.perf_counter() - start)


def table(running: Contenders, pictures: Sequence[bytes], rounds: int) -> list[Row]:
    rates: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}, {len(pictures)} pictures")
        for name, make in running.items():
            for threads in (1, 2):
                rates.setdefault((name, threads), []).append(rate(make, pictures, threads))
    found = {key: statistics.median(values) for key, values in rates.items()}
    return [{"images/s of": name, "1 thread": found[name, 1], "2 threads": found[name, 2]} for name in running]


def rows_table(pictures: dict[str, list[bytes]], rounds: int) -> list[Row]:
    """CPU microseconds an image of crops, by how many rows are decoded."""
    crops = {
        f"RandomResizedCrop({SIDE})": RandomResizedCrop(SIDE),
        "the same, antialias=False": RandomResizedCrop(SIDE, antialias=False),
        f"RandomCrop({SIDE})": RandomCrop(SIDE),
        f"CenterCrop({SIDE})": CenterCrop(SIDE),
    }
    needed = moves.only_rows
    rows: list[Row] = []
    for kind, data in pictures.items():
        for name, crop in crops.items():
            best = dict.fromkeys(("all rows", "rows needed"), float("inf"))
            for _ in range(rounds):
                for which in best:
                    moves.only_rows = needed if which == "rows needed" else all_rows
                    rng, start = np.random.default_rng(0), time.thread_time()
                    for one in data:
                        crop(one, rng)
                    best[which] = min(best[which], (time.thread_time() - start) / len(data) * 1e6)
            rows.append({"pictures": kind, "CPU us an image of": name, **best})
    moves.only_rows = needed
    return rows


def all_rows(data: bytes, header: Header, *_: int) -> Rows:
    return Rows(data, 0, header.height)


def with_markers(data: bytes) -> bytes:
    """The same picture with a restart marker after each row of MCUs."""
    out = BytesIO()
    Image.open(BytesIO(data)).save(out, "JPEG", quality=88, restart_marker_rows=1)
    return out.getvalue()


def made_up(height: int, width: int, seed: int, grain: float = 0) -> bytes:
    """A picture with detail at every scale, as a JPEG of about 40 KB for 500 x 375 without grain."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 128, np.float32)
    for cells, strength in ((4, 60), (16, 40), (64, 20), (180, 8)):
        small = rng.normal(0, strength, (cells * height // 500 + 2, cells * width // 500 + 2, 3)).astype(np.float32)
        pixels += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    pixels += rng.normal(0, grain, (height, width, 1)).astype(np.float32) if grain else 0
    return bytes(simplejpeg.encode_jpeg(pixels.clip(0, 255).astype(np.uint8), 88, colorsubsampling="420"))


def load(folder: Path, limit: int) -> list[bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    step = max(1, len(paths) // limit)
    return [path.read_bytes() for path in paths[::step][:limit]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(os.environ.get("BENCH_DATA", "."), "imgs"))
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    pictures = load(options.folder, options.limit) or [made_up(375, 500, seed) for seed in range(options.limit)]
    large = [made_up(3000, 4000, seed) for seed in range(2)] * 4
    say(machine(("simplejpeg", "opencv-python-headless", "pillow", "numpy")))
    title = f"RandomResizedCrop({SIDE}), RandomHorizontalFlip()"
    show(table(contenders(pictures), pictures, options.rounds), options.json, title)
    show(
        table(whole_contenders(), large, max(1, options.rounds // 2)), options.json, "Resize(256) of 4000 x 3000 pixels"
    )
    grainy = [made_up(3000, 4000, seed, grain=3) for seed in range(4)] * 8
    kinds = {"as above": pictures[:60], "4000 x 3000": grainy, "with markers": [with_markers(one) for one in grainy]}
    show(rows_table(kinds, max(1, options.rounds // 2)), options.json, "rows decoded")


if __name__ == "__main__":
    main()
