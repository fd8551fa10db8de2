"""Every error that recordio raises, by cause.

    RecordIOError
    +-- CorruptError            the bytes are not what was written
    +-- UnsupportedError        the bytes are good, but this version cannot read them
    +-- SchemaError             a schema is wrong, or a sample or a request does not fit it
    +-- DatasetError            the folder is not a dataset, or is not free to become one
    +-- SourceError             an input of a conversion cannot be read
    +-- DecodeError             an image's bytes cannot be decoded
    +-- StorageError            the operating system refused a read or a write
    +-- WorkerError             a worker of a loader has failed, died or taken too long
    +-- MissingPackageError     an optional package is not installed

A message says the fault, then the place. The code that knows the place adds it, once, with `at()`:
`page checksum mismatch: stored 0x1a.., computed 0x99.. - shard-00003.rio, block 17, field 'image', byte 1048576`.
Names and texts in it may be a stranger's: a message is one printable line, and one more for each of several problems.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

from recordio.printable import clean

DISTRIBUTION = "recordio-shards"  # the name to install; `recordio` belongs to another project on the public index


@dataclass(frozen=True, slots=True)
class Place:
    """The location of a fault; unknown parts are None."""

    dataset: str | None = None
    file: str | None = None
    block: int | None = None
    field: str | None = None
    sample: int | str | None = None
    byte: int | None = None

    def __str__(self) -> str:
        words = {name: getattr(self, name) for name in self.__slots__}
        parts = [
            str(value) if name == "file" else f"{name} {value!r}" for name, value in words.items() if value is not None
        ]
        return ", ".join(parts)


class RecordIOError(Exception):
    """The root of the tree.

    Attributes:
        fault: what is wrong, in one line.
        place: where it is.
        problems: what it consists of, a line each, where there are several.
    """

    def __init__(self, fault: str, place: Place | None = None, problems: tuple[str, ...] = ()) -> None:
        super().__init__(fault)
        self.fault = fault
        self.place = place or Place()
        self.problems = problems

    def at(self, **where: Any) -> Self:
        """Fills in unknown parts of the place; known parts stay."""
        known = {f.name for f in fields(Place) if getattr(self.place, f.name) is not None}
        self.place = replace(self.place, **{k: v for k, v in where.items() if k not in known})
        return self

    def __str__(self) -> str:
        where = clean(str(self.place))
        said = f"{clean(self.fault)} - {where}" if where else clean(self.fault)
        return "\n  ".join((said, *map(clean, self.problems)))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.fault, self.place, self.problems)


class CorruptError(RecordIOError):
    """The bytes are not what was written: damaged, cut, mixed up or forged."""


class UnsupportedError(RecordIOError):
    """The bytes are good, but need a feature or a version that this reader does not have."""


class SchemaError(RecordIOError, ValueError):
    """A schema is wrong, or a sample, a field name or an argument does not fit it."""


class DatasetError(RecordIOError):
    """The folder is not a dataset, or is not free to become one."""


class SourceError(RecordIOError):
    """An input of a conversion cannot be read or understood."""


class DecodeError(RecordIOError):
    """The bytes of an image cannot be decoded."""


class StorageError(RecordIOError, OSError):
    """The operating system refused a read or a write; the cause is chained."""


class WorkerError(RecordIOError, RuntimeError):
    """A worker of a loader has failed, died or taken too long; the message says which and why."""


class MissingPackageError(RecordIOError, ImportError):
    """An optional package is not installed; the message names the `pip install` that helps."""

    @classmethod
    def needed(cls, what: str, package: str, extra: str, error: ImportError) -> Self:
        """The error of `what` (in the plural) without a package of the extra.

        Where this project is installed already, the command takes the extra from there and no index is asked for it.
        """
        name = package.partition(".")[0]
        return cls(f"{what} need the package {name} ({error}): pip install '{DISTRIBUTION}[{extra}]'")
