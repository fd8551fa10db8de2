"""Sources of which a function makes the samples: of lists of inputs, of the samples of any source, of a stream.

What the samples are is found out before anything is written: from the first of them, in the process that plans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.errors import RecordIOError, SchemaError, SourceError
from recordio.format.fields import Field
from recordio.format.image_field import Image
from recordio.format.pil import is_picture, keeps, png
from recordio.format.schema import Sample, Schema
from recordio.writer.convert.first_samples import Beginning, beginning, schema_of
from recordio.writer.convert.pillow_files import own_file
from recordio.writer.sources.leftovers import counted
from recordio.writer.sources.python.digests import fingerprint
from recordio.writer.sources.python.functions import SampleMaker, failed
from recordio.writer.sources.python.python_inputs import KIND
from recordio.writer.sources.source import Fingerprint, Item, Output, Source

_LARGER_THAN_A_SHARD = 1 << 36
_AT_A_TIME = 4096  # numbers of inputs that are looked at first, as Python's integers


class FunctionSource(Source):
    """What sources of made samples have in common: the schema is the caller's, or that of the first samples."""

    def _describe(self, schema: Schema | None, first: Beginning, known: Mapping[str, Field]) -> None:
        self.inferred_from = 0 if schema else len(first.samples)
        self.schema = schema or schema_of(first.samples, known)
        self._encoded = [name for name, field in self.schema.items() if isinstance(field, Image) and field.encoded]
        drawn = sorted({name for sample in first.samples for name in self._encoded if is_picture(sample.get(name))})
        if drawn:
            text = f"{', '.join(drawn)}: pictures of Pillow, stored as their files if unchanged, else as PNG"
            self.notes = (*self.notes, text)

    def _stored(self, made: Any, key: str) -> Any:
        """A sample as it is to be stored: pictures of Pillow as files. An error in its place where that cannot be."""
        if made is None or isinstance(made, RecordIOError) or not self._encoded:
            return made
        out = dict(made)
        for name in self._encoded:
            if is_picture(out.get(name)):
                try:
                    out[name] = self._picture(name, out[name])
                except SchemaError as error:
                    return error.at(file=key, field=name)
        return out

    def _picture(self, name: str, picture: Any) -> bytes:
        mode = self.schema[name].mode  # type: ignore[attr-defined]
        if self.inferred_from and not keeps(picture, mode):
            raise SchemaError(
                f"a picture of mode {picture.mode} would lose colours or transparency: the mode of the field is "
                f"{mode!r}, as that of the first {counted(self.inferred_from, 'sample')}; give schema="
            )
        return own_file(picture) or png(picture)


class Mapped(FunctionSource):
    """The samples that a function makes of the items of a source.

    Args:
        source: a list of inputs, or any source: the function gets its samples.
        maker: the function.
        schema: that of the samples; None takes that of the first ones.
        order: the items of which samples are wanted, in their order, int64; the first of them are looked at.
        skip: whether inputs for which the function fails are passed over.
    """

    def __init__(
        self, source: Source, maker: SampleMaker, schema: Schema | None, order: npt.NDArray[np.int64], skip: bool
    ) -> None:
        known: Mapping[str, Field] = source.schema or {}
        self._source, self._maker = source, maker
        self.kind, self.metadata, self.notes = source.kind, source.metadata, source.notes
        self.nameless, self.boxed = source.nameless, source.boxed
        self.rules = {**source.rules, **maker.rules}
        parts = (order[start : start + _AT_A_TIME].tolist() for start in range(0, len(order), _AT_A_TIME))
        first = beginning(chain.from_iterable(map(self._made, parts)), skip)
        self._describe(schema, first, known)
        self.pictures = {name: kind for name, kind in source.pictures.items() if self.schema.get(name) is known[name]}
        before = int(source.nbytes()[order[: first.inputs]].sum())
        self._growth = first.nbytes / before if before else float(_LARGER_THAN_A_SHARD)
        self._first = fingerprint(first.samples[:1])

    def __len__(self) -> int:
        return len(self._source)

    def nbytes(self) -> npt.NDArray[np.int64]:
        """What the first samples take, in proportion to the inputs that they were made of."""
        grown: npt.NDArray[np.float64] = np.maximum(self._source.nbytes() * self._growth, 1)
        return grown.astype(np.int64)

    def fingerprint(self) -> Fingerprint:
        found = self._source.fingerprint()
        known = found.known and self._maker.known
        first = b"" if known or self._first is None else self._first.content
        return Fingerprint(xxhash.xxh3_128_digest(found.content + first), found.state, known)

    def input_digest(self, indices: npt.NDArray[np.int64]) -> bytes | None:
        return self._source.input_digest(indices) if self._maker.known else None

    def key(self, index: int) -> str:
        return self._source.key(index)

    def file(self, index: int, field: str) -> str:
        return self._source.file(index, field)

    def sample(self, index: int) -> Sample:
        """Of an input that gives one sample. Raises SourceError, or another error of the input."""
        ((_, found),) = self.read([index])
        if isinstance(found, RecordIOError):
            raise found
        return found

    def read(self, indices: Iterable[int]) -> Iterator[Item]:
        """For those who need one sample of each input: several or none are an error."""
        numbers = list(indices)
        for position, group in groupby(self.outputs(numbers), itemgetter(0)):
            made = [made for _, _, made in group]
            found = made[0] if len(made) == 1 else None
            if found is None:
                count = counted(sum(one is not None for one in made), "sample")
                found = SourceError(f"fn made {count} of this input, and packing needs one of each")
            yield self.key(numbers[position]), found

    def outputs(self, indices: Sequence[int]) -> Iterator[Output]:
        for position, key, made in self._made(indices):
            yield position, key, self._stored(made, key)

    def _made(self, indices: Sequence[int]) -> Iterator[Output]:
        for position, key, item in self._source.outputs(indices):
            if isinstance(item, RecordIOError):
                yield position, key, item
            else:
                for made in self._maker.made(key, item):
                    yield position, key, made


class Streamed(FunctionSource):
    """The samples that a function makes of an iterable, which is read once, from beginning to end.

    `outputs` gives them all, once, whatever it is asked for. Its length is 0: that is not known.
    """

    kind = KIND

    def __init__(self, items: Iterator[Any], maker: SampleMaker, schema: Schema | None, skip: bool) -> None:
        self.metadata = {}
        self._made = _streamed(items, maker)
        first = beginning(self._made, skip)
        self._first = first.outputs
        self._describe(schema, first, {})

    def __len__(self) -> int:
        return 0

    def nbytes(self) -> npt.NDArray[np.int64]:
        return np.empty(0, np.int64)

    def fingerprint(self) -> Fingerprint:
        return Fingerprint(b"", b"", known=False)

    def key(self, index: int) -> str:
        return f"input {index}"

    def sample(self, index: int) -> Sample:
        raise SourceError("a stream has no samples by number")

    def outputs(self, indices: Sequence[int]) -> Iterator[Output]:
        first, self._first = self._first, []
        for position, key, made in chain(first, self._made):
            yield position, key, self._stored(made, key)


def _streamed(items: Iterator[Any], maker: SampleMaker) -> Iterator[Output]:
    position = 0
    while True:
        key = f"input {position}"
        try:
            item = next(items)
        except StopIteration:
            return
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 an iterable of the caller's raises anything
            raise failed(error, "the iterable", key)
        for made in maker.made(key, item):
            yield position, key, made
        position += 1
