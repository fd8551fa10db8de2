"""A Parquet file, of which row groups are read step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from recordio.errors import SourceError
from recordio.writer.sources.arrow_files import ArrowFile, Missing, children, longest, ranges
from recordio.writer.sources.arrow_package import pyarrow, reading

_STEP_NBYTES = 32 << 20
_MOST_STEP_NBYTES = 256 << 20  # where long values stand in few bytes
_STEP_ROWS = 1 << 16
_READ_AHEAD = 1 << 20


class ParquetFile(ArrowFile):
    """A Parquet file."""

    def _open(self) -> None:
        with reading("not a readable Parquet file"):
            self._file = self._parquet(None)
            self.schema = self._file.schema_arrow
        about = self._file.metadata
        self._groups = [about.row_group(number) for number in range(about.num_row_groups)]
        self._leaves = ranges([_leaf_count(field.type) for field in self.schema])
        if self._leaves and self._leaves[-1][1] != about.num_columns:
            raise SourceError("its two schemas, of Parquet and of Arrow, do not agree")
        self.rows = [group.num_rows for group in self._groups]
        self.nbytes = [max(group.total_byte_size, 0) for group in self._groups]
        if sum(self.rows) != about.num_rows:
            raise SourceError(f"its row groups have {sum(self.rows)} rows, its footer says {about.num_rows}")
        leaves = map(self._file.schema.column, range(about.num_columns))
        if old := [leaf.path for leaf in leaves if leaf.physical_type == "INT96"]:
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
        nested = self._file.schema.column(first).max_repetition_level > 0 or end - first > 1
        return Missing(None if nested else inside, None if nested else False)

    def missing_child(self, column: int, child: int) -> bool | None:
        found = self._missing_in(self._leaves[column][0] + child)
        return None if found is None else found > 0

    def _missing_in(self, leaf: int) -> int | None:
        """The missing values of a leaf by its statistics. Empty lists count as well."""
        total = 0
        for group in self._groups:
            found = group.column(leaf).statistics
            if found is None or not found.has_null_count:
                return None
            total += found.null_count
        return total

    def steps(self, group: int, columns: Sequence[str] | None = None) -> Iterator[Any]:
        left = self.rows[group]
        with reading():
            size = self._step_rows(group)
            found = self._file.iter_batches(size, row_groups=[group], columns=columns, use_threads=False)
        while left > 0:
            with reading():
                batch = next(found, None)
            self.require_same()
            if batch is None or batch.num_rows > left:
                raise SourceError(f"a row group does not have the {self.rows[group]} rows that its footer says")
            left -= batch.num_rows
            yield batch

    def _step_rows(self, group: int) -> int:
        """How many rows may be decoded at a time.

        A long value may stand in a dictionary once and in the rows a million times, so the sizes that the footer gives
        are no bound.
        """
        rows = min(_STEP_ROWS, _STEP_NBYTES * self.rows[group] // max(self.nbytes[group], 1))
        for leaf in range(self._file.metadata.num_columns):
            if self._file.schema.column(leaf).physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"):
                rows = min(rows, _MOST_STEP_NBYTES // max(self._longest(group, leaf, rows), 1))
        return max(rows, 1)

    def _longest(self, group: int, leaf: int, rows: int) -> int:
        """The bytes of the longest value in the dictionary of a leaf, or a bound that serves as well; 0 without one."""
        chunk = self._groups[group].column(leaf)
        starts = (chunk.dictionary_page_offset, chunk.data_page_offset)
        nbytes = _dictionary_nbytes(self.read(min(start for start in starts if start), 32))
        if nbytes * rows <= _MOST_STEP_NBYTES or self._file.schema.column(leaf).max_repetition_level:
            return nbytes
        name = self._file.schema.column(leaf).path
        probe = self._parquet(self._file.metadata, [name])
        (batch,) = next(probe.iter_batches(1, row_groups=[group], columns=[name], use_threads=False)).columns
        while pyarrow().types.is_struct(batch.type) and batch.type.num_fields:
            batch = batch.field(0)
        if not pyarrow().types.is_dictionary(batch.type):
            return nbytes
        return longest(batch.dictionary)


def _dictionary_nbytes(head: bytes) -> int:
    """The bytes of the dictionary that a column begins with, 0 if it begins with values.

    The header of a page is Thrift's compact encoding: its kind and its unpacked size come first, each behind 0x15.
    """
    numbers, at = [], 0
    for _ in range(2):
        if head[at : at + 1] != b"\x15":
            return 0  # no header: reading the column says so
        number = shift = 0
        at += 1
        while at < len(head) and head[at] & 0x80:
            number |= (head[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
        number |= (head[at] if at < len(head) else 0) << shift
        numbers.append(number >> 1)  # zigzag, never negative here
        at += 1
    return numbers[1] if numbers[0] == 2 else 0


def _leaf_count(kind: Any) -> int:
    inside = children(kind)
    return sum(map(_leaf_count, inside)) if inside else 1
