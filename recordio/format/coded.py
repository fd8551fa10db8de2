"""Pages to and from their stored form, whatever the codec."""

from __future__ import annotations

import numpy as np

from recordio.errors import CorruptError
from recordio.format import codec as zstd
from recordio.format.checksum import Buffer
from recordio.format.codec import Codec, PageCoder
from recordio.format.fields import Field
from recordio.format.narrow import may_be_narrow, narrow_page, narrow_sizes, widen_into
from recordio.format.page import check_page

_NARROW, _NARROW_ZSTD = int(Codec.NARROW), int(Codec.NARROW_ZSTD)


def code_page(coder: PageCoder, field: Field, samples: int, content: Buffer) -> tuple[Codec, Buffer]:
    """The chosen codec of a page and the bytes to store."""
    narrow = None
    if coder.narrows(len(content)) and may_be_narrow(field):
        narrow = narrow_page(field, samples, content)  # type: ignore[arg-type]
    return coder.encode(content, narrow)


def decode_page(codec: int, field: Field, samples: int, stored: memoryview, nbytes: int) -> bytes:
    """The content of a coded page, checked. Raises CorruptError."""
    if codec in (_NARROW, _NARROW_ZSTD):
        out = np.empty(nbytes, np.uint8)
        decode_page_into(codec, field, samples, stored, out.data)
        return out.tobytes()
    found = zstd.decode(stored, nbytes)
    check_page(field, samples, found)
    return found


def decode_page_into(codec: int, field: Field, samples: int, stored: memoryview, out: memoryview) -> None:
    """Writes the content of a coded page, checked, into `out`. Raises CorruptError."""
    if codec == _NARROW_ZSTD:
        codec, stored = _NARROW, _decoded_narrow(field, samples, stored)
    if codec == _NARROW:
        widen_into(field, samples, stored, out)  # type: ignore[arg-type]
        return
    zstd.decode_into(stored, out)
    check_page(field, samples, out)


def _decoded_narrow(field: Field, samples: int, frame: memoryview) -> memoryview:
    """The narrow page in a zstd frame, for a field that may be narrow."""
    nbytes = zstd.claimed_nbytes(frame)
    if nbytes not in narrow_sizes(field, samples):  # type: ignore[arg-type]
        raise CorruptError(
            f"zstd frame of {nbytes} bytes holds no narrow page of {samples} samples: no width of {field}"
        )
    return memoryview(zstd.decode(frame, nbytes))
