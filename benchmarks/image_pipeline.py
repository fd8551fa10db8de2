"""Image pipelines on two threads: JPEGs to shuffled uint8 batches of 224 x 224 x 3, cropped and flipped.

    python benchmarks/image_pipeline.py FOLDER [--environments ENVS] [--limit 2000] [--rounds 3] [--large 120]

FOLDER holds JPEGs in folders of classes. The peers are hard to install side by side: ENVS is a folder of environments,
and each of `ffcv`, `dali`, `tf` and `spdl` in it (ENVS/ffcv/bin/python) is taken for that peer. Missing ones are named.
Every contender runs in a process of its own in each round, the contenders in turns: one epoch to warm up, then the
better of two. A second table is for pictures of 12 million pixels, made of the first ones, enlarged, with noise,
in batches of 8.

    pip install ffcv          needs a compiler, libopencv-dev, libturbojpeg0-dev, pkg-config; torch
    pip install nvidia-dali-cuda120
    pip install tensorflow-cpu
    pip install spdl spdl-io      needs the libraries of FFmpeg
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Row, answer, in_process, median, say, scratch, show

BATCH, LARGE_BATCH, SIZE, THREADS = 64, 8, 224, 2  # the large ones are few
LARGE = 4000, 3000
ENVIRONMENTS = {"ffcv": "ffcv", "dali": "dali", "tf.data": "tf", "spdl": "spdl"}
PACKAGES = {
    "recordio": ("recordio-shards", "simplejpeg", "opencv-python-headless"),
    "limit": ("simplejpeg", "opencv-python-headless"),
    "ffcv": ("ffcv", "torch", "numba"),
    "dali": ("nvidia-dali-cuda120",),
    "tf.data": ("tensorflow-cpu",),
    "spdl": ("spdl", "spdl-io"),
}
Epoch = Callable[[], int]


def jpegs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))


def box(rng: random.Random, width: int, height: int) -> tuple[int, int, int, int]:
    """RandomResizedCrop's box: (x, y, width, height)."""
    for _ in range(10):
        area = width * height * rng.uniform(0.08, 1.0)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return rng.randint(0, width - w), rng.randint(0, height - h), w, h
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side


def limit(folder: Path, _out: Path, _batch: int) -> Epoch:
    """Whole pictures decoded from memory, cropped, resized bilinearly, flipped: no reader at all."""
    import cv2
    import simplejpeg

    cv2.setNumThreads(0)
    files = [path.read_bytes() for path in jpegs(folder)]
    out = np.empty((len(files), SIZE, SIZE, 3), np.uint8)

    def one(number: int) -> None:
        rng = random.Random(number)
        picture = simplejpeg.decode_jpeg(files[number])
        x, y, w, h = box(rng, picture.shape[1], picture.shape[0])
        cv2.resize(picture[y : y + h, x : x + w], (SIZE, SIZE), dst=out[number], interpolation=cv2.INTER_LINEAR)
        if rng.random() < 0.5:
            out[number] = out[number][:, ::-1]

    def epoch() -> int:
        with ThreadPoolExecutor(THREADS) as threads:
            return sum(1 for _ in threads.map(one, range(len(files))))

    return epoch


def recordio(folder: Path, out: Path, batch: int, **options: Any) -> Epoch:
    import recordio
    from recordio import transforms as steps

    path = out / "pictures.rio"
    if not path.exists():
        recordio.convert(folder, path)
    crop = steps.Compose([steps.RandomResizedCrop(SIZE, **options), steps.RandomHorizontalFlip()])
    dataset = recordio.ShardDataset(path).transform(image=crop)
    loader = recordio.DataLoader(dataset, batch, shuffle=True, num_workers=THREADS, worker_type="thread")
    return lambda: sum(len(batch["label"]) for batch in loader)


