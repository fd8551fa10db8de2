"""Transforms of images, with torchvision's names and defaults, on NumPy arrays.

    ds.transform(image=Compose([RandomResizedCrop(224), RandomHorizontalFlip(), ToTensor(), Normalize(mean, std)]))

An image is a uint8 array (H, W, C), a PIL image, or the bytes of a JPEG, PNG or WebP file, which are decoded first.
Every transform is called as `t(image, rng=None)`; a random one draws from `rng`, a numpy.random.Generator, or from one
that Python's `random` seeds. What comes out depends on the image and the generator alone.

OpenCV resizes. With `antialias` a picture that shrinks to half its size or less is averaged over the area of each new
pixel; above that, interpolation sees every pixel anyhow, at a fifth of the cost. Pillow, and with it torchvision,
weighs a slightly larger area at any scale, so single pixels differ by a few levels.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from recordio.errors import SchemaError
from recordio.images import CHANNELS, decode_image, opencv

Rng = np.random.Generator
Pixels = npt.NDArray[Any]

_TRIES = 10


def takes_rng(function: Callable[..., Any]) -> bool:
    """Whether a function has a parameter named `rng`."""
    try:
        return "rng" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some built-in functions have no signature
        return False


class Transform:
    """A function of an image. Subclasses say in `on_pixels` what they do.

    Attributes:
        encoded: whether it may be given the bytes of a picture.
    """

    encoded: ClassVar[bool] = True

    def __call__(self, image: Any, rng: Rng | None = None) -> Any:
        """The transformed image. Raises DecodeError for bytes that are no picture, SchemaError for what is no image."""
        return self.apply(image, np.random.default_rng(random.getrandbits(64)) if rng is None else rng)

    def apply(self, image: Any, rng: Rng, mode: str = "RGB") -> Any:
        """The transformed image; bytes are decoded to `mode`."""
        return self.on_pixels(pixels_of(image, mode), rng)

    def on_pixels(self, image: Pixels, rng: Rng) -> Pixels:
        """Of an array (H, W, C), or (C, H, W) after ToTensor."""
        raise NotImplementedError


def pixels_of(image: Any, mode: str = "RGB") -> Pixels:
    """An array (H, W, C) of what an image may be: bytes, a PIL image, an array (H, W) or (H, W, C)."""
    if isinstance(image, (bytes, bytearray, memoryview)):
        return decode_image(bytes(image) if isinstance(image, bytearray) else image, mode)
    array = image if isinstance(image, np.ndarray) else np.asarray(image)
    if array.ndim == 2:
        return array[:, :, None]
    if array.ndim != 3 or array.dtype.kind not in "uif":
        raise SchemaError(f"not an image: {type(image).__name__} of {array.dtype}{list(array.shape)}")
    return array


class Compose(Transform):
    """One transform after the other: built-in ones and any functions; one with a parameter `rng` is given it."""

    def __init__(self, transforms: Sequence[Callable[..., Any]]) -> None:
        if not all(map(callable, transforms)):
            raise SchemaError(f"Compose takes functions, not {list(transforms)}")
        self.transforms = list(transforms)
        self._random = [takes_rng(function) for function in self.transforms]

    def apply(self, image: Any, rng: Rng, mode: str = "RGB") -> Any:
        if self.transforms and isinstance(self.transforms[0], Transform):
            image = self.transforms[0].apply(image, rng, mode)
        elif self.transforms:
            image = self._call(0, pixels_of(image, mode) if isinstance(image, (bytes, memoryview)) else image, rng)
        for k in range(1, len(self.transforms)):
            image = self._call(k, image, rng)
        return image

    def _call(self, k: int, image: Any, rng: Rng) -> Any:
        return self.transforms[k](image, rng=rng) if self._random[k] else self.transforms[k](image)

    def __repr__(self) -> str:
        return "".join(["Compose(", *(f"\n    {transform!r}" for transform in self.transforms), "\n)"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Compose) and self.transforms == other.transforms

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Decode(Transform):
    """The pixels of a picture's bytes, uint8 (H, W, C). A mode of None is that of the field, "RGB" by itself."""

    mode: str | None = None

    def __post_init__(self) -> None:
        if self.mode is not None and self.mode not in CHANNELS:
            raise SchemaError(f"unknown image mode {self.mode!r}: expected {', '.join(map(repr, CHANNELS))}")

    def apply(self, image: Any, rng: Rng, mode: str = "RGB") -> Any:
        return pixels_of(image, self.mode or mode)


