"""Transforms: torchvision's results where they are exact, the same pixels from the same generator, clear refusals."""

from __future__ import annotations

import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image as PIL

from recordio import DecodeError, SchemaError, transforms as T
from recordio.transforms import takes_rng

PIXELS = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
SMOOTH = np.asarray(PIL.fromarray(PIXELS).resize((400, 300), PIL.Resampling.BICUBIC))
ALL = [
    T.Compose([T.Decode(), T.Resize(20)]),
    T.Decode("L"),
    T.Resize((10, 12)),
    T.CenterCrop(30),
    T.RandomCrop(20, padding=2),
    T.RandomResizedCrop(16),
    T.RandomHorizontalFlip(),
    T.ToTensor(),
    T.Normalize((0.5,), (0.2,)),
]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def jpeg(pixels: Any) -> bytes:
    file = BytesIO()
    PIL.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@settings(max_examples=200)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32))
def test_a_random_resized_crop_is_of_the_area_and_ratio_asked_for(h: int, w: int, seed: int) -> None:
    crop = T.RandomResizedCrop(8, scale=(0.2, 0.9), ratio=(0.5, 2.0))
    top, left, height, width = crop.box(h, w, rng(seed))
    assert 0 <= top <= top + height <= h
    assert 0 <= left <= left + width <= w
    assert height > 0
    assert width > 0
    if min(h, w) > 50 and max(h, w) < 2 * min(h, w):
        assert 0.18 < height * width / (h * w) < 0.92
        assert 0.48 < width / height < 2.1


def test_crops_are_spread_over_the_image() -> None:
    boxes = np.array([T.RandomResizedCrop(8).box(100, 100, rng(seed)) for seed in range(500)])
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    assert (np.abs(centres.mean(0) - 50) < 4).all()
    areas = boxes[:, 2] * boxes[:, 3] / 10_000
    assert areas.min() < 0.15
    assert areas.max() > 0.9


@pytest.mark.parametrize("transform", ALL[2:7], ids=str)
def test_shapes_and_the_same_pixels_from_the_same_generator(transform: T.Transform) -> None:
    first, again = transform(SMOOTH, rng(3)), transform(SMOOTH, rng=rng(3))
    assert first.dtype == np.uint8
    assert (first == again).all()
    shape = {"Resize": (10, 12), "CenterCrop": (30, 30), "RandomCrop": (20, 20), "RandomResizedCrop": (16, 16)}
    assert first.shape == (*shape.get(type(transform).__name__, SMOOTH.shape[:2]), 3)


def test_bytes_pil_images_and_arrays_give_the_same() -> None:
    for transform in (T.RandomResizedCrop(16), T.Compose([T.RandomCrop(9), T.ToTensor()])):
        found = [transform(image, rng(1)) for image in (PIXELS, jpeg(PIXELS), PIL.fromarray(PIXELS))]
        assert (found[0] == found[1]).all()
        assert (found[0] == found[2]).all()
    assert T.Decode("L")(jpeg(PIXELS)).shape == (37, 53, 1)
    assert T.ToTensor()(PIXELS[:, :, 0]).shape == (1, 37, 53)


def test_to_tensor_and_normalize_are_those_of_pytorch_to_the_bit() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    want = torch.from_numpy(PIXELS).permute(2, 0, 1).float().div(255)
    found = T.ToTensor()(PIXELS)
    assert found.dtype == np.float32
    assert torch.equal(torch.from_numpy(found), want)
    want = want.sub(torch.tensor(mean)[:, None, None]).div(torch.tensor(std)[:, None, None])
    assert torch.equal(torch.from_numpy(T.Compose([T.ToTensor(), T.Normalize(mean, std)])(PIXELS)), want)


def test_flips() -> None:
    assert (T.RandomHorizontalFlip(1)(PIXELS) == PIXELS[:, ::-1]).all()
    assert (T.RandomHorizontalFlip(0)(PIXELS) == PIXELS).all()
    flipped = sum(bool((T.RandomHorizontalFlip()(PIXELS, rng(k)) != PIXELS).any()) for k in range(400))
    assert 150 < flipped < 250


