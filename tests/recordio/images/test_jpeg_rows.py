"""The upper rows of a JPEG have the pixels of a whole decode, and damage in them is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import simplejpeg

from recordio.errors import DecodeError
from recordio.images import pixels as moves
from recordio.images.decode import decode_image
from recordio.images.header import read_header
from recordio.images.jpeg_rows import upper_rows
from recordio.transforms import CenterCrop, Compose, Decode, RandomCrop, RandomResizedCrop, Transform
from tests.photos import Array, encode, photo

JPEG = encode(photo(200, 144), quality=92)
CROPS = [CenterCrop(40), RandomCrop(64), RandomResizedCrop(24, antialias=False), RandomResizedCrop((60, 90))]


def decoded(data: bytes, factor: int = 1, rows: int | None = None, mode: str = "RGB") -> Array:
    pixels, reduced = moves._decoded(data, read_header(data), mode, factor, rows)
    assert reduced == factor
    return pixels


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411", "Gray"])
def test_upper_rows_are_those_of_the_whole_picture(subsampling: str, factor: int) -> None:
    grey = subsampling == "Gray"
    noise = np.random.default_rng(0).integers(0, 256, (131, 97, 1 if grey else 3), dtype=np.uint8)
    data = bytes(simplejpeg.encode_jpeg(noise, 70, "GRAY" if grey else "RGB", subsampling))
    mode = "L" if grey else "RGB"
    whole, saved = decoded(data, factor, mode=mode), 0
    for rows in range(1, 132):
        part, needed = decoded(data, factor, rows, mode), -(-rows // factor)
        np.testing.assert_array_equal(part[:needed], whole[:needed])
        saved += len(whole) - len(part)
    assert saved > 131 * len(whole) / 4


@pytest.mark.parametrize("transform", CROPS, ids=repr)
def test_crops_of_bytes_are_those_of_pixels(transform: Transform, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    whole_decode = moves._decoded_jpeg

    def noted(*arguments: Any) -> Array:
        shapes.append((pixels := whole_decode(*arguments)).shape)
        return pixels

    monkeypatch.setattr(moves, "_decoded_jpeg", noted)
    for seed in range(30):
        from_bytes = transform(JPEG, np.random.default_rng(seed))
        from_pixels = Compose([Decode(), transform])(JPEG, np.random.default_rng(seed))
        np.testing.assert_array_equal(from_bytes, from_pixels)
    assert min(height for height, *_ in shapes) < 200


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 5}])
def test_progressive_files_and_those_with_restart_markers_are_decoded_whole(options: dict[str, Any]) -> None:
    data = encode(photo(200, 144), **options)
    assert upper_rows(data, read_header(data), 50) is None
    assert decoded(data, rows=50).shape == (200, 144, 3)


def test_file_of_one_scan_a_channel_is_decoded_whole() -> None:
    header = JPEG.index(b"\xff\xda")
    data = JPEG[: header + 4] + b"\x01" + JPEG[header + 5 :]
    assert upper_rows(data, read_header(JPEG), 50) is None


def test_few_rows_less_are_not_worth_a_second_look() -> None:
    header = read_header(JPEG)
    assert upper_rows(JPEG, header, 190) is None
    cut = upper_rows(JPEG, header, 100)
    assert cut is not None
    assert read_header(cut[0])._replace(height=200) == header
    assert cut[1] == read_header(cut[0]).height == 112


@pytest.mark.parametrize("kept", [0.4, 0.9, 0.999])
def test_file_that_is_cut_short_is_refused_wherever_the_crop_is(kept: float) -> None:
    with pytest.raises(DecodeError):
        CenterCrop(10)(JPEG[: int(len(JPEG) * kept)])


def test_damage_in_the_rows_is_refused_and_below_them_changes_nothing() -> None:
    scan = JPEG.index(b"\xff\xda") + 14
    above, below = bytearray(JPEG), bytearray(JPEG)
    above[scan + 200 : scan + 202] = below[-200:-198] = b"\xff\xd9"  # the mark of the end, too early
    with pytest.raises(DecodeError):
        CenterCrop(40)(bytes(above))
    np.testing.assert_array_equal(CenterCrop(40)(bytes(below)), CenterCrop(40)(JPEG))
    with pytest.raises(DecodeError):
        decode_image(bytes(below))


def test_rows_of_damaged_files_are_never_left_unset() -> None:
    """What strict decoding lets pass has the pixels of a decoder that lets everything pass, to the last row."""
    draws = np.random.default_rng(0)
    start = JPEG.index(b"\xff\xda") + 14
    passed = refused = 0
    for _ in range(600):
        data = bytearray(JPEG)
        data[draws.integers(start, len(data))] = draws.integers(0, 256)
        try:
            part = decoded(bytes(data), rows=90)
        except DecodeError:
            refused += 1
            continue
        lenient = simplejpeg.decode_jpeg(bytes(data), "RGB", strict=False)
        np.testing.assert_array_equal(part[:90], lenient[:90])
        passed += 1
    assert passed > 100
    assert refused > 5
