"""`ShardDataset`: a dataset as a sequence of samples, and views of it.

A view shares the open dataset and has its own sample numbers and functions. Nothing is copied.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

from recordio.arguments import choice
from recordio.errors import CorruptError, RecordIOError, SchemaError
from recordio.format.checksum import digest
from recordio.format.page import Indices
from recordio.format.schema import Columns, Schema
from recordio.lazy import lazy
from recordio.printable import clean
from recordio.reader.combined import ConcatDataset
from recordio.reader.field_groups import assigned_steps, checked_function, function_by_field
from recordio.reader.io_choice import Io
from recordio.reader.joining import Cast, ClassMap
from recordio.reader.open_dataset import ReadOptions
from recordio.reader.opening import open_checked, open_version, version_of
from recordio.reader.order.numbers import Numbers, chosen, is_same, numbers_at, packed, unpacked, wide
from recordio.reader.order.ranks import RankShare, window_plans
from recordio.reader.order.shuffle import OrderOptions, order_of
from recordio.reader.page_access import Projection, Verify
from recordio.reader.processing import Decode, Processing, SampleOrigin
from recordio.reader.quarantine import OnDamage, kept_numbers
from recordio.reader.tuples import as_tuple, named_fields
from recordio.reader.view import DatasetView, Piece, Plans
from recordio.remote.opening import CacheFolder, RemoteAccess, StorageArgument, dataset_access

_INTEGERS: Any = (int, np.integer)


class ShardDataset(DatasetView):
    """The samples of a dataset.

    `ds[i]` is a dict of every field: numbers are NumPy scalars, arrays fresh NumPy arrays, text `str`, bytes `bytes`,
    images uint8 arrays (H, W, C), a missing value None. `ds[a:b]` is a view. `take` reads whole batches, far faster.

    Args:
        path: the dataset's folder: on this machine, or "s3://bucket/path", "gs://", "az://container/path", "https://",
            "hf://datasets/ORG/NAME", which need `pip install 'recordio-shards[remote]'`.
        fields: the names of the fields to read; the pages of others are not touched. None is all, but for the names of
            files that `convert` has kept, such as `file`.
        verify: "first" compares a page's checksum the first time this process touches it, "always" each time, "never"
            not at all. Sizes, offsets and the index are always checked, so reading is safe either way.
        io: "mmap" reads from memory maps: the fastest while the system's cache holds the data, but truncating a mapped
            file would kill the process. "pread" uses positioned reads, for network disks. "direct" reads past the cache
            where it can, for data larger than memory. "auto" chooses by the file system and the size of memory.
        decode: "numpy" decodes images to uint8 arrays, "pil" to PIL images; None leaves the encoded bytes.
        page_cache_bytes: limit of the cache of decoded pages in memory, for random access.
        max_open_shards: limit of shards open at a time; None for an eighth of the process's file limit, a sixteenth
            with "direct". All datasets have a quarter, of up to two descriptors each, and a twelfth for single samples.
        on_damage: "skip" leaves damaged blocks out, the same in every process and rank, and logs each of them: those in
            the list of `verify --quarantine`, and of shards that no list knows those that reading them all now finds.
        storage: how an object store is reached, see `StorageOptions`: endpoint, region, anonymous, credentials, ...
        cache: where what was fetched is kept on disk: a folder, "auto" for $RECORDIO_CACHE or ~/.cache/recordio, None
            for nowhere.
        cache_bytes: limit of that cache on disk, for all datasets; None for 80 % of what is free.
        offline: ask nothing of the network: what is not in the cache is an error.

    Raises:
        DatasetError: there is no dataset at the path.
        CorruptError: the manifest is damaged, or shards are missing, cut, swapped or alien; it names them all.
        SchemaError: an argument or a field name is wrong.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fields: Sequence[str] | None = None,
        verify: Verify = "first",
        io: Io = "auto",
        decode: Decode | None = "numpy",
        page_cache_bytes: int = 128 << 20,
        max_open_shards: int | None = None,
        on_damage: OnDamage = "raise",
        storage: StorageArgument = None,
        cache: CacheFolder = "auto",
        cache_bytes: int | None = None,
        offline: bool = False,
    ) -> None:
        choice("decode", decode, ("numpy", "pil", None))
        names = (fields,) if isinstance(fields, str) else None if fields is None else tuple(fields)
        self._path, options = dataset_access("path", path, storage)
        self._remote = RemoteAccess(options, cache, cache_bytes, offline)
        self._options = ReadOptions(
            verify=verify, io=io, page_cache_bytes=page_cache_bytes, max_open_shards=max_open_shards
        )
        self._decode: Decode | None = decode
        self._transforms: tuple[tuple[str, Callable[..., Any]], ...] = ()
        self._maps: tuple[Callable[..., Any], ...] = ()
        self._casts: Mapping[str, Cast] = {}
        self._class_map: ClassMap | None = None
        self.name_in_errors: str | None = None  # a combined dataset names its parts
        self._on_damage: OnDamage = on_damage
        self.store, self.quarantine = open_checked(self._path, self._remote, self._options, on_damage)
        self.fields: Projection = self.store.projection(self.store.shown_fields() if names is None else names)
        self.numbers: Numbers = kept_numbers(self.store, self.quarantine)
        self._update_processing()

    def _update_processing(self) -> None:
        self.processing = Processing.of(self.schema, self._decode, self._transforms, self._maps, self._casts)
        if self.is_ragged:
            self.fields = self.store.projection(list(self.schema), self.processing.ragged(self.schema))
        self._sample = self.store.sampler(self.fields)
        self._is_plain = self.processing.is_plain

    @property
    def schema(self) -> Schema:
        """The fields that are read, as stored."""
        return self.fields.schema

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The writer's metadata, such as `classes`."""
        return self.store.manifest.metadata

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def parts(self) -> tuple[ShardDataset, ...]:  # type: ignore[override]
        """This dataset alone."""
        return (self,)

    @overload
    def __getitem__(self, index: str) -> Any: ...
    @overload
    def __getitem__(self, index: slice | list[int] | list[bool] | npt.NDArray[Any]) -> Self: ...
    @overload
    def __getitem__(self, index: Any) -> Any: ...
    def __getitem__(self, index: Any) -> Any:
        if type(index) is not int and (not isinstance(index, _INTEGERS) or type(index) is bool):
            return super().__getitem__(index)
        try:
            number = self.numbers[index if type(index) is int else operator.index(index)]
        except IndexError:
            return super().__getitem__(index)  # raises the error
        number = number if type(number) is int else int(number)
        try:
            sample = self._sample(number)
        except CorruptError as error:
            error.at(dataset=self.name_in_errors)
            raise
        sample = sample if self._is_plain else self._processed(sample, number)
        return sample if self.tuple_fields is None else tuple(sample.values())

    __getitem__.__doc__ = DatasetView.__getitem__.__doc__

    def _slice(self, index: slice) -> Self:
        return self._with(numbers=self.numbers[index])

    def _sample_at(self, index: int) -> Any:
        return self[index]

    def _processed(self, sample: dict[str, Any], number: int) -> Any:
        numbers = np.array([number])
        return self.processing.sample(sample, self.origin(numbers, numbers))

    def samples_at(self, indices: Indices) -> list[Any]:
        """The samples at these non-negative indices, not as tuples yet."""
        numbers = self.numbers_of(indices)
        return self.processing.samples(self.read(numbers), self.origin(numbers, numbers))

    def origin(self, numbers: Indices, index: Indices, epoch_key: int | None = None) -> SampleOrigin:
        """The origin of these samples of the dataset, for the functions of the view and for errors."""
        return SampleOrigin(self.store, numbers, index, epoch_key, self.name_in_errors)

    def read(self, numbers: Indices) -> Columns:
        """These samples of the dataset, as stored. Raises CorruptError, StorageError."""
        try:
            return self.store.take(numbers, self.fields)
        except RecordIOError as error:
            error.at(dataset=self.name_in_errors)
            raise

    def located(self, error: RecordIOError, numbers: Indices) -> RecordIOError:
        """The error of a failed batch, with the location of its first damaged sample."""
        if isinstance(error, CorruptError):
            error = self.store.located(error, numbers, self.fields)
        return error.at(dataset=self.name_in_errors)

    def take(self, indices: Sequence[int] | npt.ArrayLike) -> Any:
        numbers = self.resolve(indices)
        return self.formed(self.processing.batch(self.read(numbers), self.origin(numbers, numbers)))

    take.__doc__ = DatasetView.take.__doc__

    def _columns(self, indices: Indices) -> Columns:
        numbers = self.numbers_of(indices)
        return self.processing.columns(self.read(numbers), self.origin(numbers, numbers))

    def resolve(self, indices: Sequence[int] | npt.ArrayLike) -> Indices:
        """The sample numbers at these indices of the view. Raises SchemaError, IndexError."""
        return self.numbers_of(self.checked_indices(indices))

    def numbers_of(self, indices: Indices) -> Indices:
        """The sample numbers at these non-negative indices of the view."""
        return numbers_at(self.numbers, indices)

    def pieces(self, indices: Indices) -> list[Piece]:
        return [Piece(self, indices, np.arange(len(indices)))]

    def plan(self, options: OrderOptions, epoch_key: int, share: RankShare) -> Plans:
        order = order_of(self.store.blocks, self.numbers, options, epoch_key, grows=True)
        return [window_plans(order, share)], None

    def _only(self, names: Sequence[str]) -> Self:
        return self._with(
            fields=self.store.projection(names), _transforms=(), _maps=(), tuple_fields=None, is_ragged=False
        )

    def _ragged(self) -> Self:
        return self._with(is_ragged=True)

    def _tuples(self, names: tuple[str, ...]) -> Self:
        if self._maps:
            return self._with(_maps=(*self._maps, partial(named_fields, names)), tuple_fields=names)
        return self._with(fields=self.store.projection(names), tuple_fields=names)

    def refresh(self) -> Self:
        """The dataset as it is now, with the same options, fields, transforms and maps.

        A dataset goes on with the version that was opened, in every process: samples that a writer appends are in the
        result of `refresh` alone. Raises SchemaError for a view, whose samples are chosen, and if a field has gone.
        """
        if not is_same(self.numbers, kept_numbers(self.store, self.quarantine)):
            raise SchemaError("this view has chosen samples: refresh the dataset that it is a view of")
        store, quarantine = open_checked(self._path, self._remote, self._options, self._on_damage)
        fields = store.projection(list(self.schema))
        numbers = kept_numbers(store, quarantine)
        return self._with(store=store, quarantine=quarantine, fields=fields, numbers=numbers)._with()

    def select(self, indices: Sequence[int] | npt.ArrayLike) -> Self:
        return self._with(numbers=chosen(self.numbers, self._checked(indices)))

    select.__doc__ = DatasetView.select.__doc__

    def transform(
        self,
        fields: Sequence[str] | Mapping[str, str] | None = None,
        function: Callable[..., Any] | None = None,
        /,
        **functions: Callable[..., Any],
    ) -> Self:
        """A view that applies a function to every value of each of these fields.

            ds.transform(image=Compose([RandomResizedCrop(224), RandomHorizontalFlip()]))
            ds.transform(("image", "mask"), Compose([RandomResizedCrop(224), RandomHorizontalFlip(), ToTensor()]))

        A function takes the value, and a numpy.random.Generator if it has a parameter `rng`. In a loader its numbers
        depend only on the seed, the epoch, the sample and the step. They are the same for each field, so an image and
        its mask are cropped and flipped alike, whatever functions draw between the built-in steps. Images arrive
        decoded; the transforms of `recordio.transforms` decode by themselves. Missing values stay missing. In a batch,
        arrays of one shape are stacked.

        One transform for several fields treats masks as such: the steps that move pixels take the nearest one, and
        those that change values (ToTensor, Normalize, your functions) are left out. Fields of one channel beside one of
        colour are masks; a dict says it: `{"scan": "image", "organ": "mask"}`.
        """
        if fields is not None:
            functions = function_by_field(self.schema, fields, function) | functions
        self.schema.select(list(functions))
        for name, one in functions.items():
            checked_function(one, name)
        return self._with(_transforms=(*self._transforms, *functions.items()))

    def map(self, function: Callable[..., Any]) -> Self:
        """A view that applies `function` to every sample. Batches are nested as its results, see `collate`.

        It runs after all transforms, and gets a generator as they do if it has a parameter `rng`.
        """
        before = () if self.tuple_fields is None else (as_tuple,)
        return self._with(_maps=(*self._maps, *before, checked_function(function)), tuple_fields=None)

    def _with_assigned(self, function: Any) -> Self:
        name, steps = assigned_steps(self.schema, function)
        others = [one for one in self._transforms if one[0] != name]
        return self._with(_transforms=(*others, *((name, step) for step in steps)))

    @property
    def class_map(self) -> ClassMap:
        """The classes of the labels, as `metadata` names them or as a combined dataset has mapped them."""
        if self._class_map is not None:
            return self._class_map
        classes = self.metadata.get("classes")
        return ClassMap(classes if isinstance(classes, list) else None)

    def as_part(self, casts: Mapping[str, Cast], class_map: ClassMap) -> Self:
        """The same samples with the types and labels of a combined dataset, and named in errors."""
        return self._with(_casts=casts, _class_map=class_map, name_in_errors=self._path)

    def __add__(self, other: DatasetView) -> ConcatDataset:
        """The samples of both, one dataset after the other."""
        return ConcatDataset([self, other])

    @lazy
    def fingerprint(self) -> str:
        """32 hex digits that identify the samples and their order, for the state of a loader."""
        numbers = self.numbers
        said = [str(numbers[:]).encode()] if isinstance(numbers, range) else (run.data for run in wide(numbers))
        return digest(chain([self.store.manifest_digest], said)).hex()

    def _with(self, **changes: Any) -> Self:
        out = object.__new__(type(self))
        out.__dict__.update(self.__dict__ | changes)
        if "numbers" in changes:
            out.__dict__.pop("fingerprint", None)
        else:
            out._update_processing()
        return out

    def __getstate__(self) -> dict[str, Any]:
        """Pickles the path, the options and the view; unpickling opens the files again."""
        left = ("store", "fields", "processing", "numbers", "_sample")
        state = {name: value for name, value in self.__dict__.items() if name not in left}
        return state | {
            # Whoever shares windows with this process must read the same pages in place.
            "_options": replace(self._options, io=self.store.io.kind),
            "numbers": packed(self.numbers),
            "version": version_of(self.store),
            "names": list(self.schema),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        version, names, numbers = (state.pop(name) for name in ("version", "names", "numbers"))
        self.__dict__.update(state)
        self.numbers = unpacked(numbers)
        self.store = open_version(self._path, self._remote, self._options, version)
        self.fields = self.store.projection(names)
        self._update_processing()

    def __repr__(self) -> str:
        shown = ("fields " if self.tuple_fields is None else "tuples of ") + ", ".join(self.tuple_fields or self.schema)
        return f"ShardDataset({self._path!r}, {len(self)} samples, {clean(shown)})"
