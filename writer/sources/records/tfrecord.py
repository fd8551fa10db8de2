"""TFRecord files of tf.train.Example or SequenceExample, plain or compressed with gzip.

A record is its length (u64), a checksum of the length, the data, and a checksum of the data: both are checked. A length
that is damaged ends the file, as nothing says where the next record begins: one unreadable sample stands for the rest.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterator

from recordio.errors import SchemaError, SourceError
from recordio.format.fields import Bytes
from recordio.format.layout import MAX_FIELDS
from recordio.format.numeric import Scalar
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.archives.compression import packed_with
from recordio.writer.sources.files import is_file, read_file, status
from recordio.writer.sources.records.crc32c import masked_crc32c
from recordio.writer.sources.records.packed_files import PackedRecordFiles
from recordio.writer.sources.records.tf_columns import Column, FeatureColumn, SequenceColumn
from recordio.writer.sources.records.tf_example import Example, parse
from recordio.writer.sources.source import SourceOptions

RAW = "data"  # the field of records that are no tf.Example
_HEADER = struct.Struct("<QI")  # length and its checksum
_FOOTER = struct.Struct("<I")
_MAX_RECORD_NBYTES = 1 << 30
_LABELS = "label.labels.txt"
_MAX_LABELS_NBYTES = 1 << 20


class TFRecord(PackedRecordFiles):
    """A sample is an Example: a field for each feature, of the type that holds its values in all records.

    A SequenceExample has the fields of its context and of its feature lists. Records that are no Example become the
    field `data`, bytes.
    """

    kind = "tfrecord"

    def __init__(self, path: str, options: SourceOptions) -> None:
        super().__init__(path, options)
        self._options = options
        self._features: dict[str, FeatureColumn] = {}
        self._lists: dict[str, SequenceColumn] = {}
        self._whole = self._parsed = self._examples = 0  # good checksums; of these, Examples; of these, with features
        self._first_fault: SourceError | None = None
        self._scan()
        self.schema = self._find_schema()
        self._add_classes()

    def _packing(self, number: int) -> str | None:
        with self._as_it_is(number) as raw:
            return "gzip" if packed_with(raw.read(16)) == "gzip" else None

    def _records(self, number: int) -> Iterator[tuple[int, int]]:
        at, size = 0, self._size(number)
        while at < size:
            known = self._end(number, at, size)
            end = min(at + _HEADER.size, size) if known is None else known
            self._see(self._range(number, at, end), number)
            self._require_few()
            yield at, end
            if known is None:
                return
            at = end

    def _end(self, number: int, at: int, size: int) -> int | None:
        """Where the record at an offset ends, None if that is not known."""
        header = self._range(number, at, min(at + _HEADER.size, size))
        nbytes = _length(header)
        end = at + _HEADER.size + (nbytes or 0) + _FOOTER.size
        return None if nbytes is None or end > size else end

    def _see(self, record: bytes, number: int) -> None:
        """Looks at the values of a record. What is wrong is raised again when it is read, subject to on_error."""
        try:
            data = _data(record)
        except SourceError as error:
            self._first_fault = self._first_fault or error.at(file=self.file_name(number))
            return
        self._whole += 1
        try:
            example = parse(data)
            self._parsed += 1
            self._examples += bool(example.features or example.lists)
            self._see_features(example)
        except SourceError:
            return

    def _see_features(self, example: Example) -> None:
        for name, feature in example.features.items():
            if name not in self._features:
                self._features[name] = FeatureColumn(name, self._options)
            self._features[name].see(feature)
        for name, steps in example.lists.items():
            if name not in self._lists:
                self._lists[name] = SequenceColumn(name, self._options)
            self._lists[name].see(steps)

    def _require_few(self) -> None:
        """Refuses records that go on to name other features: their columns are kept in memory."""
        if len(self._features) + len(self._lists) > MAX_FIELDS:
            raise SourceError(f"the records have more than {MAX_FIELDS:,} features")

    def _find_schema(self) -> Schema:
        if not self._whole:
            assert self._first_fault is not None
            raise SourceError(f"no record can be read; the first: {self._first_fault.fault}").at(file=self._path)
        if not self._examples:
            self.notes += (f"no record is a tf.Example: each is kept whole, as the bytes of {RAW!r}",)
            return Schema({RAW: Bytes()})
        # By name: protobuf writes the features of each record in an order of its own.
        columns: list[Column] = sorted(
            [*self._features.values(), *self._lists.values()], key=lambda column: column.name
        )
        fields = [(name, found) for column in columns for name, found in column.fields(self, self._parsed).items()]
        self.notes += _said_of(columns)
        name, count = Counter(name for name, _ in fields).most_common(1)[0]
        if count > 1:
            text = f"two fields would be called {name!r}: one of the context, one of the feature lists"
            raise SourceError(text).at(file=self._path)
        try:
            return Schema(dict(fields))
        except SchemaError as error:
            raise SourceError(f"the features cannot become fields: {error.fault}").at(file=self._path) from error

    def _sample(self, record: bytes) -> Sample:
        data = _data(record)
        if not self._examples:
            return {RAW: data}
        example = parse(data)
        out = {name: self._features[name].value(feature) for name, feature in example.features.items()}
        for name, steps in example.lists.items():
            out.update(self._lists[name].values(steps))
        return out

    def _add_classes(self) -> None:
        """The names of the classes, from the label.labels.txt that TensorFlow Datasets writes."""
        path = os.path.join(os.fsdecode(self.files.root), os.path.dirname(os.fsdecode(self.files.name(0))), _LABELS)
        if not isinstance(self.schema.fields.get("label"), Scalar) or not is_file(path):
            return
        if status(path).st_size <= _MAX_LABELS_NBYTES:
            self.metadata["classes"] = read_file(path).decode("utf-8", "replace").splitlines()


def _length(header: bytes) -> int | None:
    """The length in the header of a record, None if it is damaged or too large."""
    if len(header) < _HEADER.size:
        return None
    nbytes, stored = _HEADER.unpack(header)
    return nbytes if masked_crc32c(header[:8]) == stored and nbytes <= _MAX_RECORD_NBYTES else None


def _data(record: bytes) -> bytes:
    """The data of a record. Raises SourceError for a record that is damaged or cut off."""
    lost = "the file cannot be read from here on"
    if len(record) < _HEADER.size:
        raise SourceError(f"it ends within the header of a record: {lost}")
    nbytes, stored = _HEADER.unpack_from(record)
    found = masked_crc32c(record[:8])
    if found != stored:
        raise SourceError(f"length checksum mismatch: stored {stored:#010x}, computed {found:#010x}; {lost}")
    if nbytes > _MAX_RECORD_NBYTES:
        raise SourceError(f"a record of {nbytes} bytes is over the limit of {_MAX_RECORD_NBYTES}; {lost}")
    if len(record) != _HEADER.size + nbytes + _FOOTER.size:
        raise SourceError(f"the file ends within this record of {nbytes} bytes")
    data = record[_HEADER.size : -_FOOTER.size]
    (stored,), found = _FOOTER.unpack_from(record, len(record) - _FOOTER.size), masked_crc32c(data)
    if found != stored:
        raise SourceError(f"data checksum mismatch: stored {stored:#010x}, computed {found:#010x}")
    return data


def _said_of(columns: list[Column]) -> tuple[str, ...]:
    """What was decided about bytes, in words."""
    texts = [repr(column.name) for column in columns if column.text]
    return (f"taken for text, as all values are UTF-8 without control characters: {', '.join(texts)}",) if texts else ()
