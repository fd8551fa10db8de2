"""The options of texts."""

from __future__ import annotations

import os
from dataclasses import dataclass

from recordio.arguments import describe, integer
from recordio.errors import SchemaError

_MAX_SEQUENCE = 1 << 24


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How text becomes tokens; `recordio.convert` documents them. Raises SchemaError."""

    tokenizer: str | os.PathLike[str] | None = None
    text_field: str | None = None
    sequence_length: int | None = None
    eos: str | None = None

    def __post_init__(self) -> None:
        integer("sequence_length", self.sequence_length, 2, _MAX_SEQUENCE, optional=True)
        for name in ("text_field", "eos"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise SchemaError(f"{name} is {describe(value)}: expected a text")
            self._require_tokenizer(name)
        self._require_tokenizer("sequence_length")
        if self.tokenizer is not None:
            object.__setattr__(self, "tokenizer", os.fspath(self.tokenizer))

    def _require_tokenizer(self, name: str) -> None:
        if getattr(self, name) is not None and self.tokenizer is None:
            raise SchemaError(
                f"{name} is for tokens: tokenizer= (--tokenizer) names the tokenizer.json that makes them"
            )
