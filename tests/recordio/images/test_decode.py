"""Decoding: the pixels match Pillow's, whichever library decodes; damaged files are refused."""

from __future__ import annotations

import subprocess
import sys
import warnings
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recordio.errors import DecodeError, MissingPackageError, SchemaError
from recordio.images import decode as images
from recordio.images.decode import decode_image, decode_pil
from recordio.images.header import image_size
from tests.recordio.images.pictures import PICTURES, SMALL, H, W, png, with_png_chunk

MODES = {"RGB": 3, "L": 1, "RGBA": 4}

every_picture = pytest.mark.parametrize("name", PICTURES)
every_small_picture = pytest.mark.parametrize("name", SMALL)
every_mode = pytest.mark.parametrize("mode", MODES)


def by_pillow(data: bytes, mode: str) -> np.ndarray[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.array(Image.open(BytesIO(data)).convert(mode)).reshape(H, W, -1)


@every_mode
@every_picture
def test_pixels_match_pillow(name: str, mode: str, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = decode_image(PICTURES[name], mode)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (H, W, MODES[mode])
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, by_pillow(PICTURES[name], mode))
    assert capfd.readouterr() == ("", "")


@every_mode
@every_small_picture
def test_decode_pil_matches_decode_image(name: str, mode: str) -> None:
    picture = decode_pil(SMALL[name], mode)
    assert (picture.mode, picture.size) == (mode, (W, H))
    np.testing.assert_array_equal(np.array(picture).reshape(H, W, -1), decode_image(SMALL[name], mode))


@pytest.mark.parametrize(("shape", "mode"), [((), "L"), ((1,), "L"), ((3,), "RGB"), ((4,), "RGBA")])
def test_pil_image_from_pixels(shape: tuple[int, ...], mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (H, W, *shape), "u1")
    picture = images.pil_image(pixels)
    assert picture.mode == mode
    np.testing.assert_array_equal(np.array(picture).reshape(pixels.shape), pixels)


@every_small_picture
def test_memoryview_decodes_like_bytes(name: str) -> None:
    np.testing.assert_array_equal(decode_image(memoryview(SMALL[name]), "RGB"), decode_image(SMALL[name], "RGB"))


@every_small_picture
def test_truncated_file_is_refused_silently(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    whole = SMALL[name].removesuffix(b"\0\1\2")
    for nbytes in {*range(0, len(whole), 13), *range(80), *range(len(whole) - 40, len(whole))}:
        with pytest.raises(DecodeError):
            decode_image(whole[:nbytes], "RGB")
    assert capfd.readouterr().err == ""


@every_small_picture
def test_flipped_bit_gives_the_stated_size_or_a_decode_error(name: str) -> None:
    refused = 0
    for at in range(0, len(SMALL[name]), 17):
        data = bytearray(SMALL[name])
        data[at] ^= 1 << at % 8
        try:
            pixels = decode_image(bytes(data), "RGBA")
        except DecodeError:
            refused += 1
        else:
            assert pixels.shape == (*image_size(bytes(data)), 4)
    assert refused


@pytest.mark.parametrize("name", [name for name in SMALL if name.startswith("png")])
def test_every_flipped_bit_of_a_png_is_detected(name: str) -> None:
    for at in range(0, len(SMALL[name]), 7):
        data = bytearray(SMALL[name])
        data[at] ^= 1 << at % 8
        with pytest.raises(DecodeError):
            decode_image(bytes(data), "RGB")


@pytest.mark.parametrize(
    "magic", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP", b"RIFF\x40\0\0\0WEBPVP8 "]
)
@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"garbage ", b"\xff\xd9", b"\xff\xda"])
def test_garbage_after_a_magic_is_refused(magic: bytes, filler: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_image(magic + filler * 100, "RGB")


@pytest.mark.parametrize(("mode", "colour", "channels"), [("RGB", 2, 3), ("RGBA", 2, 3), ("L", 0, 1), ("RGBA", 0, 1)])
def test_png_without_all_rows_is_refused(mode: str, colour: int, channels: int) -> None:
    assert decode_image(png(10, 12, bytes(12 * (1 + channels * 10)), colour=colour), mode).shape[:2] == (12, 10)
    with pytest.raises(DecodeError):
        decode_image(png(10, 12, bytes(10 * (1 + channels * 10)), colour=colour), mode)


def test_png_with_an_unknown_critical_chunk_is_refused() -> None:
    with pytest.raises(DecodeError, match="unknown chunk b'ABCD'"):
        decode_image(with_png_chunk(PICTURES["png"], b"ABCD", b"x"), "RGB")


def test_jpeg_ending_early_with_an_end_marker_is_refused() -> None:
    data = PICTURES["jpeg"]
    cut = data[: len(data) * 3 // 4] + b"\xff\xd9"
    assert (by_pillow(cut, "RGB") != by_pillow(data, "RGB")).any()
    with pytest.raises(DecodeError, match="premature end"):
        decode_image(cut, "RGB")


def odd_jpeg(oddity: str) -> bytes:
    if oddity == "stuffing":
        data = PICTURES["jpeg, progressive"]
        return data[:-2] + b"\1\2\3" + data[-2:]
    odd = bytearray(PICTURES["jpeg"])
    if "revision" in oddity:
        odd[odd.index(b"JFIF") + 5] = 3
    if "scan" in oddity:
        at = odd.index(b"\xff\xda")
        odd[at + 2 + odd[at + 3] - 2] = 0
    for name, extra in STRAY.items():
        if name in oddity:
            at = odd.index(b"\xff\xdb")
            odd[at:at] = extra
    return bytes(odd)


STRAY = {
    "zeros": bytes(4),
    "text": b"made by a careless program",
    "escaped": b"\xff\0\xff\0",
    "restart": b"\xff\xd0",
    "profile": b"\xff\xe2\0\x10ICC_PROFILE\0\x07\x02",
}


@pytest.mark.parametrize(
    "oddity", ["stuffing", "revision", "scan", "revision and scan", *STRAY, "zeros, profile, scan"]
)
def test_known_camera_quirks_decode(oddity: str) -> None:
    odd = odd_jpeg(oddity)
    np.testing.assert_array_equal(decode_image(odd, "RGB"), by_pillow(odd, "RGB"))


@pytest.mark.parametrize("oddity", ["revision", "scan", "revision and scan", *STRAY])
def test_damaged_jpeg_with_camera_quirks_is_refused(oddity: str) -> None:
    odd = odd_jpeg(oddity)
    with pytest.raises(DecodeError):
        decode_image(odd[: len(odd) * 3 // 4] + b"\xff\xd9", "RGB")


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(SchemaError, match="unknown image mode 'CMYK'"):
        decode_image(PICTURES["png"], "CMYK")


@pytest.mark.parametrize(("package", "name"), [("simplejpeg", "jpeg"), ("cv2", "png"), ("cv2", "webp")])
def test_missing_package_names_the_pip_install(package: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    images._package.cache_clear()
    with pytest.raises(MissingPackageError, match=rf"{package}.*pip install 'recordio-shards\[images\]'"):
        decode_image(PICTURES[name], "RGB")


def test_importing_decode_loads_no_image_library() -> None:
    code = "import sys, recordio.images.decode; print(*{'cv2', 'simplejpeg', 'PIL'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
