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
    raise OSError("Insufficient memory")  # as a library says it, in its own way


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
