"""Digests of inputs and functions: equal for what is the same, other for what changed, none where nobody can tell."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest

import recordio
from recordio.writer.sources.python.digests import fingerprint

LIMIT = 3


def helper(x: int) -> int:
    return x + 1


def plain(x: int) -> int:
    """A function with a helper, a constant and a name of another module."""
    return helper(x) + LIMIT + len(os.sep)


class Scale:
    def __init__(self, factor: Any) -> None:
        self.factor = factor

    def __call__(self, x: int) -> Any:
        return x * self.factor

    def scaled(self, x: int) -> Any:
        return x * self.factor


def adding(n: Any) -> Any:
    return lambda x: x + n


VALUES: list[Any] = [
    None, True, 1, 1.0, "1", b"1", "", (), [], {}, {1}, [1], [[1]], [1, 1], {"a": 1}, {"a": 2}, range(3), [0, 1, 2],
    np.arange(3), np.arange(3.0), np.arange(3)[None], np.int64(1), Path("x"), "x", ("a", "b"), ("ab",),
    plain, helper, len, os.path.join, adding(1), adding(2), adding(None), partial(plain, 1), partial(plain, 2), Scale,
    Scale(1), Scale(2), Scale(1).scaled, Scale(2).scaled,
]  # fmt: skip


def test_other_values_have_other_digests() -> None:
    found = [fingerprint(value) for value in VALUES]
    assert None not in found
    assert len({one.content for one in found if one}) == len(VALUES)


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_equal_values_have_equal_digests(value: Any) -> None:
    copy = type(value)(value) if isinstance(value, (list, tuple, dict, set)) else value
    assert fingerprint(copy) == fingerprint(value)


@pytest.mark.parametrize("value", [object(), [object()], adding(object()), partial(plain, object()), Scale(object())])
def test_of_other_objects_there_is_none(value: Any) -> None:
    assert fingerprint(value) is None


def test_a_value_that_holds_itself_has_none() -> None:
    value: list[Any] = []
    value.append(value)
    assert fingerprint(value) is None


def test_a_file_that_is_named_counts_with_its_stamp(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    for given in (path, str(path), [("a", str(path))]):
        path.write_text("one")
        before = fingerprint(given)
        os.utime(path, ns=(1, 1))
        touched = fingerprint(given)
        path.write_text("longer")
        written = fingerprint(given)
        assert before is not None
        assert touched is not None
        assert written is not None
        assert before.content == touched.content != written.content
        assert before.state != touched.state


def test_a_file_that_a_function_names_does_not_count_unless_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    code = compile(f"lambda x: open({str(path)!r}, 'a')", "code.py", "eval")
    function = FunctionType(code.co_consts[0], {}, "function")
    before = fingerprint(function), fingerprint(partial(function, path))
    path.write_text("one")
    assert fingerprint(function) == before[0]
    assert fingerprint(partial(function, path)) != before[1]


def changed(function: Any, **names: Any) -> Any:
    """The function with other globals."""
    return FunctionType(function.__code__, function.__globals__ | names, function.__name__)


def test_helpers_of_the_same_module_and_plain_globals_count() -> None:
    def other(x: int) -> int:
        return x + 2

    before = fingerprint(changed(plain))
    assert before is not None
    other.__module__ = helper.__module__
    assert fingerprint(changed(plain, helper=other)) != before
    assert fingerprint(changed(plain, LIMIT=4)) != before
    assert fingerprint(changed(plain, unused=4)) == before


def test_functions_that_name_each_other_have_a_digest() -> None:
    assert fingerprint(even) is not None


def even(n: int) -> bool:
    return n == 0 or odd(n - 1)


def odd(n: int) -> bool:
    return n != 0 and even(n - 1)


def test_another_process_finds_the_same() -> None:
    code = "import tests.writer.sources.test_digests as t; print(*(t.fingerprint(v).content.hex() for v in t.VALUES))"
    environment = os.environ | {"PYTHONPATH": str(Path(recordio.__file__).parents[1]), "PYTHONHASHSEED": "7"}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=Path.cwd()
    )
    assert out.stdout.split() == [found.content.hex() for value in VALUES if (found := fingerprint(value))]
