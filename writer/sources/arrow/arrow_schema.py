"""The columns of a table of Arrow in one file or several, as they come to be known file by file, and what they mean."""

from __future__ import annotations

from typing import Any

from recordio.errors import SourceError
from recordio.format.fields import Object, Text
from recordio.packages import pyarrow
from recordio.writer.sources.arrow.arrow_columns import has_missing_inside
from recordio.writer.sources.arrow.arrow_files import ArrowFile
from recordio.writer.sources.arrow.arrow_types import Column, as_object, column_of
from recordio.writer.sources.arrow.hf_features import Feature, features_in
from recordio.writer.sources.arrow.ipc_file import IpcFile

_LABEL = "label"  # the field whose classes are metadata["classes"]
_MOST_CATEGORIES = 10_000
_KNOWN_METADATA = (b"huggingface", b"pandas", b"ARROW:schema")
_SHOWN = 5


class TableColumns:
    """The columns of all files that were seen: equal types, optional where any file has missing values.

    Attributes:
        features: what datasets says about the columns, by name.
        external: the columns of files that may name files elsewhere.
    """

    def __init__(self, features: dict[str, Feature] | None = None) -> None:
        self.features = features or {}
        self.external: set[str] = set()
        self._columns: dict[str, Column] = {}
        self._notes: list[str] = []
        self._first = ""
        self._categories: dict[str, list[str] | None] = {}
        self.least_row_nbytes = 1

    def see(self, file: ArrowFile, name: str) -> None:
        """Takes in the columns of a file. Raises SourceError where they are not those of the files before."""
        self._take_metadata(file.schema.metadata)
        self._add_notes(f"{name}: {note}" for note in file.notes)
        fields = list(file.schema)
        names = [about.name for about in fields]
        twice = [one for one in names if names.count(one) > 1] if len(set(names)) < len(names) else []
        if twice:
            raise SourceError(f"two columns are called {twice[0]!r}")
        found = {about.name: self._column(file, number) for number, about in enumerate(fields)}
        if not self._columns:
            self._first, self._columns = name, found
            self.least_row_nbytes = max(1, sum(_least_nbytes(about.type) for about in fields))
            return
        for missing in set(found) ^ set(self._columns):
            has, has_not = (name, self._first) if missing in found else (self._first, name)
            raise SourceError(f"{has} has the column {missing!r}, and {has_not} has not")
        for one in names:
            self._columns[one] = self._agreed(self._columns[one], found[one], name)

    def _agreed(self, old: Column, new: Column, name: str) -> Column:
        """One column for two files. Types are not widened: what is read is what was written."""
        if "nothing" in (old.role, new.role):
            return (new if old.role == "nothing" else old).optionally(True)
        optional = old.field.optional or new.field.optional
        if old.arrow == new.arrow and isinstance(new.field, Object):
            old = new  # lists in which values are missing, in one of the files
        elif old.arrow == new.arrow and isinstance(old.field, Object):
            new = old
        if old.optionally(True).field != new.optionally(True).field or (old.kept and old.arrow != new.arrow):
            text = f"the column {new.name!r} is {new.arrow} in {name} and {old.arrow} in {self._first}"
            raise SourceError(f"{text}: write one of them anew with the type of the other")
        return old.optionally(optional)

    def _column(self, file: ArrowFile, number: int) -> Column:
        about = file.schema.field(number)
        column = column_of(about, self.features.get(about.name))
        missing = file.missing(number)
        if column.role == "file":
            names = [about.type.field(k).name for k in range(2)]
            if file.missing_child(number, names.index("bytes")) is not False:
                self.external.add(column.name)
                return column.optionally(True)
            return column
        if column.role == "nothing":
            return column.optionally(True)
        whole = missing.whole
        if column.lists and missing.inside is not False:
            whole, inside = _looked_up(file, about.name)
            column = as_object(about) if inside else column
        self._see_categories(file, number)
        return column.optionally(about.nullable and whole is not False)

    def _see_categories(self, file: ArrowFile, number: int) -> None:
        """Keeps the values of a dictionary of text, if all files have the same."""
        about = file.schema.field(number)
        if not isinstance(file, IpcFile) or not pyarrow().types.is_dictionary(about.type):
            return
        found = file.categories(about.name, _MOST_CATEGORIES)
        known = self._categories.setdefault(about.name, found)
        self._categories[about.name] = known if known == found else None

    def _take_metadata(self, metadata: Any) -> None:
        try:
            self.features = features_in(metadata) | self.features
        except (ValueError, AttributeError) as error:
            self._add_notes([f"what it says about features for datasets cannot be read: {error}"])
        others = sorted(key.decode("utf-8", "replace") for key in metadata or {} if key not in _KNOWN_METADATA)
        if others:
            self._add_notes([f"left out, of the files' own metadata: {_listed(others)}"])

    def _add_notes(self, notes: Any) -> None:
        self._notes += [note for note in notes if note not in self._notes]

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    @property
    def files(self) -> list[str]:
        """The columns that hold files."""
        return [column.name for column in self._columns.values() if column.role == "file"]

    def settled(self) -> tuple[Column, ...]:
        """The columns, once all files were seen. Raises SourceError without any."""
        if not self._columns:
            raise SourceError("there are no columns")
        return tuple(self._columns.values())

    def metadata(self) -> dict[str, Any]:
        """The names of classes and categories, and the types of Arrow that say more than the fields."""
        found: dict[str, Any] = {}
        for name, column in self._columns.items():
            names = self.features[name].names if name in self.features else ()
            if names:
                found["classes" if name == _LABEL else f"{name}_classes"] = list(names)
            if (categories := self._categories.get(name)) and isinstance(column.field, Text):
                found[f"{name}_categories"] = categories
        if kept := {name: column.arrow for name, column in self._columns.items() if column.kept}:
            found["arrow_types"] = kept
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided, where another might have been meant."""
        kept = [column for column in self._columns.values() if column.kept]
        texts = {
            "stored as the integers that Arrow stores for them, in the unit of their type": [
                one for one in kept if not isinstance(one.field, (Object, Text))
            ],
            "stored as text, with every digit": [one for one in kept if isinstance(one.field, Text)],
            "stored as objects": [one for one in kept if isinstance(one.field, Object)],
        }
        notes = [
            f"{_with_types(found)}: {text}; metadata['arrow_types'] keeps the types"
            for text, found in texts.items()
            if found
        ]
        if empty := [repr(column.name) for column in self._columns.values() if column.role == "nothing"]:
            notes.append(f"nothing stands in any row of {_listed(empty)}")
        if index := [repr(name) for name in self._columns if name.startswith("__index_level_")]:
            notes.append(f"the index of a pandas table is kept as a column: {_listed(index)}")
        return (*self._notes, *notes)


def _looked_up(file: ArrowFile, name: str) -> tuple[bool, bool]:
    """Whether lists are missing, and whether values in them are, by reading the column."""
    whole = inside = False
    for group in range(len(file.rows)):
        for batch in file.steps(group, [name]):
            array = batch.column(name)
            whole |= bool(array.null_count)
            inside = inside or has_missing_inside(array)
    return whole, inside


def _least_nbytes(kind: Any) -> int:
    """The bytes that a value takes at least, in memory."""
    try:
        return int(kind.bit_width + 7) // 8
    except ValueError:  # a type of any width
        return 8


def _with_types(columns: list[Column]) -> str:
    return _listed([f"{column.name!r} ({column.arrow[:60]})" for column in columns])


def _listed(texts: list[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more
