"""Decoding speed of each library, with one and two threads: the figures behind `recordio/images/decode.py`.

    python benchmarks/image_decoders.py FOLDER [--limit 400] [--rounds 5]

FOLDER holds JPEGs, at any depth. PNG and WebP copies of some of them are made in memory. Each figure is the median of
the rounds; the contenders take turns within a round, so that a slow moment of the machine affects all. The pictures of
a batch are kept until its end. The first row hashes the files, which certainly releases the GIL: its gain is the most
that the machine can give.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from recordio.images.decode import decode_image, decode_pil

Decoder = Callable[[bytes], Any]
BATCH = 64
FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


@dataclass
class Contender:
    name: str
    format: str
    decode: Decoder
    opencv_threads: int | None = None
    rates: dict[int, list[float]] = field(default_factory=dict)
    cpu: dict[int, list[float]] = field(default_factory=dict)


def by_opencv(data: bytes) -> Any:
    return cv2.imdecode(np.frombuffer(data, np.uint8), FLAGS)


def hash_many_times(data: bytes) -> None:
    for _ in range(20):
        hashlib.sha256(data).digest()


def by_pillow(data: bytes) -> Any:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def by_turbojpeg() -> list[Contender]:
    """PyTurboJPEG, if it and libturbojpeg are installed; the variable TURBOJPEG may name the library's file."""
    try:
        import turbojpeg  # type: ignore[import-untyped,unused-ignore]

        decoder = turbojpeg.TurboJPEG(os.environ.get("TURBOJPEG"))
        decode = partial(decoder.decode, pixel_format=turbojpeg.TJPF_RGB)
    except (ImportError, RuntimeError, OSError) as error:
        print(f"PyTurboJPEG is left out: {str(error).splitlines()[0]}\n")
        return []
    return [Contender("PyTurboJPEG", "jpeg", decode)]


def contenders() -> list[Contender]:
    ours = [Contender("recordio, numpy", name, partial(decode_image, mode="RGB")) for name in ("jpeg", "png", "webp")]
    grey = [Contender("recordio, numpy, grey", "jpeg", partial(decode_image, mode="L"))]
    pil = [Contender("recordio, PIL", "jpeg", partial(decode_pil, mode="RGB"))]
    opencv = [
        Contender(f"OpenCV, setNumThreads({threads})", name, by_opencv, threads)
        for name in ("jpeg", "png", "webp")
        for threads in (0, 2)
    ]
    pillow = [Contender("Pillow", name, by_pillow) for name in ("jpeg", "png", "webp")]
    jpeg = [Contender("simplejpeg", "jpeg", simplejpeg.decode_jpeg)]
    decoders = sorted(jpeg + by_turbojpeg() + opencv + pillow + ours + grey + pil, key=lambda c: c.format)
    return [Contender("hashlib, 20 times", "jpeg", hash_many_times), *decoders]


def encoded(pictures: Sequence[bytes], name: str) -> list[bytes]:
    """The pictures in another format. The slower formats get fewer, so that each pass takes about as long."""
    if name == "jpeg":
        return list(pictures)
    out = []
    for data in pictures[: max(1, len(pictures) // 4)]:
        buffer = BytesIO()
        Image.open(BytesIO(data)).convert("RGB").save(buffer, name.upper())
        out.append(buffer.getvalue())
    return out


def one_pass(contender: Contender, pictures: Sequence[bytes], threads: int) -> None:
    opencv_threads = cv2.getNumThreads()
    if contender.opencv_threads is not None:
        cv2.setNumThreads(contender.opencv_threads)
    gc.collect()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(contender.decode, pictures[:4]))
        wall, cpu = time.perf_counter(), time.process_time()
        for start in range(0, len(pictures), BATCH):
            batch = list(pool.map(contender.decode, pictures[start : start + BATCH]))
            del batch
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    cv2.setNumThreads(opencv_threads)
    contender.rates.setdefault(threads, []).append(len(pictures) / wall)
    contender.cpu.setdefault(threads, []).append(cpu / wall)


def longest_wait(contender: Contender, large: bytes) -> float:
    """The longest gap between runs of a thread that wakes every 0.5 ms, as a share of a call in another thread."""
    gaps = []
    with ThreadPoolExecutor(1) as pool:
        pool.submit(contender.decode, large).result()
        start = last = time.perf_counter()
        call = pool.submit(contender.decode, large)
        while not call.done():
            time.sleep(0.0005)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now
    return max(gaps) / (last - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    step = max(1, len(paths) // options.limit)
    pictures = [path.read_bytes() for path in paths[::step][: options.limit]]
    if not pictures:
        parser.error(f"no JPEG below {options.folder}")
    running = contenders()
    inputs = {name: encoded(pictures, name) for name in ("jpeg", "png", "webp")}
    large = BytesIO()
    Image.open(BytesIO(pictures[0])).convert("RGB").resize((4000, 3000)).save(large, "JPEG")
    larges = {name: encoded([large.getvalue()], name)[0] for name in inputs}
    for _ in range(options.rounds):
        for contender in running:
            for threads in (1, 2):
                one_pass(contender, inputs[contender.format], threads)
    versions = ", ".join(f"{name} {version(name)}" for name in ("simplejpeg", "opencv-python-headless", "pillow"))
    print(f"{len(pictures)} pictures, {options.rounds} rounds, CPython {platform.python_version()}, {versions}\n")
    print("| format | decoder | images/s, 1 thread | 2 threads | gain | CPUs used by 2 | longest wait for the GIL |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for contender in running:
        one, two = (statistics.median(contender.rates[threads]) for threads in (1, 2))
        busy = statistics.median(contender.cpu[2])
        wait = statistics.median(longest_wait(contender, larges[contender.format]) for _ in range(3))
        rates = f"{one:.0f} | {two:.0f} | x{two / one:.2f} | {busy:.2f} | {wait:.0%}"
        print(f"| {contender.format} | {contender.name} | {rates} |")


if __name__ == "__main__":
    main()
