"""The image field: the bytes of a JPEG, PNG or WebP file, or plain pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from recordio.errors import SchemaError
from recordio.format.numeric import Numeric, check_size, checked_shape
from recordio.format.pil import is_picture, png

JPEG = b"\xff\xd8\xff"  # the first bytes
_PIXEL_MODES = ("L", "RGB", "RGBA")


def image_format(data: bytes) -> str | None:
    """The format of a picture by its magic bytes: jpeg, png or webp; None for anything else."""
    if data.startswith(JPEG):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    return "webp" if data.startswith(b"RIFF") and data[8:12] == b"WEBP" else None


@dataclass(frozen=True, slots=True)
class Image(Numeric):
    """A picture: the bytes of a JPEG, PNG or WebP file as they are, or, with `shape`, plain uint8 pixels.

    `mode` is what encoded pictures decode to: "RGB" (H, W, 3), "L" (H, W, 1) or "RGBA" (H, W, 4).
    `shape` is (H, W) or (H, W, C); a dimension of None is free.
    """

    type: ClassVar[str] = "image"
    mode: str = "RGB"
    shape: Any = None
    optional: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("RGB", "L", "RGBA"):
            raise SchemaError(f"unknown image mode {self.mode!r}: expected 'RGB', 'L' or 'RGBA'")
        if self.shape is not None:
            object.__setattr__(self, "shape", checked_shape(self.shape))
            if len(self.shape) not in (2, 3) or self.shape[2:] not in ((), (1,), (3,), (4,)):
                raise SchemaError(f"pixels have shape (H, W) or (H, W, C) with 1, 3 or 4 channels, not {self.shape}")
            check_size(self)

    @property
    def encoded(self) -> bool:
        """Whether it stores the bytes of an image file, rather than pixels."""
        return self.shape is None

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("u1")

    @property
    def row_nbytes(self) -> int | None:
        return None if self.encoded else Numeric.row_nbytes.fget(self)  # type: ignore[attr-defined]

    def pack(self, value: Any) -> bytes:
        if not self.encoded:
            return self._pack_pixels(value)
        if is_picture(value):
            return png(value)
        if not isinstance(value, (bytes, bytearray, memoryview)) or image_format(bytes(value[:16])) is None:
            raise self._refuse(value)
        return bytes(value)

    def _pack_pixels(self, value: Any) -> bytes:
        if is_picture(value) and value.mode not in _PIXEL_MODES:
            raise SchemaError(
                f"the numbers of a picture of mode {value.mode} are not grey, RGB or RGBA: convert it first, "
                "or give numpy.asarray(picture) to store them as they are"
            )
        return Numeric.pack(self, value)

    def packer(self) -> Callable[[Any], bytes]:
        return self.pack if self.encoded else Numeric.packer(self)

    def unpack(self, data: bytes) -> Any:
        """The encoded bytes, unchanged (the reader decodes them), or pixels."""
        return data if self.encoded else Numeric.unpack(self, data)

    def _json(self) -> dict[str, Any]:
        return {"mode": self.mode} if self.encoded else {"shape": list(self.shape)}

    def __str__(self) -> str:
        if self.encoded:
            return f"image (JPEG, PNG or WebP bytes, read as {self.mode})"
        return f"image uint8[{', '.join('?' if n is None else str(n) for n in self.shape)}]"
