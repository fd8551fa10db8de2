"""The field that holds all values of a column."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from recordio import Array, Bytes, Image, Scalar, Text
from recordio.errors import SourceError
from recordio.format.fields import Field
from recordio.writer.sources import Source, SourceOptions
from recordio.writer.sources.records.inferred import ArrayColumn, BytesColumn, Column, PicturesColumn
from tests.converted import FORMATS, opened


@pytest.fixture
def source() -> Source:
    return opened(FORMATS / "bagz" / "plain.bag")


def field(column: Column, source: Source, values: list[Any]) -> Field:
    for value in values:
        column.see(value)
    return column.field(source)


def picture(mode: str = "RGB") -> bytes:
    out = BytesIO()
    Pillow.new(mode, (2, 3)).save(out, "PNG")
    return out.getvalue()


class TestArrays:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([np.zeros((2, 3), "f4")] * 2, Array("float32", (2, 3))),
            ([np.zeros((2, 3), "f4"), np.zeros((2, 4), "f4"), np.zeros((2, 3), "f4")], Array("float32", (2, None))),
            ([np.zeros((0,), "i8")], Array("int64", (None,))),
            ([np.float16(1)], Scalar("float16")),
            ([np.zeros(1, "u1"), np.zeros(1, "i1")], Array("int16", (1,))),
            ([np.zeros(1, "f2"), np.zeros(1, "f8")], Array("float64", (1,))),
        ],
    )
    def test_the_field_holds_all(self, source: Source, values: list[Any], expected: Field) -> None:
        assert field(ArrayColumn("x"), source, values) == expected

    @pytest.mark.parametrize(("one", "other"), [("i8", "f8"), ("u8", "i8"), ("i4", "f4"), ("?", "i1"), ("f4", "c8")])
    def test_dtypes_that_would_change_values_are_refused(self, source: Source, one: str, other: str) -> None:
        with pytest.raises(SourceError, match="in records before it - field 'x'"):
            field(ArrayColumn("x"), source, [np.zeros(1, one), np.zeros(1, other)])

    def test_other_ranks_are_refused(self, source: Source) -> None:
        with pytest.raises(SourceError, match="2 dimensions here, 1 in records before it - field 'x'"):
            field(ArrayColumn("x"), source, [np.zeros(1), np.zeros((1, 1))])


class TestBytes:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([b"caf\xc3\xa9\n\t", b""], Text()),
            ([b"\xff"], Bytes()),
            ([b"text", b"a\x00b"], Bytes()),
            ([b"a\x7f"], Bytes()),
            ([picture(), picture("L")], Image()),
            ([picture(), b"text"], Bytes()),
        ],
    )
    def test_text_pictures_or_bytes(self, source: Source, values: list[bytes], expected: Field) -> None:
        assert field(BytesColumn("x", SourceOptions()), source, values) == expected
        assert (source.pictures == {"x": "photo"}) == isinstance(expected, Image)

    def test_text_may_be_bytes(self, source: Source) -> None:
        assert field(BytesColumn("x", SourceOptions(), texts=False), source, [b"text"]) == Bytes()

    def test_most_of_them_pictures_is_said(self, source: Source) -> None:
        field(BytesColumn("x", SourceOptions()), source, [picture(), picture(), b""])
        assert source.notes == ("2 of 3 values of 'x' are pictures, so all are kept as bytes",)


def test_masks_by_their_name(source: Source) -> None:
    assert field(PicturesColumn("mask", SourceOptions()), source, [picture("L")]) == Image("L")
    assert source.pictures == {"mask": "mask"}
