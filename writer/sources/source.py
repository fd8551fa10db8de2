"""The interface of a source: an ordered list of samples, read by number.

Contract: a source lists its samples once, when it is made, in an order that depends on the input alone. It pickles
small, and reads any sample in any process. For an unreadable sample it yields the error, so that the caller decides
whether to stop or to skip.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import RecordIOError, SchemaError, SourceError
from recordio.format.fields import Text
from recordio.format.schema import Columns, Sample, Schema
from recordio.images.prepare import PictureKind
from recordio.writer.sources.foreign_errors import as_ours
from recordio.writer.sources.tables.table_options import DEFAULT, TableOptions

NAME = "file"  # the field of names that `with_names` adds
Item = tuple[str, Sample | RecordIOError]
Output = tuple[int, str, Sample | RecordIOError | None]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Options of a source; each kind uses its own.

    Attributes:
        part: "train" or "test", where one folder or archive holds both (MNIST, CIFAR).
        classes: names of the class folders in the order of their labels; None uses the folders found.
        embed: columns of a table that name files; the contents replace the names.
        root: the folder that the names in a table count from; None for the table's own.
        names: the column of a table beside files that names them; None looks for it.
        forced: whether the caller named the kind, so that files which it does not explain are taken as they are.
        table: how a table is read.
        masks: fields whose pictures are masks: values, not colours.
        mode: what pictures are read as; None looks.
        files: the files of a source of several, as paths below the folder, in order; () is the path itself.
        folder: the Folder that was listed to recognise the source, if it need not be listed again.
    """

    part: str | None = None
    classes: tuple[str, ...] | None = None
    embed: tuple[str, ...] = ()
    root: str | None = None
    names: str | None = None
    forced: bool = False
    table: TableOptions = DEFAULT
    masks: tuple[str, ...] = ()
    mode: str | None = None
    files: tuple[str, ...] = ()
    folder: object = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source that is not open yet. `notes` name input that is in no split; `given` is a source of Python objects."""

    path: str
    kind: str
    options: SourceOptions = SourceOptions()
    notes: tuple[str, ...] = ()
    given: Source | None = None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Tells whether two sources are the same input.

    Attributes:
        content: digest of the names and sizes; a copy of the input elsewhere has the same one.
        state: digest of the times and the inode of each file (`stamp` in files.py), which a copy does not share.
        known: False where it cannot be told whether the input is as it was.
    """

    content: bytes
    state: bytes
    known: bool = True

    @classmethod
    def joined(cls, parts: Iterable[Fingerprint]) -> Fingerprint:
        """That of an input of several parts, in order."""
        content, state, known = xxhash.xxh3_128(), xxhash.xxh3_128(), True
        for part in parts:
            content.update(part.content)
            state.update(part.state)
            known = known and part.known
        return cls(content.digest(), state.digest(), known)


