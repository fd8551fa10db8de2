"""Makes the golden datasets: for each a folder, and beside it `NAME.json`, the same samples in plain JSON.

    python tests/golden/make.py

adds to this folder what is not there yet. It never touches what is: see README.md.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recordio import Array, Bytes, DatasetWriter, Image, Object, Scalar, Schema, Text

HERE = Path(__file__).parent

DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()

# Pictures of 2 x 3 pixels.
PNG_RGB = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAIAAAA2iEnWAAAAFElEQVR4nGM8IcfOwMDAxMDAgKAAEqwA81Z1jywAAAAASUVORK5CYII="
)
PNG_L = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAAAAACcgYFdAAAAEUlEQVR4nGNMZmBiYGBiYAAAAzwAacdNVLkAAAAASUVORK5CYII="
)
PNG_RGBA = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAYAAAC56t6BAAAAFklEQVR4nGNkZGJmYWBgYGBigAI4AwABXAAQKC+wCgAAAABJRU5ErkJggg=="
)
JPEG_L = b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAFA3PEY8MlBGQUZaVVBfeMiCeG5uePWvuZHI////////////////////////////////////////////"
    "////////wAALCAADAAIBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAv/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AD//Z"
)
WEBP_RGB = b64decode("UklGRh4AAABXRUJQVlA4TBEAAAAvAYAAAAdQjyL3oP+BiOh/AAA=")


@dataclass(frozen=True)
class Golden:
    """A dataset to be written: its samples, and how."""

    schema: Schema
    samples: list[dict[str, Any]]
    metadata: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        options: dict[str, Any] = {"compression": None} | self.options
        with DatasetWriter(folder, self.schema, metadata=self.metadata, **options) as writer:
            for sample in self.samples:
                writer.write(sample)


def extremes(dtype: np.dtype[Any]) -> list[Any]:
    """Four values at the edges of a dtype."""
    if dtype.kind == "b":
        return [False, True, True, False]
    if dtype.kind in "iu":
        return [np.iinfo(dtype).min, np.iinfo(dtype).max, 1, 0]
    info = np.finfo(dtype)
    numbers = [-0.0, info.max, info.smallest_subnormal, -info.smallest_normal]
    if dtype.kind == "f":
        return numbers
    return [complex(float(a), float(b)) for a, b in zip(numbers, reversed(numbers), strict=True)]


def scalars() -> Golden:
    columns = {name: np.array(extremes(np.dtype(name)), name) for name in DTYPES}
    samples = [{name: column[i] for name, column in columns.items()} for i in range(4)]
    nothing = {name: np.zeros((), name)[()] for name in DTYPES}
    for value in (math.nan, math.inf, -math.inf):
        samples.append(nothing | {name: np.array(value, name)[()] for name in DTYPES if name[0] in "fc"})
    return Golden(Schema({name: Scalar(name) for name in DTYPES}), samples)


def arrays() -> Golden:
    """Every dtype with two dimensions, one of them free."""
    schema = Schema({name: Array(name, (None, 2)) for name in DTYPES})
    values = {name: np.array(extremes(np.dtype(name)), name) for name in DTYPES}
    samples: list[dict[str, Any]] = [{name: values[name][: 2 * n].reshape(n, 2) for name in DTYPES} for n in (2, 0, 1)]
    return Golden(schema, samples)


def shapes() -> Golden:
    """Shapes fixed and free, with no dimension and with dimensions of nothing."""
    fixed: dict[str, tuple[int, ...]] = {"row": (3,), "table": (2, 3), "none": (0,), "no rows": (0, 2)}
    free: dict[str, tuple[int | None, ...]] = {
        "list": (None,),
        "middle": (2, None, 3),
        "all": (None, None),
        "flat": (None, 0),
    }
    samples = []
    for n in (1, 0, 4):
        count = iter(range(-5, 1000))
        sample = {}
        for name, shape in (fixed | free).items():
            got = tuple(n + k if want is None else want for k, want in enumerate(shape))
            sample[name] = np.array([next(count) for _ in range(math.prod(got))], "int16").reshape(got)
        samples.append(sample)
    return Golden(Schema({name: Array("int16", shape) for name, shape in (fixed | free).items()}), samples)


def values() -> Golden:
    """Text, bytes and objects."""
    schema = Schema({"text": Text(), "bytes": Bytes(), "object": Object()})
    rows: list[tuple[str, bytes, Any]] = [
        ("", b"", None),
        ("plain", b"\x00", True),
        (
            "nul \x00 and tab \t",
            bytes(range(256)),
            [False, 0, -1, 127, 128, -32, -33, 65535, 1 << 63, (1 << 64) - 1, -(1 << 63)],
        ),
        (
            "na\u00efve, nai\u0308ve",
            b"\x89RIOBLK\n",
            {"": "", "a": {"b": [[], {}, [None]]}, "caf\u00e9": [1.5, -0.0, 1e300]},
        ),
        (
            "\u65e5\u672c\u8a9e \u0440\u0443\u0441\u0441\u043a\u0438\u0439",
            b"\xff" * 65,
            {"raw": [b"", b"\xff\x00"], "long": "x" * 40},
        ),
        ("\U0001f600 \u202eabc", b"last", ["a" * 300, list(range(20)), {str(n): n for n in range(20)}]),
    ]
    return Golden(schema, [dict(zip(schema, row, strict=True)) for row in rows])


def images() -> Golden:
    schema = Schema(
        {
            "rgb": Image(),
            "grey": Image("L"),
            "rgba": Image("RGBA"),
            "plain": Image(shape=(2, 3)),
            "colour": Image(shape=(2, 1, 3)),
            "free": Image(shape=(None, None, 3)),
        }
    )
    pixels = np.arange(36, dtype="uint8") * 7
    plain = {"plain": pixels[:6].reshape(2, 3), "colour": pixels[6:12].reshape(2, 1, 3)}
    samples = [
        {"rgb": PNG_RGB, "grey": PNG_L, "rgba": PNG_RGBA, **plain, "free": pixels.reshape(4, 3, 3)},
        {"rgb": WEBP_RGB, "grey": JPEG_L, "rgba": PNG_RGBA, **plain, "free": pixels[:0].reshape(0, 2, 3)},
    ]
    return Golden(schema, samples)


def optional() -> Golden:
    """Every kind of field, optional; each lacks other samples, `never` all of them, `always` none."""
    schema = Schema(
        {
            "scalar": Scalar("uint16", optional=True),
            "complex": Scalar("complex64", optional=True),
            "array": Array("float32", (2, 2), optional=True),
            "list": Array("int64", (None,), optional=True),
            "text": Text(optional=True),
            "bytes": Bytes(optional=True),
            "image": Image(optional=True),
            "pixels": Image(shape=(1, 2), optional=True),
            "object": Object(optional=True),
            "never": Text(optional=True),
            "never a number": Scalar("float64", optional=True),
            "always": Scalar("int8", optional=True),
            "number": Scalar("int8"),
        }
    )
    samples = []
    for n in range(11):
        there = {
            "scalar": n + 1,
            "complex": np.complex64(complex(n, -n)),
            "array": np.full((2, 2), n / 4, "float32"),
            "list": np.arange(n % 3),
            "text": "x" * (n % 4),
            "bytes": bytes(n % 5),
            "image": PNG_RGB,
            "pixels": np.array([[n, 255]], "uint8"),
            "object": {"n": n} if n % 4 else None,
        }
        kept = {name: value for k, (name, value) in enumerate(there.items()) if (n * 7 + k * 3) % 5 > 1}
        samples.append(kept | {"always": n, "number": -n})
    return Golden(schema, samples)


def validity() -> Golden:
    """Enough samples in one block that the validity of an optional field takes more than 64 bytes."""
    schema = Schema({"number": Scalar("int16", optional=True), "text": Text(optional=True)})
    samples: list[dict[str, Any]] = [
        {"number": n if n % 3 else None, "text": None if n % 7 else "ab"[: n % 3]} for n in range(515)
    ]
    return Golden(schema, samples)


def unicode_names() -> Golden:
    names = ["gr\u00f6\u00dfe", "\u6807\u7b7e", "\U0001f600", "with space", 'quote " and \\', "n" * 255, "\u00e9" * 127]
    metadata = {
        "classes": ["chat", "\u0161kola", "\u732b", "\U0001f431"],
        "nested": {"a": [1, 2.5, -1e-300, None, True], "": {}},
        "line\nend": "\u2028 </script> \x7f \x00",
        "large": (1 << 80) - 1,
    }
    return Golden(Schema({name: Scalar("int8") for name in names}), [dict.fromkeys(names, n) for n in (1, 2)], metadata)


def numbered(count: int) -> list[dict[str, Any]]:
    """Samples that tell their number, of uneven size."""
    return [
        {
            "number": n,
            "text": f"sample {n} " * (n % 5),
            "vector": np.arange(n, n + 4, dtype="float32"),
            "score": None if n % 3 == 1 else n / 8,
        }
        for n in range(count)
    ]


NUMBERED = Schema(
    {"number": Scalar(), "text": Text(), "vector": Array("float32", (4,)), "score": Scalar("float64", optional=True)}
)


def blocks() -> Golden:
    return Golden(NUMBERED, numbered(40), {"split": "train"}, {"block_bytes": 400})


def shards() -> Golden:
    return Golden(NUMBERED, numbered(40), {"split": "test"}, {"block_bytes": 300, "shard_samples": 20})


def zstd() -> Golden:
    """Pages coded and, where that does not pay, plain, in several blocks and shards."""
    schema = Schema(
        {**NUMBERED, "noise": Array("uint8", (30,)), "zeros": Array("int32", (20,)), "empty": Array("int8", (0,))}
    )
    samples, state = [], 1
    for sample in numbered(35):
        noise = []
        for _ in range(30):
            state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
            noise.append(state >> 56)
        samples.append(
            sample | {"noise": np.array(noise, "u1"), "zeros": np.zeros(20, "i4"), "empty": np.zeros(0, "i1")}
        )
    return Golden(schema, samples, {"codec": "zstd"}, {"compression": "zstd", "block_bytes": 2000, "shard_samples": 25})


def parity() -> Golden:
    """Two groups, of two shards and of one."""
    return Golden(NUMBERED, numbered(50), {}, {"block_bytes": 300, "shard_samples": 20, "parity": 2})


def narrow() -> Golden:
    """Integers of every dtype in pages of every width, with a base and without, and pages that stay plain."""
    fields = {name: Array(name, (130,)) for name in DTYPES if "int" in name}
    schema = Schema({**fields, "maybe": Array("int64", (130,), optional=True)})
    samples = []
    for i in range(20):
        span = [200, 60_000, 1 << 32, 1 << 62][i // 5]
        sample: dict[str, Any] = {}
        for name in fields:
            least, most = int(np.iinfo(name).min), int(np.iinfo(name).max)
            low = [least, max(least, -100), most - span + 1][i % 3] if span <= most else 0
            high = min(span, most + 1)
            sample[name] = np.array([low + k * 7919 * (i + 1) % high for k in range(130)], name)
        samples.append(sample | {"maybe": None if i % 4 == 1 else np.arange(130) - i})
    return Golden(schema, samples, {"codec": "narrow"}, {"compression": "narrow", "block_bytes": 40_000})


def narrow_zstd() -> Golden:
    """Integers of every dtype in narrow pages under zstd, of every width; narrow, coded and plain pages among them."""
    fields = {name: Array(name, (130,)) for name in DTYPES if "int" in name and not name.endswith("int8")}
    optional = Array("int64", (130,), optional=True)
    schema = Schema(
        {**fields, "maybe": optional, "noise": Array("int32", (130,)), "words": Text(), "row": Scalar("uint8")}
    )
    samples, state = [], 1
    for i in range(24):
        span = [200, 60_000, 1 << 32, 1 << 62][i // 6]
        draws = []
        for _ in range(130):
            state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
            draws.append(state >> 56)
        sample: dict[str, Any] = {}
        for name in fields:
            least, most = int(np.iinfo(name).min), int(np.iinfo(name).max)
            steps = [min(span, most) // 8 * (draw % 7) for draw in draws]
            low = [least, 0, most - min(span, most)][i // 6 % 3]
            sample[name] = np.array([low + step for step in steps], name)
        maybe = None if i % 4 == 1 else np.array(draws) % 5 - i
        samples.append(sample | {"maybe": maybe, "noise": np.array(draws, "i4"), "words": "over " * 40, "row": i})
    metadata = {"codec": "narrow+zstd"}
    return Golden(schema, samples, metadata, {"compression": "narrow+zstd", "block_bytes": 30_000})


def empty() -> Golden:
    return Golden(NUMBERED, [], {"note": "no sample, no shard"})


@dataclass(frozen=True)
class Changed(Golden):
    """A dataset that replaced another one, and was then added to under new metadata."""

    def write(self, folder: Path) -> None:
        Golden(self.schema, self.samples[:1], {"version": "old"}).write(folder)
        new = Golden(self.schema, self.samples[:30], {"version": "new"}, {"shard_samples": 20, "mode": "overwrite"})
        new.write(folder)
        Golden(self.schema, self.samples[30:], self.metadata, {"mode": "append"}).write(folder)


def changed() -> Golden:
    return Changed(NUMBERED, numbered(40), {"version": "newest"})


MAKERS: tuple[Callable[[], Golden], ...] = (
    scalars, arrays, shapes, values, images, optional, validity, unicode_names, blocks, shards, zstd, narrow,
    narrow_zstd, empty,
    changed, parity,
)  # fmt: skip
GOLDEN = {maker.__name__: maker for maker in MAKERS}


def plain(value: Any) -> Any:
    """A value in JSON: bytes as hex, a complex number as its two parts, NaN and the infinities as strings."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.name, "shape": list(value.shape), "data": plain(value.ravel().tolist())}
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, complex):
        return [plain(value.real), plain(value.imag)]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def plain_sample(schema: Schema, sample: dict[str, Any]) -> dict[str, Any]:
    """A sample in JSON, all fields in their order; what is missing is null."""
    out = {}
    for name, kind in schema.items():
        value = sample.get(name)
        out[name] = plain(np.asarray(value) if isinstance(kind, Array) and value is not None else value)
    return out


def twin(metadata: Any, samples: Iterator[dict[str, Any]], schema: Schema) -> str:
    """The text of NAME.json, one sample a line."""
    lines = ",\n".join(json.dumps(plain_sample(schema, sample), allow_nan=False) for sample in samples)
    return f'{{"metadata": {json.dumps(metadata)},\n"samples": [\n{lines}]}}\n'


def make(name: str, folder: Path) -> None:
    """One golden dataset and its twin."""
    golden = GOLDEN[name]()
    golden.write(folder / name)
    (folder / f"{name}.json").write_text(twin(golden.metadata, iter(golden.samples), golden.schema), "ascii")


if __name__ == "__main__":
    for name in GOLDEN:
        if (HERE / name).exists():
            print(f"{name} is there, and stays as it is")
        else:
            make(name, HERE)
            print(f"{name} made")
