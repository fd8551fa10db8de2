"""Samples packed in C are what Python makes of them, and what C does not take is told in Python's words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recordio import Array, Bytes, Scalar, Schema, SchemaError, Text, kernels
from recordio.format.fields import Field
from recordio.writer.packing import Packer
from tests.effort import examples
from tests.strategies import fields, value

needs_kernels = pytest.mark.skipif(kernels.c is None, reason=f"kernels in C: {kernels.state}")
pytestmark = needs_kernels

KINDS: list[Field] = [
    *(Scalar(name) for name in "i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 ?".split()),
    *(kind(optional=optional) for kind in (Text, Bytes) for optional in (False, True)),
    *(Array(name, shape) for name in "f4 i8 u1 f2 c16 ?".split() for shape in ((2,), (None,), (2, None))),
    Array("i4", (3,), optional=True),
    Scalar("i4", optional=True),
    Array("u1", (1,) * 9),
]


class Number(int):
    pass


class Arrays(np.ndarray):  # type: ignore[type-arg]
    pass


GIVEN: list[Any] = [
    *(sign * 2**n + more for n in (0, 7, 8, 15, 16, 31, 32, 63, 64, 200) for sign in (1, -1) for more in (-1, 0)),
    *(0.0, -0.0, 1.5, 65504.0, 65520.0, 1e39, -1e300, float("inf"), float("nan")),
    *("", "a", "é", "日本" * 40, "\ud800", "a" * 1000, b"", b"a", bytearray(b"b"), None, True, Number(3), np.str_("x")),
    *(np.float32(1.5), np.int8(3), np.ma.masked, [1, 2], (1.0, 2.0), {"a": 1}, 2j),
    *(np.arange(n, dtype=name) for n in (0, 2, 3) for name in "f4 >f4 i8 >i8 i4 u1 f2 c16".split()),
    *(np.zeros((2, n), name) for n in (0, 2, 5) for name in "f4 i8 u1 ?".split()),
    *(np.arange(8, dtype="f4")[::4], np.arange(8, dtype="u1").reshape(2, 4).T, np.zeros((2,), "f4").view(Arrays)),
    *(np.ones((1,) * 9, "u1"), np.array(3.0, "f4"), np.zeros(2, "S3"), np.array([1, None]), np.ones(2, "?")),
]


def packed(packer: Packer, sample: Any) -> Any:
    """What a packer makes of a sample, or the words of its error."""
    row: Any = ["before"]
    try:
        nbytes = packer.pack_into(sample, row)
    except SchemaError as error:
        assert row == ["before"]
        return str(error)
    return tuple(row), nbytes


def both(schema: Schema) -> tuple[Packer, Packer]:
    """A packer with the kernel, and its twin without."""
    twin = Packer(schema)
    twin._kernel = None
    return Packer(schema), twin


@pytest.mark.parametrize("field", KINDS, ids=str)
def test_every_kind_of_value_is_packed_alike(field: Field) -> None:
    in_c, twin = both(Schema({"a": field}))
    found = [(packed(in_c, {"a": one}), packed(twin, {"a": one})) for one in GIVEN]
    assert [got for got, _ in found] == [want for _, want in found]
    assert any(isinstance(got, tuple) for got, _ in found)


@given(st.lists(fields(), min_size=1, max_size=5), st.randoms(use_true_random=False))
@examples(300)
def test_samples_of_any_schema_are_packed_alike(kinds: list[Field], random: Random) -> None:
    schema = Schema({f"f{k}": kind for k, kind in enumerate(kinds)})
    in_c, twin = both(schema)
    for _ in range(3):
        sample = {name: value(kind, random) for name, kind in schema.items()}
        assert packed(in_c, sample) == packed(twin, sample)


def test_plain_samples_are_packed_in_c() -> None:
    schema = Schema({"x": Array("f4", (2, None)), "n": Scalar("u2"), "t": Text(optional=True), "b": Bytes()})
    kernel = Packer(schema)._kernel
    assert kernel is not None
    sample = {"x": np.ones((2, 3), "f4"), "n": 7, "t": None, "b": b"xyz"}
    to: Any = []
    assert kernel(sample, to) == 37
    assert to == [(3).to_bytes(8, "little") + np.ones(6, "f4").tobytes(), b"\7\0", None, b"xyz"]
    assert kernel(sample | {"n": 1 << 16}, to) is None
    assert len(to) == 4
    for wrong in ((sample,), (sample, to, to), (sample, ())):
        with pytest.raises(TypeError, match="takes a sample and a list"):
            kernel(*wrong)  # type: ignore[arg-type]
    assert Packer(Schema({"flag": Scalar("?")}))._kernel is None


def test_arrays_of_either_letter_for_64_bits_are_packed_in_c() -> None:
    for name, types in (("i8", ("l", "q", "<i8")), ("u8", ("L", "Q", "<u8"))):
        kernel = Packer(Schema({"x": Array(name, (2,))}))._kernel
        assert kernel is not None
        for one in (np.arange(2, dtype=found) for found in (*types, np.dtype(types[-1]).newbyteorder("<"))):
            to: Any = []
            assert kernel({"x": one}, to) == 16
            assert to == [one.tobytes()]
        assert kernel({"x": np.arange(2, dtype=">i8")}, []) is None


CUT_SHORT = """
import resource, sys
from recordio import Bytes, DatasetWriter, Schema, ShardDataset, Text
writer = DatasetWriter(sys.argv[1], Schema({**{f"f{k}": Bytes() for k in range(12)}, "x": Text()}))
sample = lambda name, text: {**{f"f{k}": f"{name}{k}".encode() for k in range(12)}, "x": text}
writer.write(sample("a", "1"))
large = "\u00e9" * (300 << 20)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20), limits[1]))
try:
    writer.write(sample("lost", large))
except MemoryError:
    print("MemoryError")
resource.setrlimit(resource.RLIMIT_AS, limits)
writer.write(sample("b", "2"))
writer.close()
assert list(ShardDataset(sys.argv[1])) == [sample("a", "1"), sample("b", "2")]
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its memory by /proc")
def test_a_sample_that_memory_does_not_hold_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CUT_SHORT, str(tmp_path / "ds")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "MemoryError\n"), done.stderr


@pytest.mark.parametrize("sample", [{}, {"a": 1, "c": 2}, {"a": 1, "b": 2, "c": 3}, {"a": 1}, [1, 2], None])
def test_samples_of_other_names_are_refused_in_the_same_words(sample: Any) -> None:
    in_c, twin = both(Schema({"a": Scalar("i8"), "b": Scalar("i8")}))
    assert packed(in_c, sample) == packed(twin, sample)
    assert isinstance(packed(in_c, sample), str)


def test_what_is_no_description_of_fields_is_refused() -> None:
    new = kernels.c.RowPacker
    for wrong in ((("a", 99, False, 8, b"", ()),), (("a", 2, False, 9, b"", ()),), (("a", 2, False, 8, b"", (1,)),)):
        with pytest.raises(ValueError, match="expected a form"):
            new(np.ndarray, wrong)
    with pytest.raises(ValueError, match="expected a form"):
        new(np.ndarray, (("a", kernels.c.PACK_ARRAY, False, 1, b"B", (1,) * 9),))
    for wrong in ((1,), (("a",),), ((b"a", 2, False, 8, b"", ()),), (("a", 5, False, 8, b"d", ("x",)),)):
        with pytest.raises(TypeError):
            new(np.ndarray, wrong)