class Source(ABC):
    """An ordered list of samples.

    Attributes:
        kind: one of `recordio.writer.sources.KINDS`, or "python".
        schema: the schema that every readable sample fits.
        rules: what else shapes every sample, JSON: the digest of a function.
        metadata: what the dataset says about itself, JSON.
        notes: what of the input is no part of any sample, in words.
        nameless: whether samples are made of files, and nothing in them says of which.
        boxed: whether samples have boxes or outlines in their pictures.
        fragile: whether the library that reads samples may crash on a false file, so that no process but a worker's own
            should do it.
        pictures: how the pictures of each field are treated; a field that is not named holds photographs. Samples hold
            the bytes of any file that Pillow reads: a conversion makes of them what the field stores.
        named: the format that the name of every picture of a field tells, for fields where they all tell the same.
    """

    kind: str
    schema: Schema
    metadata: dict[str, Any]
    rules: Mapping[str, Any] = MappingProxyType({})
    notes: tuple[str, ...] = ()
    nameless: bool = False
    boxed: bool = False
    fragile: bool = False
    pictures: Mapping[str, PictureKind] = MappingProxyType({})
    named: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def nbytes(self) -> npt.NDArray[np.int64]:
        """An estimate of the stored bytes of each sample, shape (len,), int64."""

    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """What the input was when it was listed."""

    def input_digest(self, indices: npt.NDArray[np.int64]) -> bytes | None:
        """Tells whether these samples are read from the same input as before, at little cost.

        Covers, in order, all that they depend on besides kind, schema and metadata: names, sizes and stamps of files,
        the bytes of rows, and the keys. None where that cannot be told. Raises SourceError.
        """
        return None

    @abstractmethod
    def key(self, index: int) -> str:
        """The name of a sample for display: a file's path, or "data.csv line 17"."""

    def file(self, index: int, field: str) -> str:
        """The name for display of the file that a field of a sample is from."""
        return self.key(index)

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """One sample. Raises SourceError."""

    def read(self, indices: Iterable[int]) -> Iterator[Item]:
        """The key of each sample, with the sample or the error from reading it."""
        for index in indices:
            key = self.key(index)
            result: Sample | RecordIOError
            try:
                result = self.sample(index)
            except SourceError as error:
                result = error.at(file=key)
            except (RecordIOError, MemoryError):
                raise
            except Exception as error:
                found = as_ours(error)
                if not isinstance(found, SourceError):
                    raise found from error
                result = found.at(file=key)
            yield key, result

    def batches(self, indices: npt.NDArray[np.int64]) -> Iterator[Columns] | None:
        """The same samples as `read` gives, as columns, a bounded number at a time; None where it has none to offer.

        A batch is what `DatasetWriter.write_batch` takes, and packs to the same bytes as its samples. Far faster where
        the input has columns itself. Raises SourceError while it is iterated for a sample that cannot be read: `read`
        says which.
        """
        return None

    def outputs(self, indices: Sequence[int]) -> Iterator[Output]:
        """What a dataset takes of these samples: (position in `indices`, key, sample or error).

        One of each, but for a function of the caller's, which may make several of an input, or none: then None once.
        """
        for position, (key, item) in zip(range(len(indices)), self.read(indices), strict=True):
            yield position, key, item

    def with_names(self) -> Source:
        """The same samples with a field more, `file`: the name of the file that a sample was read from.

        Raises SchemaError if there is such a field already.
        """
        return _Named(self)


class Derived(Source):
    """The samples of another source, changed. A subclass sets the schema and implements `sample`, or more."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.kind, self.metadata, self.notes = source.kind, source.metadata, source.notes
        self.boxed, self.fragile = source.boxed, source.fragile
        self.rules, self.pictures = dict(source.rules), dict(source.pictures)  # the defaults do not pickle
        self.named = dict(source.named)

    def __len__(self) -> int:
        return len(self._source)

    def nbytes(self) -> npt.NDArray[np.int64]:
        return self._source.nbytes()

    def fingerprint(self) -> Fingerprint:
        return self._source.fingerprint()

    def input_digest(self, indices: npt.NDArray[np.int64]) -> bytes | None:
        return self._source.input_digest(indices)

    def key(self, index: int) -> str:
        return self._source.key(index)

    def file(self, index: int, field: str) -> str:
        return self._source.file(index, field)


class _Named(Derived):
    """A source with the name of each sample as the field `file`."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.schema = with_name_fields(source.schema, {NAME: Text(optional=True)})

    def sample(self, index: int) -> Sample:
        return {**self._source.sample(index), NAME: self.key(index)}

    def read(self, indices: Iterable[int]) -> Iterator[Item]:
        for key, found in self._source.read(indices):
            yield key, found if isinstance(found, RecordIOError) else {**found, NAME: key}

    def batches(self, indices: npt.NDArray[np.int64]) -> Iterator[Columns] | None:
        found = self._source.batches(indices)
        return None if found is None else self._named(indices, found)

    def _named(self, indices: npt.NDArray[np.int64], batches: Iterator[Columns]) -> Iterator[Columns]:
        start = 0
        for columns in batches:
            end = start + len(next(iter(columns.values())))
            yield {**columns, NAME: [self.key(index) for index in indices[start:end].tolist()]}
            start = end

    def outputs(self, indices: Sequence[int]) -> Iterator[Output]:
        for position, key, found in self._source.outputs(indices):
            yield position, key, {**found, NAME: key} if isinstance(found, Mapping) else found


def with_name_fields(schema: Schema, names: dict[str, Text]) -> Schema:
    """The schema with these fields more. Raises SchemaError if one is there already."""
    for name in names:
        if name in schema.fields:
            raise SchemaError("keep_names (--keep-names) would add a field of this name, and there is one").at(
                field=name
            )
    return Schema(dict(schema.fields) | names)
