"""A lack of memory is told from damage: what may be skipped is damage alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recordio.errors import DecodeError
from recordio.images import decode, memory
from recordio.images.decode import decode_image
from recordio.images.pillow import opened
from tests.recordio.images.pictures import PICTURES


def short_of_memory(*_: Any) -> Any:
    raise np._core._exceptions._ArrayMemoryError((1,), np.dtype("u1"))  # type: ignore[attr-defined]


def refuses(*_: Any) -> Any:
    raise OSError("cannot decode")  # which is all that some libraries say


@pytest.mark.parametrize("name", ["jpeg", "png", "webp"])
def test_a_decoder_that_fails_for_lack_of_memory_finds_no_damage(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(decode._DECODERS, name, refuses)
    data = next(data for key, data in PICTURES.items() if key.split(",")[0] == name)
    with pytest.raises(DecodeError):
        decode_image(data)
    monkeypatch.setattr(memory.np, "empty", short_of_memory)
    with pytest.raises(MemoryError, match=r"a picture of [\d,]+ pixels takes \d+ MiB to decode"):
        decode_image(data)


def test_nor_does_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DecodeError), opened(PICTURES["png"], "png"):
        refuses()
    monkeypatch.setattr(memory.np, "empty", short_of_memory)
    with pytest.raises(MemoryError), opened(PICTURES["png"], "png"):
        refuses()


def test_what_opencv_says_of_memory_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    def says(*_: Any) -> Any:
        raise RuntimeError("error: (-4:Insufficient memory) Failed to allocate 108000000 bytes")

    monkeypatch.setitem(decode._DECODERS, "png", says)
    with pytest.raises(MemoryError):
        decode_image(PICTURES["png"])