def ffcv(folder: Path, out: Path, batch: int) -> Epoch:
    from ffcv.fields import IntField, RGBImageField
    from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import RandomHorizontalFlip, Squeeze, ToTensor
    from ffcv.writer import DatasetWriter
    from PIL import Image

    files = jpegs(folder)

    class Pictures:
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            return Image.open(files[index]).convert("RGB"), index % 10

    path = out / "pictures.beton"
    if not path.exists():
        fields = {"image": RGBImageField(write_mode="jpg", jpeg_quality=92), "label": IntField()}
        DatasetWriter(str(path), fields, num_workers=THREADS).from_indexed_dataset(Pictures())
    image = [RandomResizedCropRGBImageDecoder((SIZE, SIZE)), RandomHorizontalFlip(), ToTensor()]
    loader = Loader(
        str(path),
        batch_size=batch,
        num_workers=THREADS,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=False,
        pipelines={"image": image, "label": [IntDecoder(), ToTensor(), Squeeze()]},
    )
    return lambda: sum(len(labels) for _, labels in loader)


def dali(folder: Path, _out: Path, batch: int) -> Epoch:
    from nvidia.dali import fn, pipeline_def, types

    n = len(jpegs(folder))

    @pipeline_def(batch_size=batch, num_threads=THREADS, device_id=None, prefetch_queue_depth=2)
    def pipe() -> Any:
        files, labels = fn.readers.file(file_root=str(folder), random_shuffle=True, initial_fill=1024, name="r")
        crops = fn.decoders.image_random_crop(files, device="cpu", output_type=types.RGB, random_area=[0.08, 1.0])
        crops = fn.resize(crops, size=[SIZE, SIZE], interp_type=types.INTERP_LINEAR, antialias=False)
        return fn.flip(crops, horizontal=fn.random.coin_flip()), labels

    running = pipe()
    running.build()

    def epoch() -> int:  # of whole batches: it goes on over the end
        got = 0
        while got < n:
            pictures, _ = running.run()
            got += pictures.as_array().shape[0]
        return got

    return epoch


def tf_data(folder: Path, out: Path, batch: int, antialias: bool = False) -> Epoch:
    import tensorflow as tf

    path = str(out / "pictures.tfrecord")
    if not os.path.exists(path):
        with tf.io.TFRecordWriter(path) as writer:
            for one in jpegs(folder):
                writer.write(one.read_bytes())

    def decoded(jpeg: Any) -> Any:
        shape, whole = tf.io.extract_jpeg_shape(jpeg), tf.zeros([0, 0, 4], tf.float32)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            shape, whole, area_range=(0.08, 1.0), use_image_if_no_bounding_boxes=True
        )
        (y, x, _), (h, w, _) = tf.unstack(begin), tf.unstack(size)
        crop = tf.image.decode_and_crop_jpeg(jpeg, tf.stack([y, x, h, w]), channels=3)
        crop = tf.image.resize(crop, [SIZE, SIZE], antialias=antialias)
        return tf.image.random_flip_left_right(tf.cast(crop, tf.uint8))

    data = tf.data.TFRecordDataset(path).shuffle(1024).map(decoded, num_parallel_calls=THREADS).batch(batch).prefetch(2)
    return lambda: sum(len(pictures) for pictures in data.as_numpy_iterator())


def spdl(folder: Path, _out: Path, batch: int) -> Epoch:
    import spdl.io
    from spdl.pipeline import PipelineBuilder

    files, rng = jpegs(folder), random.Random(0)

    def cropped(path: Path) -> Any:
        packets = spdl.io.demux_image(str(path))
        x, y, w, h = box(rng, packets.width, packets.height)
        flip = "hflip," if rng.random() < 0.5 else ""
        steps = f"crop={w}:{h}:{x}:{y},scale={SIZE}:{SIZE}:flags=bilinear,{flip}format=pix_fmts=rgb24"
        return spdl.io.to_numpy(spdl.io.convert_frames(spdl.io.decode_packets(packets, filter_desc=steps)))

    def epoch() -> int:
        order = rng.sample(files, len(files))
        builder = PipelineBuilder().add_source(order).pipe(cropped, concurrency=THREADS).aggregate(batch)
        pipeline = builder.pipe(np.stack).add_sink(2).build(num_threads=THREADS)
        with pipeline.auto_stop():
            return sum(len(pictures) for pictures in pipeline)

    return epoch


CONTENDERS: dict[str, tuple[str, Callable[..., Epoch], Row]] = {
    "recordio": ("recordio", recordio, {}),
    "recordio, antialias=False": ("recordio", recordio, {"antialias": False}),
    "FFCV": ("ffcv", ffcv, {}),
    "DALI on the CPU, no antialiasing": ("dali", dali, {}),
    "tf.data": ("tf.data", tf_data, {"antialias": True}),
    "tf.data, no antialiasing": ("tf.data", tf_data, {}),
    "SPDL": ("spdl", spdl, {}),
    "whole pictures decoded, cropped and resized, no reader": ("limit", limit, {}),
}


