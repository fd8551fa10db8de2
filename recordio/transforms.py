"""Image transforms on NumPy arrays, with torchvision's names and defaults.

    train = Compose([RandomResizedCrop(224), RandomHorizontalFlip(), ToTensor(), Normalize(MEAN, STD)])
    pixels = train(jpeg_bytes, rng)

An image is the bytes of a JPEG, PNG or WebP file, uint8 pixels (H, W, C) or (H, W) with 1 to 4 channels, or a PIL
image. Given bytes, a transform decodes them itself, as `recordio.images.decode` does. The result is uint8 (H, W, C), or
float32 after ToTensor. The input is never written to, but an array that needs no change is returned as it is.

Randomness comes from `rng` alone, by calls of `rng.random()` in the order stated by each transform: the result is a
function of the image and the generator's state. Without an `rng`, one is seeded from Python's `random`, which torch
seeds in its workers. Transforms are stateless, compare by value, pickle, and are thread-safe.

Invalid arguments and images of a wrong type or shape raise SchemaError; bytes that do not decode, DecodeError; what
needs OpenCV where it is not installed, MissingPackageError.

"bilinear" with `antialias`, the default, gives the values of Pillow's filter for pixels (H, W, 3) whose sides are 8 at
least and become 3 at least, on processors with AVX2 where the kernels are (`recordio --version -v`): off by one at
most, where a version of Pillow resizes columns first.

Otherwise OpenCV resizes. Its difference to Pillow, as mean absolute difference on photographs, of 255: with `antialias`
a shrinking image is smoothed as much as by Pillow's wider kernel, then interpolated: 0.1 to 0.9 for "bilinear" and 0.3
to 1.3 for "bicubic", for reductions of 1.1 to 13 times. Enlarging: 0.2 and 0.9. "nearest" is identical.

A JPEG that shrinks to a quarter or less in both directions is decoded at 1/2, 1/4 or 1/8, at least twice the result's
size, in about half the time: then the differences are 0.8 to 1.5 and 1.6 to 1.9, by either, and edges of a box move by
at most a quarter of a pixel of the result. Only there do bytes give other values than an array of their pixels;
`Decode()` as the first step, or `antialias=False`, decodes at full size.

The crops decode only the rows of a JPEG that they need: none below their box, where it is sequential and of one scan,
as most are, and none above it either where it has restart markers. The pixels are the same; damage elsewhere goes
unnoticed, which `Decode()` as the first step refuses. A file that is cut short is refused all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from textwrap import indent
from typing import Any

import numpy as np

from recordio.arguments import choice, describe, flag, integers, interval, numbers
from recordio.errors import SchemaError
from recordio.images import boxes
from recordio.images.aspects import aspects, checked_buckets, nearest
from recordio.images.boxes import Box, Size
from recordio.images.decode import CHANNELS, Pixels, pil_image
from recordio.images.normalize import Normalize, NormalizedTensor, ToTensor
from recordio.images.pixels import BORDERS, as_pixels, cropped, flip, from_pil, pad, resized
from recordio.images.transform import FunctionStep, Transform, check_resampling, set_arguments, takes_rng

__all__ = [
    "CenterCrop",
    "Compose",
    "Decode",
    "Normalize",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "Resize",
    "ResizeToBucket",
    "ToTensor",
    "Transform",
    "takes_rng",
]


@dataclass(frozen=True)
class Decode(Transform):
    """Decodes in full, to pixels of a mode: "RGB", "L" or "RGBA".

    Without a mode, bytes decode to the dataset's, "RGB" by default, and pixels stay unchanged.
    """

    mode: str | None = None

    def __post_init__(self) -> None:
        if self.mode is not None:
            choice("mode", self.mode, CHANNELS)

    def for_mask(self) -> Transform:
        return Decode()

    def _run(self, image: Any, rng: Any, mode: str) -> Pixels:
        pixels = as_pixels(image, self.mode or mode)
        if self.mode is None or pixels.shape[2] == CHANNELS[self.mode]:
            return pixels
        if pixels.shape[2] not in CHANNELS.values():
            raise SchemaError(f"pixels of {pixels.shape[2]} channels have no mode to convert to {self.mode} from")
        return from_pil(pil_image(pixels), self.mode)


@dataclass(frozen=True)
class Resize(Transform):
    """Resizes the whole image. The module's docstring compares it with Pillow.

    Args:
        size: (height, width), or the length of the shorter side, keeping the aspect.
        interpolation: "nearest", "bilinear" or "bicubic", or a member of torchvision's enum.
        max_size: the limit on the longer side if `size` is an integer.
        antialias: whether to smooth an image before shrinking it; "nearest" never does.
    """

    size: Any
    interpolation: Any = "bilinear"
    max_size: int | None = None
    antialias: bool = True

    def __post_init__(self) -> None:
        size = integers("size", self.size, (1, 2))
        set_arguments(self, size=size[0] if len(size) == 1 else size)
        check_resampling(self)
        if self.max_size is not None:
            (longest,) = integers("max_size", self.max_size, (1,))
            if len(size) == 2 or longest <= size[0]:
                raise SchemaError(f"max_size is more than the shorter side, which size gives alone, not {longest}")
            set_arguments(self, max_size=longest)

    def for_mask(self) -> Transform:
        return replace(self, interpolation="nearest")

    def _run(self, image: Any, rng: Any, mode: str) -> Pixels:
        return resized(image, mode, self._plan, self.interpolation, self.antialias)

    def _plan(self, height: int, width: int) -> tuple[Box, Size]:
        size = self.size
        if not isinstance(size, tuple):
            size = boxes.scaled_size(height, width, size, self.max_size)
        return Box(0, 0, height, width), boxes.check_pixels(*size)


@dataclass(frozen=True)
class ResizeToBucket(Transform):
    """Crops the middle of the image to the aspect of the nearest of several sizes, and resizes it to that size.

    Given the same `buckets`, and `bucket_by` of the field, a loader makes batches of one size: uint8 (n, height, width,
    C). It counts images by their stored size, so let no step before this one crop or resize.

    Args:
        buckets: sizes (height, width), each of another aspect.
        interpolation, antialias: as for Resize.
    """

    buckets: Any
    interpolation: Any = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        set_arguments(self, buckets=checked_buckets(self.buckets))
        check_resampling(self)

    def for_mask(self) -> Transform:
        return replace(self, interpolation="nearest")

    def _run(self, image: Any, rng: Any, mode: str) -> Pixels:
        return resized(image, mode, self._plan, self.interpolation, self.antialias)

    def _plan(self, height: int, width: int) -> tuple[Box, Size]:
        size = self.buckets[int(nearest(aspects(height, width), self.buckets))]
        return boxes.box_of_aspect(height, width, size), size


@dataclass(frozen=True)
class RandomResizedCrop(Transform):
    """Crops a random box and resizes it: uint8 (height, width, C).

    Draws, up to ten times: the box's share of the area, uniform in `scale`; its aspect (width / height), log-uniform in
    `ratio`. The first box that fits the image is placed by two more draws: top, left. If none fits, it is the largest
    centred box with an aspect within `ratio`.
    """

    size: Any
    scale: Any = (0.08, 1.0)
    ratio: Any = (3 / 4, 4 / 3)
    interpolation: Any = "bilinear"
    antialias: bool = True
    random = True

    def __post_init__(self) -> None:
        size = boxes.crop_size(self.size)
        set_arguments(self, size=size, scale=interval("scale", self.scale), ratio=interval("ratio", self.ratio))
        check_resampling(self)

    def for_mask(self) -> Transform:
        return replace(self, interpolation="nearest")

    def _run(self, image: Any, rng: Any, mode: str) -> Pixels:
        return resized(image, mode, partial(self._plan, rng), self.interpolation, self.antialias)

    def _plan(self, rng: np.random.Generator, height: int, width: int) -> tuple[Box, Size]:
        return boxes.random_box(height, width, self.scale, self.ratio, rng), self.size


@dataclass(frozen=True)
class CenterCrop(Transform):
    """Crops the middle of the image to this size (an integer: a square), padding smaller images with zeros."""

    size: Any

    def __post_init__(self) -> None:
        set_arguments(self, size=boxes.crop_size(self.size))

    def _run(self, image: Any, rng: Any, mode: str) -> Pixels:
        pixels = cropped(image, mode, self._box)
        down, across = (n - m for n, m in zip(self.size, pixels.shape[:2], strict=True))
        return pad(pixels, (across // 2, down // 2, (across + 1) // 2, (down + 1) // 2))

    def _box(self, height: int, width: int) -> Box:
        return boxes.centre_box(height, width, (min(height, self.size[0]), min(width, self.size[1])))


@dataclass(frozen=True)
class RandomCrop(Transform):
    """Crops a random box of this size (an integer: a square). Two draws: top, left.

    Args:
        size: (height, width), or an integer.
        padding: pixels to add around the image first: on all sides, (left and right, top and bottom), or
            (left, top, right, bottom).
        pad_if_needed: whether to pad smaller images, on both sides; otherwise they raise SchemaError.
        fill: the value of a "constant" padding, 0 to 255, or one per channel.
        padding_mode: "constant", "edge", "reflect" (without the edge) or "symmetric" (with it).
    """

    size: Any
    padding: Any = None
    pad_if_needed: bool = False
    fill: Any = 0
    padding_mode: str = "constant"
    random = True

    def __post_init__(self) -> None:
        set_arguments(self, size=boxes.crop_size(self.size))
        if self.padding is not None:
            padding = integers("padding", self.padding, (1, 2, 4), least=0)
            set_arguments(self, padding=padding * (4 // len(padding)))
        fill = integers("fill", self.fill, (1, 2, 3, 4), least=0, most=255)
        set_arguments(self, fill=fill[0] if len(fill) == 1 else fill)
        choice("padding_mode", self.padding_mode, BORDERS)
        flag("pad_if_needed", self.pad_if_needed)

    def _run(self, image: Any, rng: Any, mode: str) -> Pixels:
        if self.padding or self.pad_if_needed:
            image = self._padded(as_pixels(image, mode), self.padding or (0, 0, 0, 0))
        if self.pad_if_needed:
            down, across = (max(0, n - m) for n, m in zip(self.size, image.shape[:2], strict=True))
            image = self._padded(image, (across, down, across, down))
        return cropped(image, mode, partial(self._box, rng))

    def _box(self, rng: np.random.Generator, height: int, width: int) -> Box:
        if height < self.size[0] or width < self.size[1]:
            raise SchemaError(f"no crop of {self.size} fits an image of {(height, width)}: pad_if_needed=True pads it")
        return boxes.placed_box(height, width, self.size, rng)

    def for_mask(self) -> Transform:
        return replace(self, fill=0) if isinstance(self.fill, tuple) else self

    def _padded(self, pixels: Pixels, by: tuple[int, int, int, int]) -> Pixels:
        fill = self.fill if isinstance(self.fill, tuple) else (self.fill,)
        return pad(pixels, by, self.padding_mode, fill)


@dataclass(frozen=True)
class RandomHorizontalFlip(Transform):
    """Mirrors the image left to right with probability `p`. One draw."""

    p: float = 0.5
    random = True

    def __post_init__(self) -> None:
        (p,) = numbers("p", [self.p])
        if not 0 <= p <= 1:
            raise SchemaError(f"p is a probability, 0 to 1, not {self.p!r}")
        set_arguments(self, p=p)

    def _change(self, pixels: Pixels, rng: Any) -> Pixels:
        return flip(pixels) if rng.random() < self.p else pixels


@dataclass(frozen=True)
class Compose(Transform):
    """Applies transforms in order: built-in ones and any callables, torchvision's among them.

    A callable gets the result of the step before, and a generator as `rng=` if it has a parameter of this name; in a
    dataset it is one of its own. A first step that is not built in gets the image as the dataset gives it.
    """

    transforms: Any
    _steps: tuple[Transform, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.transforms, (list, tuple)):
            raise SchemaError(f"transforms is a list of callables, not {describe(self.transforms)}")
        for transform in self.transforms:
            if not callable(transform):
                raise SchemaError(f"transforms has {transform!r}, which is not callable")
        set_arguments(self, transforms=tuple(self.transforms), _steps=_steps_of(self.transforms))

    @property
    def encoded(self) -> bool:
        return bool(self._steps) and self._steps[0].encoded

    @property
    def random(self) -> bool:
        return any(step.random for step in self._steps)

    @property
    def calls(self) -> bool:
        return any(step.calls for step in self._steps)

    def _run(self, image: Any, rng: Any, mode: str) -> Any:
        for step in self._steps:
            image = step._run(image, rng, mode)
        return image

    def for_mask(self) -> Transform:
        return Compose([mask_step for step in self._steps if (mask_step := step.for_mask())])

    def __repr__(self) -> str:
        lines = "".join(f"\n{transform!r}," for transform in self.transforms)
        return f"Compose([{indent(lines, '    ')}\n])"


def _steps_of(transforms: Iterable[Callable[..., Any]]) -> tuple[Transform, ...]:
    steps: list[Transform] = []
    for transform in transforms:
        step = transform if isinstance(transform, Transform) else FunctionStep(transform, takes_rng(transform))
        if isinstance(step, Normalize) and steps and isinstance(steps[-1], ToTensor):
            steps[-1] = NormalizedTensor(step)
        else:
            steps.append(step)
    return tuple(steps)
