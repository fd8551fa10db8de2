"""A tokenizer of Hugging Face's library `tokenizers`, from its file `tokenizer.json`.

Text becomes what `Tokenizer.encode` gives, special tokens included, but for truncation and padding, which are not done.
The file is read once and checked in each process; it has to be the same one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.errors import SchemaError, SourceError
from recordio.packages import optional
from recordio.writer.sources.files import read_file

_MAX_FILE = 1 << 28
_MAX_TEXT = 1 << 28  # characters of one text: the library takes some 100 bytes for each token
_SHOWN = 5


def _library() -> Any:
    return optional("tokenizers", "tokens", "text")


@contextmanager
def _faults(what: str) -> Iterator[None]:
    """The library's errors as SourceErrors. Its panics are no Exceptions."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, SourceError, MemoryError):
        raise
    except BaseException as error:
        raise SourceError(f"{what}: {error}") from error


class Tokenizer:
    """Makes tokens of texts.

    Attributes:
        path: the file.
        digest: its SHA-256, in hexadecimal.
        vocabulary: how many tokens there are, the highest number and one.
        dtype: uint16 if it holds every token, else int32.
        eos: the number of the token after each text, None without one.
        notes: what of the file is not done.
    """

    def __init__(self, path: str, eos: str | None = None) -> None:
        self.path = path
        data = self._read()
        self.digest = hashlib.sha256(data).hexdigest()
        self.notes: tuple[str, ...] = ()
        self._load(data)
        numbers = self._tokenizer.get_vocab(with_added_tokens=True).values()
        if not numbers or max(numbers) >= 1 << 31:
            raise SourceError("the tokenizer has no tokens, or numbers beyond int32").at(file=path)
        self.vocabulary = max(numbers) + 1
        self.dtype = np.dtype("uint16" if self.vocabulary <= 1 << 16 else "int32")
        self.eos = None if eos is None else self._number(eos)

    def _read(self) -> bytes:
        if os.path.isfile(self.path) and os.path.getsize(self.path) > _MAX_FILE:
            raise SourceError(f"no tokenizer.json is larger than {_MAX_FILE >> 20} MiB").at(file=self.path)
        return read_file(self.path)

    def _load(self, data: bytes) -> None:
        library = _library()
        try:
            with _faults("not a tokenizer.json"):
                self._tokenizer = library.Tokenizer.from_buffer(data)
        except SourceError as error:
            raise error.at(file=self.path)
        cuts = [name for name in ("truncation", "padding") if getattr(self._tokenizer, name) is not None]
        self.notes = (f"the tokenizer asks for {' and '.join(cuts)}, which is not done",) if cuts else ()
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def _number(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            special = [one.content for one in self._tokenizer.get_added_tokens_decoder().values() if one.special]
            known = f"; its special tokens are {', '.join(map(repr, special[:_SHOWN]))}" if special else ""
            raise SchemaError(f"eos is {token!r}, which is no token of {self.path}{known}")
        return int(found)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_tokenizer"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        data = self._read()
        if hashlib.sha256(data).hexdigest() != self.digest:
            raise SourceError("changed while it was used").at(file=self.path)
        self._load(data)

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[Any]]:
        """The tokens of each text, (n,) of `dtype`. Several are made at once, in threads. Raises SourceError."""
        if any(len(text) > _MAX_TEXT for text in texts):
            raise SourceError(f"the text has more than {_MAX_TEXT:,} characters, which are too many for a tokenizer")
        with _faults("the text cannot be made tokens of"):
            try:
                return [self._ended(one.ids) for one in self._tokenizer.encode_batch_fast(list(texts))]
            except TypeError as error:
                raise SourceError("the text is not valid Unicode") from error

    def _ended(self, numbers: list[int]) -> npt.NDArray[Any]:
        if self.eos is not None and numbers[-1:] != [self.eos]:
            numbers.append(self.eos)
        return np.array(numbers, self.dtype)
