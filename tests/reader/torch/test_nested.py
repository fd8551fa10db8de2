"""What maps make, nested in any way, becomes what torch's `default_collate` makes of it."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import data

import recordio
from recordio.torch import DataLoader
from tests.reader.torch.comparing import same

Pair = namedtuple("Pair", "first second")
Make = Callable[[int], Any]


@dataclass
class Box:
    width: int


@pytest.fixture
def ds(tmp_path: Path) -> recordio.ShardDataset:
    with recordio.DatasetWriter(tmp_path) as writer:
        for n in range(10):
            writer.write({"n": n})
    return recordio.ShardDataset(tmp_path)


MAKE: dict[str, Make] = {
    "int": lambda n: n,
    "float": lambda n: n / 3,
    "bool": lambda n: n > 3,
    "NumPy's number": lambda n: np.float16(n),
    "array without dimensions": lambda n: np.array(n, np.int8),
    "array": lambda n: np.full((2, 3), n, np.uint8),
    "tensor": lambda n: torch.full((2,), n),
    "text": lambda n: f"text {n}",
    "bytes": lambda n: b"%d" % n,
    "tuple": lambda n: (n, n / 2, "text"),
    "named tuple": lambda n: Pair(np.arange(n, n + 3), {"a": str(n)}),
    "list": lambda n: [n, [np.float32(n)], "text"],
    "list of texts": lambda n: ["a", str(n)],
    "empty list": lambda n: [],
    "dict": lambda n: {"a": n, "b": {"c": (n, [n / 2])}},
    "ordered dict": lambda n: OrderedDict(b=n, a=np.int32(n)),
    "other mapping": lambda n: UserDict(ids=[n, n + 1], mask=[1, 0]),
}


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}], ids=["none", "threads"])
@pytest.mark.parametrize("kind", MAKE)
def test_nested_samples_are_collated_as_torch_does(ds: recordio.ShardDataset, kind: str, options: Any) -> None:
    make = MAKE[kind]
    for function in (lambda s: make(int(s["n"])), lambda s: {"x": make(int(s["n"]))}, lambda s: (make(int(s["n"])), 1)):
        for one in (ds.map(function), ds.map(function) + ds[3:].map(function)):
            assert all(map(same, DataLoader(one, 4, **options), data.DataLoader(one, 4)))


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda n: None, [None] * 3),
        (lambda n: Box(n), [Box(0), Box(1), Box(2)]),
        (lambda n: {"a": 1} if n else {"b": 2}, [{"b": 2}, {"a": 1}, {"a": 1}]),
    ],
)
def test_what_torch_refuses_is_a_list(ds: recordio.ShardDataset, make: Make, wanted: Any) -> None:
    view = ds[:3].map(lambda s: {"x": make(int(s["n"]))})
    (batch,) = DataLoader(view, 3)
    assert batch["x"] == wanted
    with pytest.raises((RuntimeError, TypeError, KeyError)):
        list(data.DataLoader(view, 3))


def test_lists_of_several_lengths_are_refused_as_by_torch(ds: recordio.ShardDataset) -> None:
    """Those of one length are turned over: which it is must not be chance."""
    view = ds[:3].map(lambda s: {"x": ["text"] * int(s["n"])})
    with pytest.raises(recordio.SchemaError, match="not a list of 0 and a list of 1: return arrays"):
        list(DataLoader(view, 3))
    with pytest.raises(RuntimeError, match="equal size"):
        list(data.DataLoader(view, 3))
    (batch,) = recordio.DataLoader(view, 3)
    assert batch["x"] == [[], ["text"], ["text", "text"]]


def test_arrays_of_several_shapes_are_a_list(ds: recordio.ShardDataset) -> None:
    (batch,) = DataLoader(ds[:3].map(lambda s: (np.arange(s["n"]), s["n"])), 3)
    assert [x.tolist() for x in batch[0]] == [[], [0], [0, 1]]
    assert batch[1].tolist() == [0, 1, 2]


def test_tuples_of_recordios_loader_are_tuples_of_columns(ds: recordio.ShardDataset) -> None:
    for batch in recordio.DataLoader(ds.map(lambda s: (s["n"], {"t": str(s["n"])})), 5, num_workers=2):
        assert isinstance(batch, tuple)
        assert batch[1] == {"t": [str(n) for n in batch[0].tolist()]}


def test_torchs_default_collate_is_called_when_it_is_given(ds: recordio.ShardDataset) -> None:
    view = ds.map(lambda s: {"x": {"y": int(s["n"])}})
    (batch,) = DataLoader(view, 10, collate_fn=data.default_collate)
    assert batch["x"]["y"].tolist() == list(range(10))
    for loader in (DataLoader, data.DataLoader):
        with pytest.raises(TypeError, match="NoneType"):
            list(loader(ds.map(lambda s: {"x": None}), 5, collate_fn=data.default_collate))
