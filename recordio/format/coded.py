"""Pages to and from their stored form, whatever the codec."""

from __future__ import annotations

from recordio.format import codec as zstd
from recordio.format.checksum import Buffer
from recordio.format.codec import Codec, PageCoder
from recordio.format.fields import Field
from recordio.format.narrow import may_be_narrow, narrow_page, widen_into
from recordio.format.page import check_page

_PLAIN, _NARROW = int(Codec.PLAIN), int(Codec.NARROW)


def code_page(coder: PageCoder, field: Field, samples: int, content: Buffer) -> tuple[Codec, Buffer]:
    """The chosen codec of a page and the bytes to store."""
    if coder.narrows(len(content)) and may_be_narrow(field):
        narrow = narrow_page(field, samples, content)  # type: ignore[arg-type]
        if narrow is not None and coder.pays(narrow, content):
            return Codec.NARROW, narrow
    return coder.encode(content)


def decode_page(codec: int, field: Field, samples: int, stored: memoryview, nbytes: int) -> bytes:
    """The content of a coded page, checked. Raises CorruptError."""
    if codec == _NARROW:
        out = bytearray(nbytes)
        decode_page_into(codec, field, samples, stored, memoryview(out))
        return bytes(out)
    found = zstd.decode(stored, nbytes)
    check_page(field, samples, found)
    return found


def decode_page_into(codec: int, field: Field, samples: int, stored: memoryview, out: memoryview) -> None:
    """Writes the content of a coded page, checked, into `out`. Raises CorruptError."""
    if codec == _NARROW:
        widen_into(field, samples, stored, out)  # type: ignore[arg-type]
        return
    zstd.decode_into(stored, out)
    check_page(field, samples, out)
