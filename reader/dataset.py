"""`ShardDataset`: a dataset as a sequence of samples, and views of it.

A view is the same store with other sample numbers, or with functions applied on the way out. Nothing is copied.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt
from numpy import ma

from recordio.arguments import integer
from recordio.determinism import key, permutation
from recordio.errors import CorruptError, SchemaError
from recordio.format.checksum import digest
from recordio.format.page import Indices
from recordio.format.schema import Columns, Schema
from recordio.reader.columns import concatenate
from recordio.reader.open_dataset import OpenDataset, ReadOptions
from recordio.reader.open_shard import Projection, Verify
from recordio.reader.processing import Decode, Processing, SampleOrigin
from recordio.storage.dataset_files import check_shards, read_manifest, refuse
from recordio.storage.local import LocalStorage

if TYPE_CHECKING:
    from recordio.reader.combined import ConcatDataset

MapFunction = Callable[..., Any]

_SCAN_SAMPLES = 1 << 16
_MAX_REPLACED = 10
_REALS: Any = (int, float, np.integer, np.floating, np.bool_)


class ShardDataset(Sequence[Any]):
    """The samples of a dataset.

    `ds[i]` is a dict of every field: numbers are NumPy scalars, arrays fresh NumPy arrays, text `str`, bytes `bytes`,
    images uint8 arrays (H, W, C), a missing value None. `ds[a:b]` is a view. Whole batches come from `take`, far
    faster.

    Args:
        path: the dataset's folder.
        fields: the names of the fields to read; the pages of others are not touched.
        verify: "first" compares a page's checksum the first time this process touches it, "always" each time, "never"
            not at all. What keeps reading safe (sizes, offsets, the index) is always checked.
        io: "mmap" reads from memory maps; "pread" uses positioned reads, for network disks: a file that is cut while it
            is mapped would kill the process.
        decode: what encoded images become: "numpy" uint8 arrays, "pil" PIL images, None their bytes.
        cache_bytes: decoded pages kept for random access, at most.
        max_open_shards: shards open at a time, at most; None for a quarter of the files that the process may open, up
            to 256.

    Raises:
        DatasetError: there is no dataset at the path.
        CorruptError: the manifest is damaged, or shards are missing, cut, swapped or alien: all of them are named.
        SchemaError: an argument or a field name is wrong.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fields: Sequence[str] | None = None,
        verify: Verify = "first",
        io: Literal["mmap", "pread"] = "mmap",
        decode: Decode | None = "numpy",
        cache_bytes: int = 128 << 20,
        max_open_shards: int | None = None,
    ) -> None:
        if decode not in ("numpy", "pil", None):
            raise SchemaError(f"unknown decode {decode!r}: expected 'numpy', 'pil' or None")
        names = (fields,) if isinstance(fields, str) else None if fields is None else tuple(fields)
        self._path = os.path.abspath(os.fsdecode(path))
        self._options = ReadOptions(verify=verify, io=io, cache_bytes=cache_bytes, max_open_shards=max_open_shards)
        self._decode: Decode | None = decode
        self._transforms: tuple[tuple[str, Callable[..., Any]], ...] = ()
        self._maps: tuple[MapFunction, ...] = ()
        self.store = self._open_checked()
        self.fields: Projection = self.store.projection(names)
        self.numbers: range | Indices = range(self.store.samples)
        self._update_processing()

    def _open_checked(self) -> OpenDataset:
        """The store, every shard having been looked at. A dataset that is replaced meanwhile is opened anew."""
        for _ in range(_MAX_REPLACED):
            store = self._open()
            problems = check_shards(store.storage, store.manifest)
            if not problems or read_manifest(store.storage, self._path)[1] == store.manifest_digest:
                break
        refuse(problems, self._path)
        return store

    def _open(self) -> OpenDataset:
        storage = LocalStorage(self._path)
        manifest, digest = read_manifest(storage, self._path)
        return OpenDataset(storage, manifest, self._options, digest)

    def _update_processing(self) -> None:
        self.processing = Processing.of(self.schema, self._decode, self._transforms, self._maps)
        self._sample = self.store.sampler(self.fields)
        self._is_plain = self.processing.is_plain

    @property
    def schema(self) -> Schema:
        """The fields that are read, as they are stored."""
        return self.fields.schema

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the writer gave as metadata, such as `classes`."""
        return self.store.manifest.metadata

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Any:
        """A sample, or a view for a slice. Raises IndexError."""
        if isinstance(index, slice):
            return self._view(self.numbers[index])
        try:
            number = self.numbers[operator.index(index)]
        except IndexError:
            raise IndexError(f"sample {index} of a dataset of {len(self)}") from None
        except TypeError:
            raise TypeError(
                f"an index is a whole number or a slice, not {type(index).__name__}: "
                "column(name) gives a field of all samples, take(indices) and select(indices) give several samples"
            ) from None
        sample = self._sample(number if type(number) is int else int(number))
        return sample if self._is_plain else self.processing.sample(sample, self._origin(np.array([number])))

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The samples at these indices: PyTorch's loader asks for a whole batch this way."""
        numbers = self.resolve(indices)
        return self.processing.samples(self.store.take(numbers, self.fields), self._origin(numbers))

    _getitems = __getitems__  # Grain's name for it

    def _origin(self, numbers: Indices) -> SampleOrigin:
        return SampleOrigin(self.store, numbers, numbers)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), 256):
            yield from self.__getitems__(range(start, min(start + 256, len(self))))

    def take(self, indices: Sequence[int] | npt.ArrayLike) -> Columns:
        """The samples at these indices, in their order, as a dict of columns.

        Fixed-shape fields are arrays (n, *shape), masked arrays if the field is optional; all others are lists of n
        values. Negative indices count from the end. Raises IndexError.
        """
        numbers = self.resolve(indices)
        return self.processing.batch(self.store.take(numbers, self.fields), self._origin(numbers))

    def _scan(self) -> Iterator[Columns]:
        """All the samples in order as columns, many at a time, images decoded; at least once."""
        for start in range(0, max(1, len(self)), _SCAN_SAMPLES):
            numbers = self.resolve(range(start, min(start + _SCAN_SAMPLES, len(self))))
            yield self.processing.columns(self.store.take(numbers, self.fields), self._origin(numbers))

    def resolve(self, indices: Sequence[int] | npt.ArrayLike) -> Indices:
        """The store's numbers of this view's indices."""
        asked = np.asarray(indices)
        if asked.ndim != 1 or (asked.dtype.kind not in "iu" and asked.size):
            raise SchemaError(
                f"indices are a one-dimensional sequence of whole numbers, not {asked.dtype}{list(asked.shape)}"
            )
        n = len(self)
        low, high = (int(asked.min()), int(asked.max())) if asked.size else (0, -1)
        if low < -n or high >= n:
            raise IndexError(f"sample {low if low < -n else high} of a dataset of {n}")
        asked = asked.astype(np.int64, copy=False)
        if low < 0:
            asked = np.where(asked < 0, asked + n, asked)
        if isinstance(self.numbers, range):
            whole = self.numbers.start == 0 and self.numbers.step == 1
            return asked if whole else np.asarray(self.numbers.start + asked * self.numbers.step)
        chosen: Indices = self.numbers[asked]
        return chosen

    def column(self, name: str) -> Any:
        """One field of every sample: an array (n, *shape), masked if optional, or a list. Maps are not applied."""
        parts = [columns[name] for columns in self._only([name])._scan()]
        return concatenate(parts)

    def _only(self, names: Sequence[str]) -> Self:
        """The same samples with other fields, without transforms and maps."""
        return self._with(fields=self.store.projection(names), _transforms=(), _maps=())

    def select(self, indices: Sequence[int] | npt.ArrayLike) -> Self:
        """A view of the samples at these indices, in their order; an index may stand several times."""
        return self._view(self.resolve(np.array(indices)))  # a copy: whoever gave them may change them

    def filter(
        self,
        predicate: Callable[[Columns], npt.ArrayLike] | None = None,
        *,
        fields: Sequence[str] | None = None,
        **equal: Any,
    ) -> Self:
        """A view of the samples that match, in order.

            ds.filter(label=3)      ds.filter(label=[1, 2])      ds.filter(lambda c: c["score"] > 0.5, fields=["score"])

        Args:
            predicate: takes a dict of columns, gives a boolean array (n,); called for 65,536 samples at a time.
            fields: the fields that the predicate needs; all that the dataset reads if None.
            equal: a field's name with the value, or the list of values, that a sample must have.
        """
        asked = [fields] if isinstance(fields, str) else fields or (list(self.schema) if predicate else [])
        needed = [*dict.fromkeys([*asked, *equal])]
        if not needed:
            return self._view(self.numbers)
        wanted = {name: _values(value) for name, value in equal.items()}
        kept, start = [np.zeros(0, np.int64)], 0
        for columns in self._only(needed)._scan():
            n = len(columns[needed[0]])
            mask = np.ones(n, bool)
            for name, values in wanted.items():
                mask &= _equals(columns[name], values, name)
            if predicate is not None:
                mask &= _mask(predicate(columns), n)
            kept.append(start + np.flatnonzero(mask))
            start += n
        return self._view(self.resolve(np.concatenate(kept)))

    def transform(self, **functions: Callable[..., Any]) -> Self:
        """A view in which each of these fields is what its function makes of it.

            ds.transform(image=Compose([RandomResizedCrop(224), RandomHorizontalFlip()]))

        A function takes the value, and `rng`, a numpy.random.Generator, if it has a parameter of that name: in a loader
        its draws depend on the seed, the epoch and the sample alone, and are the same for each field, so that an image
        and its mask are cropped alike. An image comes decoded, but those of `recordio.transforms` decode it themselves.
        Missing values stay missing. In a batch, arrays of one shape are stacked.
        """
        self.schema.select(list(functions))
        for name, function in functions.items():
            _check_function(function, name)
        return self._with(_transforms=(*self._transforms, *functions.items()))

    def map(self, function: MapFunction) -> Self:
        """A view whose samples are what `function` makes of each sample, a dict. A batch is collated from its results.

        It comes after all transforms, and gets `rng` as they do if it has a parameter of that name.
        """
        _check_function(function)
        return self._with(_maps=(*self._maps, function))

    def split(self, fractions: Sequence[float], seed: int = 0) -> list[Self]:
        """Views that share the samples out at random, in these proportions: `train, test = ds.split([0.9, 0.1])`.

        Every sample is in one of them if the fractions add up to 1; each view keeps the order of the dataset.
        """
        parts = list(fractions) if isinstance(fractions, Iterable) else []
        ends = np.cumsum([0.0, *parts])
        if not parts or min(parts) < 0 or not ends[-1] <= 1 + 1e-9:
            raise SchemaError(f"fractions are a list from 0 to 1 with a sum of 1 at most, not {fractions!r}")
        order = permutation(len(self), key(integer("seed", seed, 0)))
        cuts = np.round(ends * len(self)).astype(np.int64).tolist()
        return [self.select(np.sort(order[a:b])) for a, b in pairwise(cuts)]

    def __add__(self, other: ShardDataset) -> ConcatDataset:
        """The samples of both, one dataset after the other."""
        from recordio.reader.combined import ConcatDataset

        return ConcatDataset([self, other])

    @property
    def fingerprint(self) -> str:
        """32 hex digits that stand for the samples and their order: the state of a loader names its dataset so."""
        numbers = self.numbers
        chosen = str(numbers[:]).encode() if isinstance(numbers, range) else np.ascontiguousarray(numbers).data
        return digest([self.store.manifest_digest, chosen]).hex()

    def _view(self, numbers: range | Indices) -> Self:
        return self._with(numbers=numbers)

    def _with(self, **changes: Any) -> Self:
        out = object.__new__(type(self))
        out.__dict__.update(self.__dict__ | changes)
        if "numbers" not in changes:
            out._update_processing()
        return out

    def __getstate__(self) -> dict[str, Any]:
        """A dataset travels as its path, its options and its view; whoever receives it opens the files anew."""
        state = {
            name: value
            for name, value in self.__dict__.items()
            if name not in ("store", "fields", "processing", "_sample")
        }
        return state | {"digest": self.store.manifest_digest, "names": list(self.schema)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        digest, names = state.pop("digest"), state.pop("names")
        self.__dict__.update(state)
        self.store = self._open()
        if self.store.manifest_digest != digest:
            raise CorruptError("the dataset has changed since it was opened").at(file=self._path)
        self.fields = self.store.projection(names)
        self._update_processing()

    def __repr__(self) -> str:
        return f"ShardDataset({self._path!r}, {len(self)} samples, fields {', '.join(self.schema)})"


def _check_function(function: Any, field: str | None = None) -> None:
    if not callable(function):
        raise SchemaError(f"expected a function, got {type(function).__name__}").at(field=field)


def _values(wanted: Any) -> list[Any]:
    """The values that a filter asks for: those of a list, a set, a range, an array or a tensor, or the one."""
    if not isinstance(wanted, Iterable) or isinstance(wanted, (str, bytes, bytearray, Mapping)):
        return [wanted]
    return np.asarray(wanted).ravel().tolist() if hasattr(wanted, "ndim") else list(wanted)


def _equals(column: Any, values: list[Any], name: str) -> npt.NDArray[np.bool_]:
    listed = not isinstance(column, np.ndarray)
    if any(isinstance(value, np.ndarray) for value in column) if listed else column.ndim > 1:
        raise SchemaError("a field of arrays is no value to compare; filter by a function").at(field=name)
    if listed:
        return np.fromiter((value in values for value in column), bool, len(column))
    there = [value for value in values if value is not None]
    if text := [value for value in there if isinstance(value, (str, bytes))]:
        raise SchemaError(f"the field holds {column.dtype}, which is never {text[0]!r}").at(field=name)
    missing: npt.NDArray[np.bool_] = ma.getmaskarray(column)
    return np.isin(ma.getdata(column), _held(there, column.dtype)) & ~missing | missing & (len(there) < len(values))


def _held(values: list[Any], dtype: np.dtype[Any]) -> Any:
    """Those of the values that whole numbers of this dtype can equal, in it: NumPy compares unlike ones as doubles."""
    if dtype.kind not in "iu":
        return values
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    reals = [value for value in values if isinstance(value, _REALS) and least <= value <= most]
    return np.array([int(value) for value in reals if value == int(value)], dtype)


def _mask(answer: npt.ArrayLike, n: int) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[Any] = ma.filled(ma.asarray(answer), False)
    if mask.shape != (n,) or mask.dtype != bool:
        raise SchemaError(f"a filter's function gives a boolean array ({n},), not {mask.dtype}{list(mask.shape)}")
    return mask
