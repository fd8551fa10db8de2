"""PIL pictures on their way in: how they are stored, and which mode loses nothing of them. Pillow is not imported."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from recordio.errors import SchemaError

_PNG_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}
_RGB_MODES = {"CMYK", "YCbCr", "LAB", "HSV"}  # 8 bits a channel in other words
_OPAQUE = {"L": ("1", "L"), "RGB": ("1", "L", "RGB", *_RGB_MODES)}


def is_picture(value: Any) -> bool:
    """Whether this is a PIL.Image.Image, or behaves as one."""
    return hasattr(value, "save") and hasattr(value, "convert")


def png(picture: Any) -> bytes:
    """A picture as a PNG file. Raises SchemaError for one of more than 8 bits a channel."""
    if picture.mode in _RGB_MODES:
        picture = picture.convert("RGB")
    if picture.mode not in _PNG_MODES:
        raise SchemaError(f"a picture of mode {picture.mode} has more than 8 bits a channel; store it as an Array")
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def keeps(picture: Any, mode: str) -> bool:
    """Whether a picture read as "L", "RGB" or "RGBA" has the colours and the transparency that it was given with.

    Grey pixels of an RGB picture and an alpha of 255 throughout can be left out. Pictures that `png` refuses pass.
    """
    if mode == "RGBA" or picture.mode not in _PNG_MODES | _RGB_MODES:
        return True
    if picture.mode in _OPAQUE[mode] and "transparency" not in picture.info:
        return True
    whole = (picture.convert("RGB") if picture.mode in _RGB_MODES else picture).convert("RGBA")
    return bool(whole.tobytes() == whole.convert(mode).convert("RGBA").tobytes())


def fitting_mode(picture: Any) -> str:
    """The mode to read a picture as without a loss: its own if that can be, then RGB."""
    mode = picture.mode if picture.mode in ("L", "RGBA") else "RGB"
    return mode if keeps(picture, mode) else "RGBA"