@dataclass(frozen=True)
class Resize(Transform):
    """To (height, width), or so that the shorter side is `size`; then the longer one is at most `max_size`."""

    size: int | Sequence[int]
    interpolation: str = "bilinear"
    max_size: int | None = None
    antialias: bool = True

    def __post_init__(self) -> None:
        _check_size(self.size)
        _check_interpolation(self.interpolation)

    def on_pixels(self, image: Pixels, rng: Rng) -> Pixels:
        height, width = image.shape[:2]
        if not isinstance(self.size, int) and len(self.size) == 2:
            return resized(image, self.size[0], self.size[1], self.interpolation, self.antialias)
        shorter = self.size if isinstance(self.size, int) else self.size[0]
        longer = int(shorter * max(height, width) / min(height, width))
        if self.max_size is not None and longer > self.max_size:
            shorter, longer = int(self.max_size * shorter / longer), self.max_size
        new = (shorter, longer) if height <= width else (longer, shorter)
        return resized(image, *new, self.interpolation, self.antialias)


@dataclass(frozen=True)
class CenterCrop(Transform):
    """The middle of the image, (height, width) or a square; an image that is too small gets zeros around it."""

    size: int | Sequence[int]

    def __post_init__(self) -> None:
        _check_size(self.size)

    def on_pixels(self, image: Pixels, rng: Rng) -> Pixels:
        height, width = _pair(self.size)
        image = _padded_to(image, height, width)
        top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
        return image[top : top + height, left : left + width]


@dataclass(frozen=True)
class RandomCrop(Transform):
    """A part of that size from anywhere in the image, which is padded first. Two draws: top, left.

    `padding` is zeros on every side: one number, (left and right, top and bottom), or (left, top, right, bottom).
    Raises SchemaError for an image that is too small, unless `pad_if_needed`.
    """

    size: int | Sequence[int]
    padding: int | Sequence[int] | None = None
    pad_if_needed: bool = False

    def __post_init__(self) -> None:
        _check_size(self.size)

    def on_pixels(self, image: Pixels, rng: Rng) -> Pixels:
        height, width = _pair(self.size)
        if self.padding is not None:
            left, top, right, bottom = _four(self.padding)
            image = np.pad(image, ((top, bottom), (left, right), (0, 0)))
        if self.pad_if_needed:
            image = _padded_to(image, height, width)
        if image.shape[0] < height or image.shape[1] < width:
            raise SchemaError(f"cannot crop {height} x {width} from an image of {image.shape[0]} x {image.shape[1]}")
        top = int(rng.random() * (image.shape[0] - height + 1))
        left = int(rng.random() * (image.shape[1] - width + 1))
        return image[top : top + height, left : left + width]


