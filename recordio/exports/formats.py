"""What a format is, for `recordio.export`: how a part of the samples becomes files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from recordio.errors import DatasetError, SchemaError
from recordio.format.fields import Field
from recordio.format.image_field import Image
from recordio.format.numeric import Numeric, Scalar
from recordio.format.schema import Columns, Schema
from recordio.reader.columns import uncollate
from recordio.reader.joining import LABEL


@dataclass(frozen=True, slots=True)
class ExportPart:
    """Samples `start` to `stop` of all `samples`, which become the files of part `number` of `parts`."""

    number: int
    parts: int
    start: int
    stop: int
    samples: int

    def name(self, extension: str) -> str:
        """The name of the part's file, as Hugging Face numbers them: data-00000-of-00012.parquet."""
        return f"data-{self.number:05}-of-{self.parts:05}{extension}"


class Format(Protocol):
    """A format, made for the samples of a view; it is pickled. Its constructor raises SchemaError.

    Attributes:
        notes: what is not in the files, in words.
    """

    notes: tuple[str, ...]

    def begin(self, folder: Path, samples: int) -> None:
        """Prepares an empty folder for so many samples."""

    def write(self, folder: Path, part: ExportPart, chunks: Iterator[Columns]) -> Any:
        """Writes the files of a part; parts may come in any order, from any process. Raises SchemaError, OSError.

        Returns what `finish` has to know of it; it is pickled.
        """

    def finish(self, folder: Path, written: Sequence[Any]) -> None:
        """Writes what tells of all parts, in order."""


def numbered_chunks(part: ExportPart, chunks: Iterator[Columns]) -> Iterator[tuple[int, Columns]]:
    """The chunks of a part, each with the index of its first sample."""
    start = part.start
    for columns in chunks:
        yield start, columns
        start += len(next(iter(columns.values())))


def numbered_rows(part: ExportPart, chunks: Iterator[Columns]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The samples of a part with their indices. A missing value is None."""
    for start, columns in numbered_chunks(part, chunks):
        yield from enumerate(uncollate(columns, len(next(iter(columns.values())))), start)


def missing(form: str, index: int, field: str) -> SchemaError:
    """The error of a value that is missing where a format has nothing to say so."""
    return SchemaError(
        f"{form} has no missing values, and there is one: leave such samples out with filter, or the field with fields="
    ).at(field=field, sample=index)


def refuse(form: str, schema: Schema, names: Sequence[str], advice: str) -> None:
    """Raises SchemaError if any field is named: those that a format cannot hold."""
    if names:
        fields = ", ".join(f"{name} ({schema[name]})" for name in names)
        raise SchemaError(f"{form} cannot hold {fields}: {advice}")


def is_encoded(kind: Field) -> bool:
    """Whether a field holds the bytes of picture files."""
    return isinstance(kind, Image) and kind.encoded


def numeric_fields(schema: Schema) -> dict[str, Numeric]:
    """The fields that hold numbers: scalars, arrays and plain pixels."""
    return {n: kind for n, kind in schema.items() if isinstance(kind, Numeric) and not is_encoded(kind)}


def class_notes(schema: Schema, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Says that a format keeps labels and not the names of their classes."""
    classes = metadata.get("classes")
    if LABEL not in schema or not isinstance(classes, list):
        return ()
    return ("the names of the classes are in no file: labels are their numbers, from 0 on, in metadata['classes']",)


def is_number(kind: Field) -> bool:
    """Whether a field is a single number that is not complex."""
    return isinstance(kind, Scalar) and kind.dtype.kind != "c"


def class_of(classes: Sequence[Any], label: Any, index: int) -> Any:
    """The class of a label. Raises DatasetError for one that has none."""
    if not 0 <= label < len(classes):
        raise DatasetError(f"the label {label} is not one of the {len(classes)} classes").at(field=LABEL, sample=index)
    return classes[label]