def test_resize_keeps_the_ratio_and_is_close_to_pillow() -> None:
    assert T.Resize(30)(SMOOTH).shape == (30, 40, 3)
    assert T.Resize(30)(SMOOTH.transpose(1, 0, 2)).shape == (40, 30, 3)
    assert T.Resize(30, max_size=32)(SMOOTH).shape == (24, 32, 3)
    for size in ((100, 133), (150, 200), (200, 267), (600, 800)):
        want = np.asarray(PIL.fromarray(SMOOTH).resize(size[::-1], PIL.Resampling.BILINEAR)).astype(int)
        found = T.Resize(size)(SMOOTH)
        assert np.abs(found - want).mean() < 2
    noise = np.random.default_rng(1).integers(0, 256, (256, 256, 1), np.uint8)
    assert T.Resize(16)(noise).std() < T.Resize(16, antialias=False)(noise).std() / 3


def test_center_crop_pads_with_zeros() -> None:
    found = T.CenterCrop((41, 21))(PIXELS)
    assert (found[2:39] == PIXELS[:, 16:37]).all()
    assert not found[:2].any()
    assert not found[39:].any()
    assert (T.CenterCrop(10)(PIXELS) == PIXELS[14:24, 22:32]).all()


def test_random_crop_reaches_every_place_and_pads() -> None:
    small = np.arange(9, dtype=np.uint8).reshape(3, 3, 1)
    assert {T.RandomCrop(1)(small, rng(k)).item() for k in range(200)} == set(range(9))
    assert T.RandomCrop(5, pad_if_needed=True)(small).sum() == small.sum()
    assert T.RandomCrop(7, padding=(1, 2, 3, 2))(small).shape == (7, 7, 1)
    with pytest.raises(SchemaError, match="cannot crop 4 x 4 from an image of 3 x 3"):
        T.RandomCrop(4)(small)


def test_compose_hands_the_generator_to_those_who_ask() -> None:
    def noise(image: Any, rng: np.random.Generator) -> Any:
        return image + rng.random()

    chain = T.Compose([T.ToTensor(), noise, lambda image: image * 2])
    assert (chain(PIXELS, rng(5)) == (T.ToTensor()(PIXELS) + rng(5).random()) * 2).all()
    assert (takes_rng(noise), takes_rng(len), takes_rng(T.ToTensor())) == (True, False, True)
    nested = T.Compose([T.Compose([T.RandomCrop(8)]), T.RandomHorizontalFlip()])
    assert (nested(PIXELS, rng(1)) == T.Compose([T.RandomCrop(8), T.RandomHorizontalFlip()])(PIXELS, rng(1))).all()


def test_without_a_generator_pythons_own_seeds_one() -> None:
    random.seed(1)
    first = T.RandomResizedCrop(8)(PIXELS)
    random.seed(1)
    assert (T.RandomResizedCrop(8)(PIXELS) == first).all()
    assert (T.RandomResizedCrop(8)(PIXELS) != first).any()


def test_threads_give_the_same_pixels() -> None:
    chain, file = T.Compose([T.RandomResizedCrop(24), T.RandomHorizontalFlip()]), jpeg(SMOOTH)
    alone = [chain(file, rng(k)) for k in range(60)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda k: chain(file, rng(k)), range(60)))
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_transforms_travel_and_compare_by_value(transform: T.Transform) -> None:
    assert pickle.loads(pickle.dumps(transform)) == transform
    assert type(transform).__name__ in repr(transform)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: T.Resize(0), "size is 0"),
        (lambda: T.CenterCrop((1, 2, 3)), "size is"),
        (lambda: T.Resize(3, "lanczos"), "unknown interpolation"),
        (lambda: T.RandomResizedCrop(3, scale=(0.5, 0.1)), "scale is"),
        (lambda: T.RandomHorizontalFlip(2), "p is 2"),
        (lambda: T.Decode("CMYK"), "unknown image mode"),
        (lambda: T.Normalize((0, 0), (1,)), "one for each channel"),
        (lambda: T.Normalize((0,), (1,))(PIXELS), "ToTensor first"),
        (lambda: T.Compose([3]), "takes functions"),  # type: ignore[list-item]
        (lambda: T.ToTensor()("a picture"), "not an image"),
        (lambda: T.RandomCrop(3, padding=(1, 2, 3))(PIXELS), "1, 2 or 4 numbers"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        wrong()
    with pytest.raises(DecodeError):
        T.ToTensor()(b"no picture at all")