@dataclass(frozen=True)
class RandomResizedCrop(Transform):
    """A random part of the image, of `scale` of its area and `ratio` of width to height, resized to `size`.

    Up to ten tries, each of two draws for area and ratio; the one that fits draws twice more, top and left. Without any
    the middle is taken, as large as the ratio allows.
    """

    size: int | Sequence[int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        _check_size(self.size)
        _check_interpolation(self.interpolation)
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise SchemaError(f"{name} is {(low, high)}: expected two positive numbers, the smaller one first")

    def on_pixels(self, image: Pixels, rng: Rng) -> Pixels:
        top, left, height, width = self.box(image.shape[0], image.shape[1], rng)
        part = image[top : top + height, left : left + width]
        return resized(part, *_pair(self.size), self.interpolation, self.antialias)

    def box(self, height: int, width: int, rng: Rng) -> tuple[int, int, int, int]:
        """(top, left, height, width) of the part."""
        low, high = map(math.log, self.ratio)
        for _ in range(_TRIES):
            area = height * width * (self.scale[0] + rng.random() * (self.scale[1] - self.scale[0]))
            ratio = math.exp(low + rng.random() * (high - low))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return int(rng.random() * (height - h + 1)), int(rng.random() * (width - w + 1)), h, w
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        h, w = min(height, round(width / ratio)), min(width, round(height * ratio))
        return (height - h) // 2, (width - w) // 2, h, w


@dataclass(frozen=True)
class RandomHorizontalFlip(Transform):
    """Left and right exchanged, with probability `p`. One draw."""

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise SchemaError(f"p is {self.p}: expected a probability")

    def on_pixels(self, image: Pixels, rng: Rng) -> Pixels:
        if rng.random() >= self.p:
            return image
        flipped: Pixels = opencv().flip(image, 1)
        return flipped.reshape(image.shape)


@dataclass(frozen=True)
class ToTensor(Transform):
    """uint8 (H, W, C) to float32 (C, H, W), from 0 to 1; an array of floats is only turned."""

    def on_pixels(self, image: Pixels, rng: Rng) -> Pixels:
        turned = np.ascontiguousarray(image.transpose(2, 0, 1))
        return turned / np.float32(255) if turned.dtype == np.uint8 else turned.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Normalize(Transform):
    """(image - mean) / std of each channel, of floats (C, H, W)."""

    mean: Sequence[float]
    std: Sequence[float]

    encoded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(self.std):
            raise SchemaError(f"mean {self.mean} and std {self.std}: expected one for each channel, no std of 0")

    def on_pixels(self, image: Pixels, rng: Rng) -> Pixels:
        if image.dtype.kind != "f" or image.shape[0] not in (1, len(self.mean)):
            raise SchemaError(f"Normalize takes floats (C, H, W), not {image.dtype}{list(image.shape)}: ToTensor first")
        mean, std = (np.array(v, image.dtype)[:, None, None] for v in (self.mean, self.std))
        out: Pixels = (image - mean) / std
        return out


_INTERPOLATIONS = {"nearest": "INTER_NEAREST", "bilinear": "INTER_LINEAR", "bicubic": "INTER_CUBIC"}


def resized(image: Pixels, height: int, width: int, interpolation: str, antialias: bool) -> Pixels:
    """The image (H, W, C) at another size; itself if that is its size."""
    if image.shape[:2] == (height, width):
        return image
    cv2 = opencv()
    shrinks = 2 * height <= image.shape[0] or 2 * width <= image.shape[1]
    area = antialias and shrinks and interpolation != "nearest"
    flag = cv2.INTER_AREA if area else getattr(cv2, _INTERPOLATIONS[interpolation])
    out: Pixels = cv2.resize(image, (width, height), interpolation=flag)
    return out.reshape(height, width, image.shape[2])


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[-1])


def _four(padding: int | Sequence[int]) -> tuple[int, int, int, int]:
    numbers = (padding,) if isinstance(padding, int) else tuple(padding)
    if len(numbers) not in (1, 2, 4):
        raise SchemaError(f"padding is {padding}: expected 1, 2 or 4 numbers")
    left, top, right, bottom = numbers * (4 // len(numbers))
    return left, top, right, bottom


def _padded_to(image: Pixels, height: int, width: int) -> Pixels:
    """With zeros around it, at least that large."""
    down, across = max(0, height - image.shape[0]), max(0, width - image.shape[1])
    if not down and not across:
        return image
    return np.pad(image, ((down // 2, down - down // 2), (across // 2, across - across // 2), (0, 0)))


def _check_size(size: int | Sequence[int]) -> None:
    numbers = (size,) if isinstance(size, int) else tuple(size)
    if len(numbers) not in (1, 2) or not all(isinstance(n, int) and n > 0 for n in numbers):
        raise SchemaError(f"size is {size!r}: expected a positive whole number, or (height, width)")


def _check_interpolation(name: str) -> None:
    if name not in _INTERPOLATIONS:
        raise SchemaError(f"unknown interpolation {name!r}: expected {', '.join(map(repr, _INTERPOLATIONS))}")
