"""Inputs that are Python objects: a list, a dataset of torch, Hugging Face or Grain, or anything with len and [i].

An input need not be a sample: `Mapped` makes samples of inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.arguments import describe
from recordio.errors import RecordIOError, SchemaError, SourceError
from recordio.format.schema import Sample
from recordio.writer.sources.leftovers import counted
from recordio.writer.sources.python.digests import fingerprint
from recordio.writer.sources.python.functions import failed
from recordio.writer.sources.source import Fingerprint, Item, Source

KIND = "python"
_AT_A_TIME = 64  # inputs that are asked for together
_VALUES = (list, tuple, range, np.ndarray)


class Inputs(Source):
    """The items of a map-style object, whatever they are. `sample` and `read` give them as they are.

    Args:
        data: has `__len__` and `__getitem__`; `__getitems__` is used where there is one.
        identity: the caller's name for the state of the data, for objects that cannot be compared with earlier ones.
        as_stored: whether the items are samples to be kept, so that a dataset of ours gives pictures as files.
    """

    kind = KIND

    def __init__(self, data: Any, identity: str | None = None, as_stored: bool = False) -> None:
        stored = data.as_stored() if hasattr(data, "as_stored") else None
        self.data = stored if as_stored and stored is not None else data
        self.schema = getattr(self.data, "schema", None) if self.data is stored else None  # type: ignore[assignment]
        own = stored if hasattr(data, "as_stored") else data  # one with functions does not say what these are
        self._identity = identity or _own_fingerprint(own)
        self._length = len(data)
        self.metadata = _metadata(data)
        if not self._length:
            raise SourceError(f"{named(data)} is empty: there is nothing to convert")

    def __len__(self) -> int:
        return self._length

    def nbytes(self) -> npt.NDArray[np.int64]:
        """1 for each: what an input takes is known once samples were made of it."""
        return np.ones(self._length, np.int64)

    def fingerprint(self) -> Fingerprint:
        found = self._fingerprint(None)
        return found or Fingerprint(str(self._length).encode(), b"", known=False)

    def input_digest(self, indices: npt.NDArray[np.int64]) -> bytes | None:
        found = self._fingerprint(indices)
        return None if found is None else xxhash.xxh3_128_digest(found.content + found.state)

    def _fingerprint(self, indices: npt.NDArray[np.int64] | None) -> Fingerprint | None:
        """That of these inputs, of all if None; None where it cannot be told."""
        if isinstance(self.data, np.ndarray):
            return fingerprint(self.data if indices is None else self.data[indices])
        if isinstance(self.data, _VALUES):
            chosen = self.data if indices is None else [self.data[index] for index in indices.tolist()]
            if found := fingerprint(chosen):
                return found
        name = self._identity
        return fingerprint(name, self._length if indices is None else indices) if name else None

    def key(self, index: int) -> str:
        return f"input {index}"

    def sample(self, index: int) -> Sample:
        """The item, which may be anything. Raises SourceError, or another that leaving out bad inputs is about."""
        try:
            return self.data[index]  # type: ignore[no-any-return]
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 a dataset of the caller's raises anything
            raise failed(error, f"{type(self.data).__name__}[{index}]", self.key(index))

    def read(self, indices: Iterable[int]) -> Iterator[Item]:
        numbers = list(indices)
        for start in range(0, len(numbers), _AT_A_TIME):
            some = numbers[start : start + _AT_A_TIME]
            found = self._together(some) or map(self._one, some)
            yield from zip(map(self.key, some), found, strict=True)

    def _one(self, index: int) -> Sample | RecordIOError:
        try:
            return self.sample(index)
        except RecordIOError as error:
            return error

    def _together(self, indices: list[int]) -> Sequence[Any] | None:
        """Items asked for at once, None where that cannot be, or fails for one of them."""
        several = getattr(self.data, "__getitems__", None)
        if several is None:
            return None
        try:
            found = several(indices)
            return found if len(found) == len(indices) else None
        except Exception:  # noqa: BLE001 one by one, the bad one is found
            return None


def is_list_of_inputs(value: Any) -> bool:
    """Whether it has a length and items by number. Raises SchemaError for what is another thing."""
    if isinstance(value, Mapping):
        raise SchemaError("the source is a dict: give a list of samples; DatasetWriter.write_batch takes columns")
    if isinstance(value, (bytearray, memoryview)):
        raise SchemaError(f"the source is {describe(value)}: expected a path, a dataset, or an iterable of samples")
    if hasattr(value, "iloc"):
        raise SchemaError("the source is a table of pandas: give its rows, table.to_dict('records')")
    return hasattr(value, "__getitem__") and hasattr(value, "__len__")


def named(data: Any) -> str:
    """The source in words: 'list of 1,000 inputs'."""
    count = f" of {counted(len(data), 'input')}" if hasattr(data, "__len__") else ""
    return f"{type(data).__name__}{count}"


def _own_fingerprint(data: Any) -> str | None:
    """What datasets of ours and of Hugging Face say of their state."""
    names = (getattr(data, name, None) for name in ("fingerprint", "_fingerprint"))
    return next((name for name in names if isinstance(name, str)), None)


def _metadata(data: Any) -> dict[str, Any]:
    """The names of the classes, as datasets of torchvision and Hugging Face have them; of ours, their metadata."""
    if isinstance(found := getattr(data, "metadata", None), Mapping) and hasattr(data, "tuple_fields"):
        return {name: value for name, value in found.items() if name != "conversion"}
    features = getattr(data, "features", None)
    labels = [one.names for one in features.values() if hasattr(one, "names")] if isinstance(features, Mapping) else []
    classes = labels[0] if len(labels) == 1 else getattr(data, "classes", None)
    if isinstance(classes, (list, tuple)) and classes and all(isinstance(name, str) for name in classes):
        return {"classes": list(classes)}
    return {}