def run(request: Row) -> Row:
    """The better of two epochs, after one to warm up."""
    package, make, options = CONTENDERS[request["contender"]]
    epoch = make(Path(request["folder"]), Path(request["out"]), request["batch"], **options)
    epoch()
    found: list[tuple[float, float]] = []
    for _ in range(2):
        began, cpu = time.perf_counter(), used()
        got = epoch()
        if got < request["n"]:
            raise ValueError(f"an epoch gave {got} of {request['n']} pictures")
        found.append((got / (time.perf_counter() - began), (used() - cpu) / got * 1e6))
    rate, cpu = max(found)
    return {"images/s": rate, "CPU µs": cpu, "versions": list(map(versioned, PACKAGES[package]))}


def used() -> float:
    """Seconds of CPU, of this process."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


def versioned(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


def compared(title: str, folder: Path, out: Path, pythons: dict[str, str], rounds: int, batch: int) -> None:
    found: dict[str, list[Row]] = {name: [] for name, (package, *_) in CONTENDERS.items() if package in pythons}
    n = len(jpegs(folder))
    for number in range(rounds):
        order = list(found)
        for name in order[number % len(order) :] + order[: number % len(order)]:
            request = {"contender": name, "folder": str(folder), "out": str(out), "n": n, "batch": batch}
            row = in_process(__file__, request, timeout=600, python=pythons[CONTENDERS[name][0]])
            say(f"  round {number + 1}: {name}: {row.get('failed') or round(row['images/s'])}")
            found[name].append(row)
    rows: list[Row] = []
    versions: list[str] = []
    for name, each in found.items():
        failed = next((row["failed"] for row in each if "failed" in row), "")
        rates = [row["images/s"] for row in each if "failed" not in row]
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}" if rates else failed
        cpu = median(row.get("CPU µs") for row in each)
        rows.append({"contender": name, "images/s": median(rates), "rounds": spread, "CPU µs an image": cpu})
        versions += [one for row in each[:1] for one in row.get("versions", [])]
    show(rows, as_json=False, title=f"{title}: {n} pictures, {rounds} rounds. {', '.join(dict.fromkeys(versions))}")


def chosen(files: Sequence[Path], count: int, out: Path) -> Path:
    """A folder of so many of them, drawn at random, in their classes."""
    for path in random.Random(1).sample(files, min(count, len(files))):
        to = out / path.parent.name / path.name
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(path.read_bytes())
    return out


def enlarged(files: Sequence[Path], count: int, out: Path) -> Path:
    """So many of them at 12 million pixels, about 2 MB each."""
    from PIL import Image

    noise = np.random.default_rng(0)
    for number, path in enumerate(files[:: max(1, len(files) // count)][:count]):
        to = out / f"class_{number % 10}" / f"{number:04}.jpg"
        to.parent.mkdir(parents=True, exist_ok=True)
        picture = np.asarray(Image.open(path).convert("RGB").resize(LARGE, Image.Resampling.BICUBIC), np.int16)
        grain = noise.normal(0, 6, (LARGE[1], LARGE[0], 1)).astype(np.int16)
        Image.fromarray(np.clip(picture + grain, 0, 255).astype(np.uint8)).save(to, quality=80)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--environments", type=Path)
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--large", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        answer(run(options.one))
    if options.folder is None or not (files := jpegs(options.folder)):
        parser.error("name a folder with JPEGs")
    pythons = {"recordio": sys.executable, "limit": sys.executable}
    for name, folder in ENVIRONMENTS.items():
        python = (options.environments or Path()) / folder / "bin" / "python"
        if options.environments and python.exists():
            pythons[name] = str(python)
        else:
            say(f"left out, without an environment: {name}")
    with scratch(options.out) as out:
        if options.limit:
            small = chosen(files, options.limit, out / "small" / "pictures")
            compared("As they are", small, out / "small", pythons, options.rounds, BATCH)
        if options.large:
            large = enlarged(files, options.large, out / "large" / "pictures")
            compared("12 million pixels", large, out / "large", pythons, options.rounds, LARGE_BATCH)


if __name__ == "__main__":
    main()
