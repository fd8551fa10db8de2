"""An Arrow IPC file or stream, whose record batches are read one by one. Feather files of version 2 are such files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from recordio.errors import SourceError
from recordio.packages import pyarrow
from recordio.writer.sources.arrow.arrow_files import ArrowFile, Missing, checked_schema, children, ranges
from recordio.writer.sources.arrow.arrow_messages import Message, file_messages, is_file, stream_messages
from recordio.writer.sources.foreign_errors import reading

_MAX_BATCH_NBYTES = 1 << 32  # it is read as a whole
_END_MARK = b"\xff\xff\xff\xff\0\0\0\0"


class IpcFile(ArrowFile):
    """An Arrow IPC file or stream."""

    def _open(self) -> None:
        self._is_file = is_file(self.read)
        if self._is_file:
            dictionaries, batches = file_messages(self.read, self._size)
            needed = [tuple(dictionaries)] * len(batches)
        else:
            dictionaries, batches, needed = self._open_stream()
        self._batches, self._needed = batches, needed
        self._reader: Any = None
        with reading("not a readable Arrow file"):
            ipc = pyarrow().ipc
            head = None if self._is_file else pyarrow().py_buffer(self._head)
            self.schema = checked_schema(ipc.read_schema(head) if head else ipc.open_file(self._raw).schema)
        self._nodes = ranges([_node_count(field.type) for field in self.schema])
        nodes = self._nodes[-1][1] if self._nodes else 0
        if any(len(batch.missing) != nodes for batch in self._batches):
            raise SourceError("a record batch does not have the columns of the schema")
        self.rows = [batch.rows for batch in self._batches]
        self.nbytes = [batch.end - batch.body for batch in self._batches]
        whole = [one.dictionary for one in dictionaries if not one.delta]
        self._replaced = len(set(whole)) < len(whole)
        self._missing_words = any(any(one.missing) for one in dictionaries)

    def _open_stream(self) -> tuple[list[Message], list[Message], list[tuple[Message, ...]]]:
        """The dictionaries and the batches of a stream, and what each needs: a later dictionary may replace another."""
        found, marked = stream_messages(self.read, self._size)
        if not found or not found[0].is_schema:
            raise SourceError("not an Arrow file: it does not begin with a schema")
        if not marked:
            self.notes = ("the stream has no mark at its end: rows may have been cut off",)
        self._head = self.read(found[0].offset, found[0].end - found[0].offset)
        batches: list[Message] = []
        needed: list[tuple[Message, ...]] = []
        known: tuple[Message, ...] = ()
        for message in found[1:]:
            if message.is_dictionary:
                kept = known if message.delta else [one for one in known if one.dictionary != message.dictionary]
                known = (*kept, message)
            else:
                batches.append(message)
                needed.append(known)
        return [message for message in found if message.is_dictionary], batches, needed

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
        parts = [*self._needed[group], batch]
        if sum(map(self._unpacked, parts)) > _MAX_BATCH_NBYTES:
            text = f"a record batch has more than {_MAX_BATCH_NBYTES >> 30} GiB: write it anew in smaller ones"
            raise SourceError(f"{text}, as max_chunksize= of pyarrow's write_table does")
        self.require_same()
        chosen = None if columns is None else [self.schema.get_field_index(name) for name in columns]
        with reading():
            found = self._decoded(group, parts, chosen)
            found.validate(full=True)  # offsets of a stranger's file may lead anywhere
        self.require_same()
        if found.num_rows != batch.rows:
            raise SourceError(f"a record batch has {found.num_rows} rows, and says it has {batch.rows}")
        yield found

    def _decoded(self, group: int, parts: list[Message], chosen: list[int] | None) -> Any:
        """A record batch, of which nothing was checked. A stream is cut to what the batch needs."""
        ipc = pyarrow().ipc
        options = ipc.IpcReadOptions(use_threads=False, included_fields=chosen)
        if not self._is_file:
            texts = (self.read(one.offset, one.end - one.offset) for one in parts)
            data = b"".join([self._head, *texts, _END_MARK])
            return ipc.open_stream(pyarrow().BufferReader(data), options=options).read_next_batch()
        if chosen is not None:
            return ipc.open_file(self._raw, options=options).get_batch(group)
        self._reader = self._reader or ipc.open_file(self._raw, options=options)
        return self._reader.get_batch(group)

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
