"""What a source is: an ordered list of samples that can be read by number, and what opens one.

Contract: a source lists its samples when it is made, in an order that depends on the input alone, and never again;
it pickles small, and reads any sample in any process afterwards. A sample that cannot be read is handed on as an
error in its place, so that the caller decides whether to stop or to skip.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import RecordIOError, SourceError
from recordio.format.schema import Sample, Schema

Item = tuple[str, Sample | RecordIOError]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What the kinds of source may be told.

    Attributes:
        part: "train" or "test", where one folder or archive holds both (MNIST, CIFAR).
        classes: the names of the class folders, in the order of their labels; None takes those that are there.
        embed: the columns of a table that name files whose contents take the name's place.
    """

    part: str | None = None
    classes: tuple[str, ...] | None = None
    embed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source that is not open yet; `notes` say what of the input is in no split."""

    path: str
    kind: str
    options: SourceOptions = SourceOptions()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells whether two sources are the same input.

    Attributes:
        content: digest of the names and sizes; a copy of the input elsewhere has the same one.
        times: digest of the times of the last change of each file.
        newest: the latest of them, in nanoseconds since the epoch. It also counts when links and folders on the way to
            the files came to be there. Not the modification time, which moved and unpacked files bring with them: see
            `recordio.writer.sources.times`.
    """

    content: bytes
    times: bytes
    newest: int


class Source(ABC):
    """An ordered list of samples.

    Attributes:
        kind: one of `recordio.writer.sources.KINDS`.
        schema: the schema that every readable sample fits.
        metadata: what the dataset says about itself, JSON.
        notes: what of the input is no part of any sample, in words.
    """

    kind: str
    schema: Schema
    metadata: dict[str, Any]
    notes: tuple[str, ...] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def nbytes(self) -> npt.NDArray[np.int64]:
        """An estimate of the stored bytes of each sample, shape (len,), int64."""

    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """What the input was when it was listed."""

    @abstractmethod
    def key(self, index: int) -> str:
        """The name of a sample for a person: a file's path, or "data.csv line 17"."""

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """One sample. Raises SourceError."""

    def read(self, indices: Iterable[int]) -> Iterator[Item]:
        """The key of each sample, and the sample, or the error that stands in its way."""
        for index in indices:
            key = self.key(index)
            result: Sample | RecordIOError
            try:
                result = self.sample(index)
            except SourceError as error:
                result = error.at(file=key)
            yield key, result
