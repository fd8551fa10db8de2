"""Small pictures of every kind in the three formats, and hand-made PNG files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

H, W = 37, 53


def photo() -> Image.Image:
    """Gradients with some noise: colours, greys and edges, the same at each call."""
    y, x = np.mgrid[:H, :W]
    pixels = np.stack([x * 4, y * 6, (x + y) * 2], axis=-1) + np.random.default_rng(0).integers(0, 40, (H, W, 3))
    return Image.fromarray(pixels.clip(0, 255).astype("u1"))


def save(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, *, bits: int = 8, colour: int = 2, before: bytes = b"") -> bytes:
    ihdr = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", ihdr) + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def with_png_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    return data[:33] + chunk(kind, content) + data[33:]


def pictures() -> Iterator[tuple[str, bytes]]:
    rgb = photo()
    grey, palette = rgb.convert("L"), rgb.quantize(40)
    alpha = grey.rotate(180)
    rgba, grey_alpha = rgb.copy(), grey.copy()
    rgba.putalpha(alpha)
    grey_alpha.putalpha(alpha)
    turned = Image.Exif()
    turned[0x0112] = 6
    second = rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    yield "jpeg", save(rgb, "JPEG")
    yield "jpeg, no subsampling", save(rgb, "JPEG", subsampling=0)
    yield "jpeg, 4:2:2", save(rgb, "JPEG", subsampling=1)
    yield "jpeg, stored as RGB", save(rgb, "JPEG", keep_rgb=True)
    yield "jpeg, progressive", save(rgb, "JPEG", progressive=True)
    yield "jpeg, grey", save(grey, "JPEG")
    yield "jpeg, CMYK", save(rgb.convert("CMYK"), "JPEG")
    yield "jpeg, CMYK, progressive", save(rgb.convert("CMYK"), "JPEG", progressive=True)
    yield "jpeg, turned by EXIF", save(rgb, "JPEG", exif=turned)
    yield "jpeg, bytes after its end", save(rgb, "JPEG") + b"\0\1\2"
    yield "png", save(rgb, "PNG")
    yield "png, grey", save(grey, "PNG")
    yield "png, grey and alpha", save(grey_alpha, "PNG")
    yield "png, grey with a transparent value", save(grey, "PNG", transparency=grey.getpixel((3, 3)))
    yield "png, alpha", save(rgba, "PNG")
    yield "png, a transparent colour", save(rgb, "PNG", transparency=rgb.getpixel((3, 3)))
    yield "png, palette", save(palette, "PNG")
    yield "png, palette of 16", save(rgb.quantize(11), "PNG")
    yield "png, palette with one transparent", save(palette, "PNG", transparency=3)
    yield "png, palette with transparency", save(palette, "PNG", transparency=bytes(range(0, 200, 5)))
    yield "png, 1 bit", save(grey.convert("1"), "PNG")
    yield "png, turned by EXIF", save(rgb, "PNG", exif=turned)
    yield "png, gamma", with_png_chunk(save(rgb, "PNG"), b"gAMA", struct.pack(">I", 22727))
    yield "png, a broken profile", with_png_chunk(save(rgb, "PNG"), b"iCCP", b"a\0\0" + zlib.compress(b"x" * 200))
    yield "png, a private chunk of 9 MB", with_png_chunk(save(rgb, "PNG"), b"zzZz", bytes(9_000_000))
    yield "png, animated", save(rgb, "PNG", save_all=True, append_images=[second])
    yield "png, a transparent grey that no pixel can have", with_png_chunk(save(grey, "PNG"), b"tRNS", b"\1\2")
    yield "webp", save(rgb, "WEBP")
    yield "webp, lossless", save(rgb, "WEBP", lossless=True)
    yield "webp, alpha", save(rgba, "WEBP")
    yield "webp, lossless, alpha", save(rgba, "WEBP", lossless=True, exact=True)
    yield "webp, turned by EXIF", save(rgb, "WEBP", exif=turned)
    yield "webp, animated", save(rgb, "WEBP", save_all=True, append_images=[second])


PICTURES = dict(pictures())
SMALL = {name: data for name, data in PICTURES.items() if len(data) < 20_000}
