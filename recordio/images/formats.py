"""Which files are pictures, by their names and by their first bytes. Light: nothing is decoded, Pillow is not imported.

A format is named in lower case: "jpeg", "tiff". Names and contents may disagree, as in a .jpg that is a PNG: the
content counts. JPEG, PNG and WebP are stored as they are. What else Pillow reads is stored as a PNG, without loss, by
`recordio.images.transcode`. The formats of UNREADABLE are pictures to a person, but not to Pillow: converting one
fails, by name, and never leaves it out in silence.
"""

from __future__ import annotations

import os
import struct

from recordio.format.image_field import image_format

HEAD_NBYTES = 64
"""How much of a file `sniff` needs to see."""

STORED = ("jpeg", "png", "webp")
UNREADABLE = {
    "jxl": "JPEG XL",
    "svg": "a vector drawing",
    "eps": "a PostScript drawing",
    "wmf": "a Windows metafile",
    "raw": "a camera's raw file",
}
"""Formats that Pillow does not read, with what a person calls them."""

_NAMES = {
    "jpeg": "jpg jpeg jpe jfif jif mpo",
    "png": "png apng",
    "webp": "webp",
    "bmp": "bmp dib",
    "gif": "gif",
    "tiff": "tif tiff",
    "jpeg2000": "jp2 j2k j2c jpc jpf jpx jpt",
    "avif": "avif avifs",
    "heif": "heic heif heics heifs hif",
    "ppm": "ppm pgm pbm pnm pfm",
    "ico": "ico cur",
    "icns": "icns",
    "tga": "tga icb vda vst",
    "qoi": "qoi",
    "dds": "dds",
    "psd": "psd",
    "pcx": "pcx dcx",
    "sgi": "sgi rgb rgba bw",
    "sun": "ras",
    "xbm": "xbm",
    "xpm": "xpm",
    "msp": "msp",
    "fli": "fli flc",
    "blp": "blp",
    "jxl": "jxl",
    "svg": "svg svgz",
    "eps": "eps",
    "wmf": "wmf emf",
    "raw": "dng cr2 cr3 nef arw orf rw2 raf",
}
EXTENSIONS = {f".{extension}": name for name, extensions in _NAMES.items() for extension in extensions.split()}
"""The format that each extension names, such as {".jpg": "jpeg"}; in lower case, with the dot."""

_MAGIC = {
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0\x08\0\0\0": "tiff",
    b"MM\0+\0\x08\0\0": "tiff",
    b"\0\0\0\x0cjP  \r\n\x87\n": "jpeg2000",
    b"\xff\x4f\xff\x51": "jpeg2000",
    b"icns": "icns",
    b"qoif": "qoi",
    b"DDS |\0\0\0": "dds",
    b"8BPS\0\x01": "psd",
    b"\x59\xa6\x6a\x95": "sun",
    b"/* XPM */": "xpm",
    b"BLP1": "blp",
    b"BLP2": "blp",
    b"\0\0\0\x0cJXL \r\n\x87\n": "jxl",
    b"\xff\x0a": "jxl",
    b"%!PS-Adobe": "eps",
    b"\xc5\xd0\xd3\xc6": "eps",
    b"\xd7\xcd\xc6\x9a": "wmf",
    b"<svg": "svg",
}
_BRANDS = {b"avif": "avif", b"avis": "avif"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "heif"
)
_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}  # the lengths that its second header may have


def by_name(name: str | bytes) -> str | None:
    """The format that a file's extension names, None if it names no picture."""
    text = name if isinstance(name, str) else os.fsdecode(name)
    _, dot, extension = text[text.rfind("/") + 1 :].lstrip(".").rpartition(".")
    return EXTENSIONS.get((dot + extension).lower())


def sniff(head: bytes) -> str | None:
    """The format of a picture by its first HEAD_NBYTES bytes, None for anything else.

    Formats without distinctive first bytes (TGA, XBM, PCX, ...) are never recognised: their names have to say it.
    """
    stored = image_format(head)
    if stored is not None:
        return stored
    found = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    return found or _by_structure(head)


def picture_format(name: str | bytes, head: bytes) -> str | None:
    """The format of a file by its content, or by its name where the content says nothing; None if it is no picture."""
    return sniff(head) or by_name(name)


def _by_structure(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return _brand(head)
    if head[:2] == b"BM" and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADERS:
        return "bmp"
    if head[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"PF", b"Pf") and head[2:3].isspace():
        return "ppm" if head[3:4].isdigit() or head[3:4] == b"#" else None
    if head[:4] in (b"\0\0\x01\0", b"\0\0\x02\0") and len(head) >= 22 and 0 < head[4] and not head[5] and not head[9]:
        return "ico"
    return None


def _brand(head: bytes) -> str | None:
    """AVIF and HEIC lie in the same container: the first of its brands that is one of theirs, "mif1" only at last."""
    (nbytes,) = struct.unpack_from(">I", head)
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(nbytes, len(head)), 4))]
    found = [_BRANDS[brand] for brand in sorted(brands, key=(b"mif1", b"msf1").__contains__) if brand in _BRANDS]
    return found[0] if found else None
