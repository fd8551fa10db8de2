"""Rows taken out of a JPEG have the pixels of a whole decode, and damage in them is found."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import simplejpeg

from recordio.errors import DecodeError
from recordio.images import pixels as moves
from recordio.images.decode import decode_image
from recordio.images.header import read_header
from recordio.images.jpeg_rows import Rows, _markers, only_rows
from recordio.transforms import CenterCrop, Compose, Decode, RandomCrop, RandomResizedCrop, Transform
from tests.photos import Array, encode, photo

PHOTO = photo(400, 144)
JPEG, RESTARTED = encode(PHOTO, quality=92), encode(PHOTO, quality=92, restart_marker_rows=1)
every_file = pytest.mark.parametrize("data", [JPEG, RESTARTED], ids=["plain", "restart markers"])
CROPS = [CenterCrop(40), RandomCrop(64), RandomResizedCrop(24, antialias=False), RandomResizedCrop((60, 90))]


def decoded(data: bytes, top: int = 0, bottom: int | None = None, factor: int = 1, mode: str = "RGB") -> Rows:
    """The pixels, the first row, how many of the reduced picture."""
    header = read_header(data)
    bottom = header.height if bottom is None else bottom
    pixels, reduced, first = moves._decoded(data, header, mode, factor, top, bottom)
    assert reduced == factor
    return Rows(pixels, first, len(pixels))  # type: ignore[arg-type]


def require_rows(data: bytes, factor: int = 1, mode: str = "RGB") -> tuple[int, int]:
    """Holds rows of a file against the whole. Returns how many were left out above and below."""
    whole: Any = decoded(data, factor=factor, mode=mode).data
    height = read_header(data).height
    above = below = 0
    for top in range(0, height, 29):
        for bottom in [*range(top + 1, height, 31), height]:
            part, first, count = decoded(data, top, bottom, factor, mode)
            start, stop = top // factor, -(-bottom // factor)
            assert first <= start
            np.testing.assert_array_equal(part[start - first : stop - first], whole[start:stop])
            above, below = above + first, below + len(whole) - first - count
    return above, below


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411", "Gray"])
def test_rows_are_those_of_the_whole_picture(subsampling: str, factor: int) -> None:
    grey = subsampling == "Gray"
    noise = np.random.default_rng(0).integers(0, 256, (231, 97, 1 if grey else 3), dtype=np.uint8)
    data = bytes(simplejpeg.encode_jpeg(noise, 70, "GRAY" if grey else "RGB", subsampling))
    above, below = require_rows(data, factor, "L" if grey else "RGB")
    assert above == 0
    assert below > 0


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("every", [{"rows": 1}, {"rows": 2}, {"blocks": 3}, {"blocks": 7}, {"blocks": 100}], ids=str)
def test_rows_between_restart_markers_are_those_of_the_whole_picture(
    every: dict[str, int], subsampling: int, factor: int
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 64, 3), dtype=np.uint8)
    options = {f"restart_marker_{unit}": count for unit, count in every.items()}
    above, below = require_rows(encode(noise, quality=70, subsampling=subsampling, **options), factor)
    assert below > 0
    assert above > 0 or every not in ({"rows": 1}, {"rows": 2})


@every_file
@pytest.mark.parametrize("transform", CROPS, ids=repr)
def test_crops_of_bytes_are_those_of_pixels(transform: Transform, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    heights = []
    decode_jpeg = moves._decoded_jpeg

    def noted(*arguments: Any) -> Array:
        heights.append(len(pixels := decode_jpeg(*arguments)))
        return pixels

    monkeypatch.setattr(moves, "_decoded_jpeg", noted)
    for seed in range(30):
        from_bytes = transform(data, np.random.default_rng(seed))
        from_pixels = Compose([Decode(), transform])(data, np.random.default_rng(seed))
        np.testing.assert_array_equal(from_bytes, from_pixels)
    assert min(heights) < 300


def test_reduced_crops_do_not_depend_on_the_rows_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    crop = RandomResizedCrop(12)
    found = [crop(RESTARTED, np.random.default_rng(seed)) for seed in range(60)]
    monkeypatch.setattr(moves, "only_rows", lambda data, header, *_: Rows(data, 0, header.height))
    for seed, pixels in enumerate(found):
        np.testing.assert_array_equal(pixels, crop(RESTARTED, np.random.default_rng(seed)))


@pytest.mark.parametrize("options", [{"progressive": True}, {"progressive": True, "restart_marker_rows": 1}])
def test_progressive_files_are_decoded_whole(options: dict[str, Any]) -> None:
    data = encode(PHOTO, **options)
    assert only_rows(data, read_header(data), 10, 50) == (data, 0, 400)
    require_rows(data)


@every_file
def test_files_of_one_scan_a_channel_are_decoded_whole(data: bytes) -> None:
    scan = data.index(b"\xff\xda")
    several = data[: scan + 4] + b"\x01" + data[scan + 5 :]
    assert only_rows(several, read_header(data), 10, 50) == (several, 0, 400)


def test_files_of_thousands_of_restart_markers_are_decoded_whole() -> None:
    data = encode(photo(1024, 400), restart_marker_blocks=1)
    assert only_rows(data, read_header(data), 10, 50) == (data, 0, 1024)


def test_a_flood_of_restart_markers_takes_no_memory() -> None:
    flood = b"".join(bytes([0xFF, 0xD0 + k]) for k in range(8)) * (1 << 16) + b"\xff\xd9"
    tracemalloc.start()
    with pytest.raises(IndexError, match="restart markers"):
        _markers(flood, 0, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_few_rows_less_are_not_worth_a_second_look() -> None:
    header = read_header(JPEG)
    assert only_rows(JPEG, header, 0, 390) == (JPEG, 0, 400)
    cut = only_rows(JPEG, header, 50, 100)
    assert read_header(cut.data)._replace(height=400) == header
    assert (cut.first, cut.height, read_header(cut.data).height) == (0, 112, 112)
    between = only_rows(RESTARTED, header, 300, 350)
    assert (between.first, between.height) == (256, 96)
    assert len(between.data) < len(RESTARTED) / 3


@every_file
@pytest.mark.parametrize("kept", [0.2, 0.4, 0.9, 0.999])
def test_file_that_is_cut_short_is_refused_wherever_the_crop_is(data: bytes, kept: float) -> None:
    with pytest.raises(DecodeError):
        CenterCrop(10)(data[: int(len(data) * kept)])


@every_file
def test_damage_in_the_rows_is_refused_and_below_them_changes_nothing(data: bytes) -> None:
    within, below = bytearray(data), bytearray(data)
    middle = len(data) // 2
    within[middle : middle + 2] = below[-200:-198] = b"\xff\xd9"  # the mark of the end, too early
    with pytest.raises(DecodeError):
        CenterCrop(40)(bytes(within))
    np.testing.assert_array_equal(CenterCrop(40)(bytes(below)), CenterCrop(40)(data))
    with pytest.raises(DecodeError):
        decode_image(bytes(below))


@pytest.mark.parametrize("lost", [1, 8])
def test_missing_restart_markers_are_refused(lost: int) -> None:
    start, stop = RESTARTED.index(b"\xff\xd2"), RESTARTED.index((b"\xff\xd2", b"\xff\xd3")[lost == 1])
    stop = RESTARTED.index(b"\xff\xd2", start + 2) if lost == 8 else stop
    with pytest.raises(DecodeError):
        CenterCrop(40)(RESTARTED[:start] + RESTARTED[stop:])


@every_file
def test_rows_of_damaged_files_are_never_left_unset(data: bytes) -> None:
    """What strict decoding lets pass has the pixels of a decoder that lets everything pass, to the last row."""
    draws = np.random.default_rng(0)
    start = data.index(b"\xff\xda") + 14
    passed = refused = 0
    for _ in range(600):
        damaged = bytearray(data)
        damaged[draws.integers(start, len(data))] = draws.integers(0, 256)
        try:
            part, first, _ = decoded(bytes(damaged), 200, 290)
        except DecodeError:
            refused += 1
            continue
        lenient = simplejpeg.decode_jpeg(bytes(damaged), "RGB", strict=False)
        np.testing.assert_array_equal(part[200 - first : 290 - first], lenient[200:290])
        passed += 1
    assert passed > 100
    assert refused > 5
