"""The samples of a source with tokens in place of a text, one sample a text or packed into blocks of one length.

Blocks are cut from the tokens of all documents in order, so the length of each document has to be known first: they are
counted once when the source is made, and made again when a block is read. Any process can make any block.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import RecordIOError, SchemaError, SourceError
from recordio.format.fields import Text
from recordio.format.numeric import Array
from recordio.format.schema import Sample, Schema
from recordio.writer.sources.leftovers import counted
from recordio.writer.sources.source import Derived, Output, Source
from recordio.writer.sources.tokens.text_options import TextOptions
from recordio.writer.sources.tokens.tokenizer import Tokenizer

_TOKENS = "tokens"
_DOCUMENTS = "documents"
_BATCH = 1 << 20  # characters that are counted at a time
_BATCH_TEXTS = 4096
_SHOWN = 3


def tokenized(source: Source, options: TextOptions, *, skip: bool = False, limit: int | None = None) -> Source:
    """The source with tokens, itself where no tokenizer is named. Raises SchemaError, SourceError.

    `skip`: documents that cannot be read are left out of blocks, not raised. `limit`: the first so many blocks are
    enough.
    """
    if options.tokenizer is None:
        return source
    field = _text_field(source.schema, options.text_field)
    tokenizer = Tokenizer(os.fspath(options.tokenizer), options.eos)
    if options.sequence_length is None:
        return Tokenized(source, tokenizer, field)
    return Packed(source, tokenizer, field, options.sequence_length, skip, limit)


def _text_field(schema: Schema, named: str | None) -> str:
    texts = [name for name, kind in schema.items() if isinstance(kind, Text)]
    wanted = named or ("text" if "text" in texts or len(texts) != 1 else texts[0])
    if wanted not in texts:
        known = f"text_field= (--text-field) names one of {', '.join(texts)}" if texts else "there is none"
        raise SchemaError(f"no field {wanted!r} of text to make tokens of; {known}")
    if _TOKENS in schema.fields and wanted != _TOKENS:
        raise SchemaError(f"there is a field {_TOKENS!r} already, which is where tokens go")
    return wanted


def _said(source: Source, tokenizer: Tokenizer, field: str) -> tuple[str, ...]:
    name = os.path.basename(tokenizer.path)
    text = f"{field!r} is stored as tokens, {tokenizer.dtype}, of a vocabulary of {tokenizer.vocabulary:,} ({name})"
    return (*source.notes, text, *tokenizer.notes)


def _about(tokenizer: Tokenizer) -> dict[str, Any]:
    eos = {} if tokenizer.eos is None else {"eos": tokenizer.eos}
    return {"sha256": tokenizer.digest, "vocabulary": tokenizer.vocabulary, **eos}


class Tokenized(Derived):
    """`tokens` (n,) in place of a text; a text that is missing has none."""

    def __init__(self, source: Source, tokenizer: Tokenizer, field: str) -> None:
        super().__init__(source)
        self._tokenizer, self._field = tokenizer, field
        self.nameless = source.nameless
        self.metadata = {**source.metadata, "tokenizer": _about(tokenizer)}
        self.notes = _said(source, tokenizer, field)
        self._find_schema()

    def _find_schema(self) -> None:
        self.schema = Schema(
            {
                _TOKENS if name == self._field else name: (
                    Array(self._tokenizer.dtype, (None,), optional=kind.optional) if name == self._field else kind
                )
                for name, kind in self._source.schema.items()
            }
        )

    def with_names(self) -> Source:
        self._source = self._source.with_names()
        self._find_schema()
        return self

    def sample(self, index: int) -> Sample:
        return self._with_tokens(self._source.sample(index))

    def outputs(self, indices: Sequence[int]) -> Iterator[Output]:
        for position, key, found in self._source.outputs(indices):
            try:
                yield position, key, self._with_tokens(found) if isinstance(found, Mapping) else found
            except SourceError as error:
                yield position, key, error.at(file=key)

    def _with_tokens(self, sample: Sample) -> Sample:
        out = dict(sample)
        text = out.pop(self._field, None)
        return out if text is None else out | {_TOKENS: self._tokenizer.encode([text])[0]}


class Packed(Derived):
    """Blocks of `length` tokens, cut from all documents end to end.

    `tokens` (length,); `documents` int32 (length,): which document of the block each token is of, from 0. What is left
    at the end is less than a block, and is left out, with a note.
    """

    def __init__(
        self, source: Source, tokenizer: Tokenizer, field: str, length: int, skip: bool, limit: int | None
    ) -> None:
        super().__init__(source)
        self._tokenizer, self._field, self._length = tokenizer, field, length
        self.pictures, self.boxed = {}, False
        self.metadata = {"tokenizer": _about(tokenizer), "sequence_length": length}
        self.schema = Schema({_TOKENS: Array(tokenizer.dtype, (length,)), _DOCUMENTS: Array("int32", (length,))})
        self._skip = skip
        self._bad: list[str] = []
        self._missing = 0
        self._ends = self._count(None if limit is None else limit * length)
        total = int(self._ends[-1])
        if total < length:
            raise SourceError(f"all documents have {counted(total, 'token')}, less than one block of {length}")
        whole = len(self._ends) == len(source)
        self.notes = (*_said(source, tokenizer, field), *self._say(total % length if whole else 0))
        self._last: tuple[int, npt.NDArray[Any]] | None = None  # a document, which may go on in the next block

    def _count(self, most: int | None) -> npt.NDArray[np.int64]:
        """The end of each document in the tokens of all, int64; of the first alone if they have `most` tokens."""
        counts = array("q")
        total = 0
        for batch in self._batches():
            found = self._lengths(batch)
            counts.extend(found)
            total += sum(found)
            if most is not None and total >= most:
                break
        return np.cumsum(np.frombuffer(counts, np.int64))

    def _batches(self) -> Iterator[list[tuple[str, str | None]]]:
        """The key and the text of each document, so many at a time; None where there is no text."""
        batch: list[tuple[str, str | None]] = []
        characters = 0
        for key, item in self._source.read(range(len(self._source))):
            if isinstance(item, RecordIOError):
                self._leave_out(key, item)
                text = None
            else:
                text = item.get(self._field)
                self._missing += text is None
            batch.append((key, text))
            characters += len(text or "")
            if characters > _BATCH or len(batch) == _BATCH_TEXTS:
                yield batch
                batch, characters = [], 0
        yield batch

    def _lengths(self, batch: list[tuple[str, str | None]]) -> list[int]:
        """The number of tokens of each text; 0 for one that is missing or left out."""
        try:
            made = iter(self._tokenizer.encode([text for _, text in batch if text is not None]))
        except SourceError as error:
            if len(batch) > 1:
                return [self._lengths([one])[0] for one in batch]
            self._leave_out(batch[0][0], error)
            return [0]
        return [0 if text is None else len(next(made)) for _, text in batch]

    def _leave_out(self, key: str, error: RecordIOError) -> None:
        if not self._skip:
            raise error.at(file=key)
        self._bad.append(f"{key}: {error.fault}")

    def _say(self, rest: int) -> Iterator[str]:
        """What is in no block."""
        if others := [name for name in self._source.schema if name != self._field]:
            yield f"left out of the blocks, which hold tokens of several documents: {', '.join(others)}"
        if rest:
            yield f"left out: the last {counted(rest, 'token')}, less than a block of {self._length}"
        if self._missing:
            yield f"left out: {counted(self._missing, 'document')} without a text"
        if self._bad:
            listed = "; ".join(self._bad[:_SHOWN]) + ("; ..." if self._bad[_SHOWN:] else "")
            yield f"left out: {counted(len(self._bad), 'document')} that cannot be read ({listed})"

    def with_names(self) -> Source:
        raise SchemaError("keep_names (--keep-names) is for samples of one file, and a block has tokens of several")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": None}

    def __len__(self) -> int:
        return int(self._ends[-1]) // self._length

    def nbytes(self) -> npt.NDArray[np.int64]:
        return np.full(len(self), self._length * (self._tokenizer.dtype.itemsize + 4), np.int64)

    def _span(self, index: int) -> tuple[int, int, int]:
        """The first document of a block, the end of the last, and where the block begins in the first."""
        start = index * self._length
        first = int(np.searchsorted(self._ends, start, "right"))
        last = int(np.searchsorted(self._ends, start + self._length, "left"))
        return first, last + 1, start - (int(self._ends[first - 1]) if first else 0)

    def input_digest(self, indices: npt.NDArray[np.int64]) -> bytes | None:
        spans = [self._span(index) for index in indices.tolist()]
        documents = [np.arange(first, end) for first, end, _ in spans]
        inner = self._source.input_digest(np.unique(np.concatenate(documents)))
        begins = [(first - spans[0][0], offset) for first, _, offset in spans]
        return None if inner is None else xxhash.xxh3_128_digest(inner + repr(begins).encode())

    def key(self, index: int) -> str:
        return f"block {index}, which begins in {self._source.key(self._span(index)[0])}"

    def sample(self, index: int) -> Sample:
        first, end, offset = self._span(index)
        parts: list[npt.NDArray[Any]] = []
        missing = self._length
        for document in range(first, end):
            found = self._document(document)[offset if document == first else 0 :][:missing]
            parts += [found] if len(found) else []
            missing -= len(found)
        documents = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
        return {_TOKENS: np.concatenate(parts), _DOCUMENTS: documents}

    def _document(self, number: int) -> npt.NDArray[Any]:
        """The tokens of a document. Raises SourceError, also for another number of tokens than were counted."""
        if self._last is not None and self._last[0] == number:
            return self._last[1]
        expected = int(self._ends[number]) - (int(self._ends[number - 1]) if number else 0)
        if not expected:
            return np.empty(0, self._tokenizer.dtype)
        ((key, item),) = self._source.read([number])
        if isinstance(item, RecordIOError):
            raise item.at(file=key)
        (tokens,) = self._tokenizer.encode([item[self._field]])
        if len(tokens) != expected:
            raise SourceError("changed while it was converted: it has another number of tokens").at(file=key)
        self._last = number, tokens
        return tokens
