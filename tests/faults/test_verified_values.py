"""What `verify` proves beyond checksums is what reading accepts: it finds each value that reading refuses."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from recordio.errors import CorruptError, DecodeError
from tests.faults.forging import SHARD, Block, forge, plain, variable
from tests.faults.reading import read, verify_files
from tests.recordio.images.pictures import PICTURES, png

ARRAY = (1).to_bytes(8, "little") + b"\x01"
WHOLE = {
    "text": ({"type": "text"}, "naïve".encode()),
    "object": ({"type": "object"}, msgpack.packb({"a": [1, None]})),
    "array": ({"type": "array", "dtype": "int8", "shape": [None]}, None),
    "image": ({"type": "image", "mode": "RGB"}, PICTURES["jpeg"]),
    "bytes": ({"type": "bytes"}, b"\xff\xfe"),
}
BAD: dict[str, tuple[dict[str, Any], bytes, type[Exception], str]] = {
    "text that is no UTF-8": (WHOLE["text"][0], b"\xff", CorruptError, "text is not UTF-8"),
    "text cut within a character": (WHOLE["text"][0], b"na\xc3", CorruptError, "text is not UTF-8"),
    "an object cut off": (WHOLE["object"][0], b"\x92\x01", CorruptError, "not valid msgpack"),
    "an object with an extension": (WHOLE["object"][0], b"\xc7\x01\x05x", CorruptError, "not valid msgpack"),
    "an array of false lengths": (WHOLE["array"][0], b"\xff" * 8 + b"\x01", CorruptError, ""),
    "no picture": (WHOLE["image"][0], b"GIF89a" + bytes(20), DecodeError, "not a JPEG, PNG or WebP file"),
    "a picture cut within its header": (WHOLE["image"][0], PICTURES["jpeg"][:30], DecodeError, "cut short"),
    "a picture of endless pixels": (WHOLE["image"][0], png(1 << 20, 1 << 20, b""), DecodeError, "pixels: expected"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("optional", [False, True], ids=["", "optional"])
def test_verify_finds_the_value_that_reading_refuses(name: str, optional: bool) -> None:
    kind, value, error, fault = BAD[name]
    good = next((value for other, value in WHOLE.values() if other == kind and value is not None), None)
    page = variable(value) if good is None else variable(good, value)
    samples = 1 if good is None else 2
    if optional:
        page = plain(b"\xff" + bytes(63) + page.stored)
    files = forge([{"name": "x", **kind, "optional": optional}], [Block(samples, [page])])
    (problem,) = verify_files(files).problems
    assert type(problem) is error
    assert fault in problem.fault
    assert f"(sample {samples - 1} of the block)" in problem.fault
    assert (problem.place.file, problem.place.block, problem.place.field) == (SHARD, 0, "x")
    assert read(files, ["DataLoader"])["DataLoader"][0] == "error"


@pytest.mark.parametrize("name", ["text", "object", "image", "bytes"])
def test_verify_takes_what_reading_takes(name: str) -> None:
    kind, value = WHOLE[name]
    assert value is not None
    files = forge([{"name": "x", **kind}], [Block(2, [variable(value, value)])])
    assert verify_files(files).ok
    assert read(files, ["DataLoader"])["DataLoader"][0] != "error"


def test_a_value_that_is_missing_is_not_looked_at() -> None:
    page = plain(b"\x02" + bytes(63) + variable(b"", "é".encode()).stored)
    files = forge([{"name": "x", "type": "text", "optional": True}], [Block(2, [page])])
    assert verify_files(files).ok
    page = plain(b"\x02" + bytes(63) + variable(b"", PICTURES["png"]).stored)
    files = forge([{"name": "x", "type": "image", "mode": "RGB", "optional": True}], [Block(2, [page])])
    assert verify_files(files).ok
