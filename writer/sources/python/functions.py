"""What makes samples of inputs: the caller's function, and names for the values of tuples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recordio.arguments import describe
from recordio.errors import DecodeError, SchemaError, SourceError
from recordio.format.schema import Sample
from recordio.writer.sources.python.digests import fingerprint
from recordio.writer.sources.source import Fingerprint

_MAX_SHOWN = 120
MadeSample = Sample | SourceError | DecodeError | SchemaError | None


@dataclass(frozen=True, slots=True)
class SampleMaker:
    """Makes samples of an input.

    Attributes:
        function: the caller's, which returns a sample, a list or an iterator of samples, or None; None takes the input.
        columns: the names of the values of a tuple, or the fields of a dict that are wanted.
        whole: whether an input gives all its samples or none. Else they come while the function still makes them.
        identity: the caller's name for the state of the inputs and the function.
    """

    function: Callable[[Any], Any] | None = None
    columns: tuple[str, ...] = ()
    whole: bool = False
    identity: str | None = None

    def __post_init__(self) -> None:
        if self.function is not None and not callable(self.function):
            raise SchemaError(f"fn is {describe(self.function)}: expected a function of one input")

    def made(self, key: str, item: Any) -> Iterator[MadeSample]:
        """The samples of an input, or None once for none. An error of the function is the last that comes."""
        count = 0
        try:
            samples = self._samples(item)
            for sample in list(samples) if self.whole else samples:
                count += 1
                yield sample
        except MemoryError:  # no fault of the input
            raise
        except Exception as error:  # noqa: BLE001 a function of the caller's raises anything
            yield failed(error, "fn" if self.function else "the input", f"{key}: {shown(item)}")
            return
        if not count:
            yield None

    def _samples(self, item: Any) -> Iterator[Sample]:
        result = item if self.function is None else self.function(item)
        several = self.function is not None and (isinstance(result, list) or hasattr(result, "__next__"))
        if several:
            yield from map(self._sample, result)
        elif result is not None or self.function is None:
            yield self._sample(result)

    def _sample(self, value: Any) -> Sample:
        """A dict of the values. Raises SchemaError."""
        if isinstance(value, Mapping):
            return {name: value[name] for name in self.columns} if self.columns else value
        names = self.columns or getattr(value, "_fields", ())
        values = value if isinstance(value, (tuple, list)) else (value,)
        if len(names) == len(values):
            return dict(zip(names, values, strict=True))
        if names:
            raise SchemaError(f"columns has {len(names)} names, and the sample {len(values)} values: {describe(value)}")
        if isinstance(value, (tuple, list)):
            like = ("image", "label") if len(value) == 2 else tuple("abcdefghijklmnopqrstuvwxyz"[: len(value)])
            text = f"the samples are {type(value).__name__}s of {len(value)} values without names"
            raise SchemaError(f"{text}: give columns={like!r}, or fn= to make dicts of them")
        way = "give fn= to make one of it" if self.function is None else "fn has to return one, several, or None"
        raise SchemaError(f"a sample is a dict of fields, not {describe(value)}: {way}; or columns=('name',)")

    @property
    def rules(self) -> dict[str, Any]:
        """What shapes every sample, JSON: the digest of the function, its name where there is none."""
        found = self._fingerprint()
        name = f"{getattr(self.function, '__module__', '')}.{getattr(self.function, '__qualname__', '')}"
        code = found.content.hex() if found else name
        said = {"fn": self.function and code, "columns": list(self.columns), "identity": self.identity}
        return {name: value for name, value in said.items() if value}

    @property
    def known(self) -> bool:
        """Whether it can be told that the function is as it was."""
        return self.identity is not None or self._fingerprint() is not None

    def _fingerprint(self) -> Fingerprint | None:
        return fingerprint(self.function)


def failed(error: Exception, who: str, where: str) -> SourceError | DecodeError | SchemaError:
    """The error of an input, which leaving out such inputs is about; the cause is chained."""
    if isinstance(error, (SourceError, DecodeError, SchemaError)):
        return error.at(file=where)
    found = SourceError(f"{who} raised {type(error).__name__}: {error}").at(file=where)
    found.__cause__ = error
    return found


def shown(item: Any) -> str:
    """An input in few words."""
    if not isinstance(item, (str, os.PathLike)):
        return describe(item)
    text = " ".join(str(item).split())
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
