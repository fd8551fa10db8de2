"""Which files are pictures: every format that Pillow writes is recognised, and names or contents decide as said."""

from io import BytesIO

import pytest
from PIL import Image

from recordio.images.formats import EXTENSIONS, HEAD_NBYTES, STORED, UNREADABLE, by_name, picture_format, sniff

WRITTEN = {
    "JPEG": "jpeg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "GIF": "gif", "TIFF": "tiff", "JPEG2000": "jpeg2000",
    "AVIF": "avif", "PPM": "ppm", "ICO": "ico", "ICNS": "icns", "QOI": "qoi", "DDS": "dds", "EPS": "eps",
}  # fmt: skip


def written(name: str, mode: str = "RGB") -> bytes:
    out = BytesIO()
    Image.new(mode, (16, 16), 7).save(out, name)
    return out.getvalue()


@pytest.mark.parametrize(("pillow", "name"), WRITTEN.items())
def test_format_is_known_by_its_first_bytes(pillow: str, name: str) -> None:
    assert sniff(written(pillow)[:HEAD_NBYTES]) == name


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_all_kinds_of_ppm_and_bmp_are_known(mode: str) -> None:
    assert sniff(written("PPM", mode)[:HEAD_NBYTES]) == "ppm"
    assert sniff(written("BMP", mode)[:HEAD_NBYTES]) == "bmp"


def test_tga_is_known_by_name_only() -> None:
    head = written("TGA")[:HEAD_NBYTES]
    assert sniff(head) is None
    assert picture_format("a/b.TGA", head) == "tga"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "avif"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1miaf", "heif"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", None),
        (b"\xff\x0a\x90\x01", "jxl"),
    ],
)
def test_container_is_told_by_its_brands(head: bytes, name: str | None) -> None:
    assert sniff(head) == name


@pytest.mark.parametrize(
    "data", [b"", b"B", b"BM", b"BMW is a maker of cars, not a bitmap", b"P1", b"P5 ", b"PNG", b"\0" * 64]
)
def test_other_files_are_no_pictures(data: bytes) -> None:
    assert sniff(data) is None
    assert picture_format("notes.txt", data) is None


def test_content_counts_more_than_the_name() -> None:
    assert picture_format("a.jpg", written("PNG")) == "png"
    assert picture_format(b"a.JFIF", b"") == "jpeg"


def test_every_extension_names_a_format() -> None:
    assert {by_name(f"x{extension.upper()}") for extension in EXTENSIONS} >= {*STORED, *UNREADABLE}
    assert by_name(b"x.txt") is None
    assert by_name("jpg") is None
