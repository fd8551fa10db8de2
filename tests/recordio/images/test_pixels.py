"""Resizing is close to Pillow's, large JPEGs decode at reduced size, tensors match torch bit for bit."""

from __future__ import annotations

import enum
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image

from recordio import kernels
from recordio.images import pixels as moves
from recordio.images.decode import decode_image
from recordio.transforms import Compose, Decode, Normalize, RandomResizedCrop, Resize, ToTensor
from tests.photos import MEAN, STD, Array, H, W, encode, photo

PIXELS = photo()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def difference(a: Array, b: Any) -> float:
    return float(np.abs(a.astype(int) - np.asarray(b).astype(int)).mean())


@pytest.mark.parametrize("no_kernels", [False, True])
@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(81, 110), (60, 80), (45, 60), (40, 30), (20, 24), (9, 7), (60, 150), (150, 60)])
def test_antialiased_resize_is_close_to_pillow(
    name: str, size: tuple[int, int], no_kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if no_kernels:
        monkeypatch.setattr(kernels, "c", None)
    by_pillow = Image.fromarray(PIXELS).resize(size[::-1], {"bilinear": 2, "bicubic": 3}[name])
    smooth = difference(Resize(size, name)(PIXELS), by_pillow)
    assert smooth < (1.0 if name == "bilinear" else 1.6)
    if max(size) < 60:
        assert smooth < difference(Resize(size, name, antialias=False)(PIXELS), by_pillow) / 2


@pytest.mark.parametrize("size", [(60, 80), (20, 24), (200, 300)])
def test_plain_resize_matches_torch_and_nearest_matches_pillow(size: tuple[int, int]) -> None:
    planes = torch.from_numpy(PIXELS).permute(2, 0, 1)[None].float()
    by_torch = torch.nn.functional.interpolate(planes, size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
    assert difference(Resize(size, antialias=False)(PIXELS), by_torch.numpy().round()) < 0.3
    np.testing.assert_array_equal(Resize(size, "nearest")(PIXELS), Image.fromarray(PIXELS).resize(size[::-1], 0))


@given(st.integers(1, 400), st.integers(1, 100))
def test_smoothing_kernel_keeps_brightness_and_has_the_stated_variance(length: int, target: int) -> None:
    kernel = moves.smoothing(min(length, 4 * target), target)
    assert kernel.dtype == np.float32
    assert len(kernel) % 2 == 1
    np.testing.assert_array_equal(kernel, kernel[::-1])
    np.testing.assert_array_equal(kernel * 256, np.rint(kernel * 256))
    assert kernel.sum() == 1
    offsets = np.arange(len(kernel)) - len(kernel) // 2
    ratio = max(1.0, min(length, 4 * target) / target)
    assert (kernel * offsets**2).sum() == pytest.approx((ratio**2 - 1) / 6, abs=0.15)


def test_resize_restores_the_ipp_switch() -> None:
    for exact in (True, False):
        cv2.ipp.setUseIPP_NotExact(not exact)
        Resize(20, "bicubic")(PIXELS)
        assert cv2.ipp.useIPP_NotExact() == (not exact)


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_resize_ignores_memory_alignment(name: str) -> None:
    around = photo(150, 201)
    for left in range(8):
        view = around[20:110, left : left + W]
        np.testing.assert_array_equal(Resize((61, 83), name)(view), Resize((61, 83), name)(view.copy()))


@pytest.mark.parametrize("value", [0, 1, 128, 254, 255])
@pytest.mark.parametrize("size", [7, 20, 33, 80, 200])
def test_uniform_image_stays_uniform(value: int, size: int) -> None:
    assert (Resize(size)(np.full((H, W, 3), value, "u1")) == value).all()


class InterpolationMode(enum.Enum):
    BICUBIC = "bicubic"


def test_torchvision_enum_is_accepted_and_same_size_copies_nothing() -> None:
    assert Resize(9, InterpolationMode.BICUBIC) == Resize(9, "bicubic")
    assert np.shares_memory(Resize((H, W))(PIXELS), PIXELS)


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "RGBA"), ("JPEG", "L"), ("PNG", "RGB")])
@pytest.mark.parametrize("side", [90, 60, 44, 21])
def test_jpeg_decoded_at_reduced_size_looks_the_same(kind: str, mode: str, side: int) -> None:
    large = photo(371, 493)
    data = encode(large, kind, **({"quality": 95} if kind == "JPEG" else {}))
    for transform in (Resize(side), RandomResizedCrop(side // 2, scale=(0.5, 1))):
        whole = Compose([Decode(), transform]).apply(data, rng(), mode)
        read = transform.apply(data, rng(), mode)
        assert read.shape == whole.shape
        assert difference(read, whole) < 2
        np.testing.assert_array_equal(read, transform.apply(data, rng(), mode))
    exact = Resize(side, antialias=False)
    np.testing.assert_array_equal(exact.apply(data, None, mode), exact(decode_image(data, mode)))


def test_cmyk_jpeg_is_decoded_in_full_before_resizing() -> None:
    out = BytesIO()
    Image.fromarray(photo(371, 493)).convert("CMYK").save(out, "JPEG")
    np.testing.assert_array_equal(Resize(30)(out.getvalue()), Resize(30)(decode_image(out.getvalue())))


def test_to_tensor_and_normalize_match_torch_bit_for_bit() -> None:
    pixels = np.arange(256, dtype="u1").repeat(3).reshape(16, 16, 3) + np.array([0, 85, 170], "u1")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)
    found = ToTensor()(pixels)
    np.testing.assert_array_equal(found, tensor.numpy(), strict=True)
    assert found.flags.c_contiguous
    assert found.flags.writeable
    for mean, std in ((MEAN, STD), ([0.5], [0.25])):
        shaped = [torch.tensor(values).view(-1, 1, 1) for values in (mean, std)]
        expected = (tensor - shaped[0]) / shaped[1]
        fused, alone = Compose([ToTensor(), Normalize(mean, std)]), Normalize(mean, std)
        np.testing.assert_array_equal(alone(found), expected.numpy(), strict=True)
        np.testing.assert_array_equal(fused(pixels), expected.numpy(), strict=True)
    assert Normalize(MEAN, STD)(found.astype(np.float64)).dtype == np.float64
