"""A Parquet file, of which row groups are read step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from recordio.errors import SourceError
from recordio.packages import pyarrow
from recordio.writer.sources.arrow.arrow_files import ArrowFile, Missing, checked_schema, children, longest, ranges
from recordio.writer.sources.arrow.parquet_footer import BYTE_ARRAY, INT96, Leaf, ParquetFooter, dictionary_nbytes
from recordio.writer.sources.foreign_errors import reading

_STEP_NBYTES = 32 << 20
_MOST_STEP_NBYTES = 256 << 20  # where long values stand in few bytes
_STEP_ROWS = 1 << 16
_READ_AHEAD = 1 << 20
_NUMBER = 4  # bytes of a number of a word


class ParquetFile(ArrowFile):
    """A Parquet file."""

    def _open(self) -> None:
        self._footer = ParquetFooter.read(self.read, self._size)
        with reading("not a readable Parquet file"):
            self._file = self._parquet(None)
            self.schema = checked_schema(self._file.schema_arrow)
        self._files: dict[tuple[str, ...], Any] = {(): self._file}
        self._leaves = ranges([_leaf_count(field.type) for field in self.schema])
        if (self._leaves[-1][1] if self._leaves else 0) != len(self._footer.leaves):
            raise SourceError("its two schemas, of Parquet and of Arrow, do not agree")
        self.rows = [group.rows for group in self._footer.groups]
        self.nbytes = [group.nbytes for group in self._footer.groups]
        if old := [".".join(leaf.path) for leaf in self._footer.leaves if leaf.type == INT96]:
            text = "are read as nanoseconds: years before 1678 and after 2261 would come out wrong"
            self.notes = (f"the old timestamps of Impala and Spark in {', '.join(old[:5])} {text}",)

    def _parquet(self, metadata: Any, as_dictionary: Sequence[str] = ()) -> Any:
        parquet = pyarrow().parquet
        return parquet.ParquetFile(
            self._raw,
            metadata=metadata,
            read_dictionary=list(as_dictionary),
            buffer_size=_READ_AHEAD,  # else whole columns of a group are read at once
            page_checksum_verification=True,
        )

    def missing(self, column: int) -> Missing:
        first, end = self._leaves[column]
        counts = [self._missing_in(leaf) for leaf in range(first, end)]
        inside = None if None in counts else any(counts)
        if 0 in counts:  # a value that is missing is missing in all its leaves
            return Missing(False, inside)
        nested = self._footer.leaves[first].repeated or end - first > 1
        return Missing(None if nested else inside, None if nested else False)

    def missing_child(self, column: int, child: int) -> bool | None:
        found = self._missing_in(self._leaves[column][0] + child)
        return None if found is None else found > 0

    def _missing_in(self, leaf: int) -> int | None:
        """The missing values of a leaf by its statistics. Empty lists count as well."""
        counts = [group.chunks[leaf].missing for group in self._footer.groups]
        return None if None in counts else sum(filter(None, counts))

    def steps(self, group: int, columns: Sequence[str] | None = None) -> Iterator[Any]:
        left = self.rows[group]
        with reading():
            size, file = self._step_rows(group), self._with_words_apart(group)
            found = file.iter_batches(size, row_groups=[group], columns=columns, use_threads=False)
        while left > 0:
            with reading():
                batch = next(found, None)
            self.require_same()
            if batch is None or batch.num_rows > left:
                raise SourceError(f"a row group does not have the {self.rows[group]} rows that its footer says")
            left -= batch.num_rows
            yield batch

    def _with_words_apart(self, group: int) -> Any:
        """The file, read so that lists of long words stay numbers in a dictionary: all may be in one row.

        What is made of them later is made of a few rows at a time.
        """
        leaves = enumerate(self._footer.leaves)
        chosen = tuple(".".join(leaf.path) for number, leaf in leaves if self._keeps_apart(group, number, leaf))
        if chosen not in self._files:
            self._files[chosen] = self._parquet(self._file.metadata, chosen)
        return self._files[chosen]

    def _keeps_apart(self, group: int, number: int, leaf: Leaf) -> bool:
        if not leaf.repeated or leaf.type != BYTE_ARRAY:
            return False
        return self._footer.groups[group].chunks[number].values * self._words(group, number) > _MOST_STEP_NBYTES

    def _words(self, group: int, number: int) -> int:
        """The bytes of the dictionary of a leaf, 0 without one."""
        return dictionary_nbytes(self.read(self._footer.groups[group].chunks[number].start, 32))

    def _step_rows(self, group: int) -> int:
        """How many rows may be decoded at a time.

        A long value may stand in a dictionary once and in the rows a million times, and a number once for a run of
        them, so the sizes that the footer gives are no bound.
        """
        rows = min(_STEP_ROWS, _STEP_NBYTES * self.rows[group] // max(self.nbytes[group], 1))
        for number, leaf in enumerate(self._footer.leaves):
            in_a_row = -(-self._footer.groups[group].chunks[number].values // max(self.rows[group], 1))
            width = self._longest(group, number, rows) if leaf.width is None else leaf.width
            rows = min(rows, _MOST_STEP_NBYTES // max(width * in_a_row, 1))
        return max(rows, 1)

    def _longest(self, group: int, number: int, rows: int) -> int:
        """The bytes of the longest value in the dictionary of a leaf, or a bound that serves as well; 0 without one."""
        leaf = self._footer.leaves[number]
        if self._keeps_apart(group, number, leaf):
            return _NUMBER
        nbytes = self._words(group, number)
        if nbytes * rows <= _MOST_STEP_NBYTES or len(leaf.path) > 1:
            return nbytes
        (name,) = leaf.path
        probe = self._parquet(self._file.metadata, [name])
        (array,) = next(probe.iter_batches(1, row_groups=[group], columns=[name], use_threads=False)).columns
        return longest(array.dictionary) if pyarrow().types.is_dictionary(array.type) else nbytes


def _leaf_count(kind: Any) -> int:
    inside = children(kind)
    return sum(map(_leaf_count, inside)) if inside else 1
