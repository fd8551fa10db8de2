"""An Arrow IPC file or stream, whose record batches are read one by one. Feather files of version 2 are such files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from recordio.errors import SourceError
from recordio.writer.sources.arrow_files import ArrowFile, Missing, children, ranges
from recordio.writer.sources.arrow_messages import Message, messages
from recordio.writer.sources.arrow_package import pyarrow, reading

_MAX_BATCH_NBYTES = 1 << 32  # it is read as a whole
_END_MARK = b"\xff\xff\xff\xff\0\0\0\0"


class IpcFile(ArrowFile):
    """An Arrow IPC file or stream."""

    def _open(self) -> None:
        found, marked = messages(self.read, self._size)
        if not found or not found[0].is_schema:
            raise SourceError("not an Arrow file: it does not begin with a schema")
        if not marked:
            self.notes = ("the stream has no mark at its end: rows may have been cut off",)
        self._head = self.read(found[0].offset, found[0].end - found[0].offset)
        with reading("not a readable Arrow file"):
            self.schema = pyarrow().ipc.read_schema(pyarrow().py_buffer(self._head))
        self._nodes = ranges([_node_count(field.type) for field in self.schema])
        self._batches: list[Message] = []
        self._dictionaries: list[tuple[Message, ...]] = []  # those that each batch needs
        known: tuple[Message, ...] = ()
        for message in found[1:]:
            if message.is_dictionary:
                kept = known if message.delta else [one for one in known if one.dictionary != message.dictionary]
                known = (*kept, message)
            else:
                self._batches.append(message)
                self._dictionaries.append(known)
        self._require_listed(found[0].offset > 0)
        self.rows = [batch.rows for batch in self._batches]
        self.nbytes = [batch.end - batch.body for batch in self._batches]
        whole = [one.dictionary for one in found if one.is_dictionary and not one.delta]
        self._replaced = len(set(whole)) < len(whole)
        self._missing_words = any(any(one.missing) for one in found if one.is_dictionary)

    def _require_listed(self, has_footer: bool) -> None:
        if has_footer:
            with reading("not a readable Arrow file"):
                listed = pyarrow().ipc.open_file(self._raw).num_record_batches
            if listed != len(self._batches):
                raise SourceError(f"its footer lists {listed} record batches, and there are {len(self._batches)}")
        nodes = self._nodes[-1][1] if self._nodes else 0
        if any(len(batch.missing) != nodes for batch in self._batches):
            raise SourceError("a record batch does not have the columns of the schema")

    def missing(self, column: int) -> Missing:
        first, end = self._nodes[column]
        whole = any(batch.missing[first] for batch in self._batches)
        inside = any(any(batch.missing[first + 1 : end]) for batch in self._batches)
        words = self._missing_words and _has_dictionary(self.schema.field(column).type)
        return Missing(whole or words, inside or words)

    def missing_child(self, column: int, child: int) -> bool | None:
        first = self._nodes[column][0]
        return any(batch.missing[first] or batch.missing[first + 1 + child] for batch in self._batches)

    def categories(self, column: str, most: int) -> list[Any] | None:
        """The values of a dictionary; None if there are more than `most`, or others meanwhile. Raises SourceError."""
        if not self._batches or self._replaced:
            return None
        (batch,) = self.steps(len(self._batches) - 1, [column])
        found = batch.column(0).dictionary
        with reading():
            return found.to_pylist() if len(found) <= most else None

    def steps(self, group: int, columns: Sequence[str] | None = None) -> Iterator[Any]:
        batch = self._batches[group]
        parts = [*self._dictionaries[group], batch]
        if sum(map(self._unpacked, parts)) > _MAX_BATCH_NBYTES:
            text = f"a record batch has more than {_MAX_BATCH_NBYTES >> 30} GiB: write it anew in smaller ones"
            raise SourceError(f"{text}, as max_chunksize= of pyarrow's write_table does")
        data = b"".join([self._head, *(self.read(one.offset, one.end - one.offset) for one in parts), _END_MARK])
        self.require_same()
        chosen = None if columns is None else [self.schema.get_field_index(name) for name in columns]
        with reading():
            ipc = pyarrow().ipc
            options = ipc.IpcReadOptions(use_threads=False, included_fields=chosen)
            found = ipc.open_stream(pyarrow().BufferReader(data), options=options).read_next_batch()
            found.validate(full=True)  # offsets of a stranger's file may lead anywhere
        yield found

    def _unpacked(self, message: Message) -> int:
        """The bytes of a body, unpacked: each compressed part begins with its length."""
        total = message.end - message.body
        for start, size in message.buffers:
            if size >= 8:
                nbytes = int.from_bytes(self.read(message.body + start, 8), "little", signed=True)
                total += max(nbytes, 0)
        return total


def _node_count(kind: Any) -> int:
    """How many arrays a value of this type is stored in."""
    pair = 1 if pyarrow().types.is_map(kind) else 0  # the struct of key and item
    return 1 + pair + sum(map(_node_count, children(kind)))


def _has_dictionary(kind: Any) -> bool:
    return bool(pyarrow().types.is_dictionary(kind)) or any(map(_has_dictionary, children(kind)))
