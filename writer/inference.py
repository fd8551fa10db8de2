"""What a schema is inferred from: the first samples, as many as fit the bounds, rather than the first alone.

The first sample decides the fields, as `Schema.infer` does. A later one that fits them changes nothing; one that does
not widens them as little as possible: a dimension that differs is free, a value that is not there is optional, numbers
take the narrower type that holds all of them exactly, and pictures the mode that loses nothing of any. A bool among
integers is an integer, as in Python. All else is refused, naming both samples, and leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import numpy as np

from recordio.arguments import describe
from recordio.errors import DecodeError, Place, SchemaError
from recordio.format.fields import Bytes, Field, Object
from recordio.format.image_field import Image
from recordio.format.masks import has_masked, is_missing, plain_array
from recordio.format.numeric import Array, Scalar
from recordio.format.pil import is_picture, keeps
from recordio.format.schema import Sample, Schema, infer_field
from recordio.images.decode import decode_pil
from recordio.images.encode import lossless_packer
from recordio.writer.packing import Column, Packer, column_length, optional, pack_column, unmasked
from recordio.writer.taken import Batch, Run, copied, samples_of

MOST_SAMPLES = 10_000
MOST_NBYTES = 32 << 20
EXAMPLE = "such as {'tokens': Array('int32', (None,)), 'source': Text(optional=True)}"
_MODES = ("L", "RGB", "RGBA")  # each keeps what those before it keep
_BY_VALUE = Bytes(optional=True)  # a field whose columns are packed value by value
_FLOAT = np.dtype("f8")


@dataclass(frozen=True, slots=True)
class _Guess:
    """What is known of a field: its kind, never optional, as far as a value was seen, and the first sample with one."""

    kind: Field | None = None
    sample: int = 0
    optional: bool = False

    def field(self) -> Field:
        kind = self.kind or Bytes()
        if not self.optional:
            return kind
        if isinstance(kind, Array) and 0 in kind.shape:  # an array without elements is never optional
            kind = replace(kind, shape=tuple(n or None for n in kind.shape))
        return replace(kind, optional=True)  # type: ignore[call-arg]


class SchemaInference:
    """The fields that hold all samples so far, and these samples, with bytes of their own.

    Attributes:
        samples: how many were taken.
        parts: samples and batches, in order. Once `full` is true, the last batch is still the caller's.
        packer: packs samples that widen no field, once there are such fields.
    """

    def __init__(self, check: Callable[[Schema], None] | None = None) -> None:
        """`check` is called with each schema that comes into question, and may raise SchemaError."""
        self.samples = 0
        self.parts: list[Sample | Batch | Run] = []
        self.packer: Packer | None = None
        self._check = check
        self._guesses: dict[str, _Guess] = {}
        self._nbytes = 0

    @property
    def full(self) -> bool:
        """Whether enough samples were seen to decide."""
        return self.samples >= MOST_SAMPLES or self._nbytes >= MOST_NBYTES

    def schema(self) -> Schema:
        """The fields that hold all samples so far. Raises SchemaError without any, and for a field without a value."""
        for name, guess in self._guesses.items():
            if guess.kind is None:
                raise SchemaError(
                    f"it has no value in the first {self.samples:,} samples, so no type can be inferred: give a schema"
                ).at(field=name)
        return Schema({name: guess.field() for name, guess in self._guesses.items()})

    def add(self, sample: Sample) -> None:
        """Takes one sample. On SchemaError nothing was taken."""
        if self.packer is not None and type(sample) is dict and self._takes(sample, self.packer):
            return
        if not isinstance(sample, Mapping):
            raise SchemaError(f"a sample is a dict, not {describe(sample)}")
        columns = {name: [value] for name, value in sample.items()}
        try:
            packed = self._widen(columns, 1)
        except SchemaError as error:
            error.place = Place(field=error.place.field)  # its row, 0, is no number of a sample
            raise
        self.parts.append({name: column[0] for name, column in self._owned(columns, packed).items()})

    def _takes(self, sample: Sample, packer: Packer) -> bool:
        """Takes a sample that widens no field, as nearly all do, in a fifth of the time. False for any other."""
        last = self.parts[-1] if self.parts else None
        run = last if isinstance(last, Run) and last.packer is packer else Run(packer)
        try:
            self._nbytes += run.add(sample)
        except SchemaError:
            return False
        if run is not last:
            self.parts.append(run)
        self.samples += 1
        return True

    def add_columns(self, columns: Mapping[str, Any]) -> int:
        """Takes a batch and returns its length. On SchemaError nothing was taken."""
        samples = column_length(columns)
        if not samples and not self.samples:
            raise SchemaError("no schema can be inferred from an empty batch; give one")
        if samples:
            columns = {name: np.asanyarray(one) if hasattr(one, "dtype") else one for name, one in columns.items()}
            packed = self._widen(columns, samples)
            self.parts.append(Batch(columns if self.full else self._owned(columns, packed)))
        return samples

    def _widen(self, columns: Mapping[str, Any], samples: int) -> dict[str, Column]:
        """Widens the fields until they hold these columns, and returns the packed values."""
        packed: dict[str, Column] = {}
        changed: dict[str, _Guess] = {}
        for name in dict.fromkeys([*self._guesses, *columns]):
            old = self._guesses.get(name)
            new = old or _Guess(optional=self.samples > 0)
            try:
                if name in columns:
                    new, packed[name] = self._with_column(name, new, columns[name])
                else:
                    new = replace(new, optional=True)
            except SchemaError as error:
                raise error.at(field=name)
            if new != old:
                changed[name] = new
        if changed or not self._guesses:
            guesses = self._guesses | changed
            schema = Schema({name: guess.field() for name, guess in guesses.items()})
            if self._check is not None:
                self._check(schema)
            self._guesses = guesses
            has_values = all(guess.kind is not None for guess in guesses.values())
            self.packer = Packer(schema, inferred=True) if has_values else None
        self.samples += samples
        self._nbytes += sum(map(_nbytes, packed.values()))
        return packed

    def _with_column(self, name: str, guess: _Guess, column: Any) -> tuple[_Guess, Column]:
        """The field when it holds this column too, and the packed values, None for a missing one."""
        values = _telling_values(column)
        if guess.kind is None:
            guess = self._with_first_value(guess, values)
        if guess.kind is not None:
            try:
                return _packed(name, guess, column)
            except SchemaError:
                pass  # of which value, and whether it can be helped, is found out below
        for row, value in enumerate(values):
            try:
                if _is_missing(guess, value):
                    guess = replace(guess, optional=True)
                else:
                    guess = replace(guess, kind=_widened(guess, value, chain(self._taken(name), islice(values, row))))
            except SchemaError as error:
                raise error.at(sample=row)
        return _packed(name, guess, column) if guess.kind is not None else (guess, [None] * len(column))

    def _with_first_value(self, guess: _Guess, values: Any) -> _Guess:
        """The guess with the kind of the first value, if there is one. What is missing before it makes it optional."""
        for row, value in enumerate(values):
            if not _is_missing(guess, value):
                try:
                    kind = infer_field(value)
                except SchemaError as error:
                    raise error.at(sample=row)
                return replace(guess, kind=kind, sample=self.samples + row, optional=guess.optional or row > 0)
        return replace(guess, optional=guess.optional or len(values) > 0)

    def _taken(self, name: str) -> Iterator[Any]:
        """The values of a field in what was taken so far."""
        for part in self.parts:
            if isinstance(part, Batch):
                yield from part.columns.get(name, ())
            else:
                yield from (sample.get(name) for sample in samples_of(part))

    def _owned(self, columns: Mapping[str, Any], packed: Mapping[str, Column]) -> dict[str, Any]:
        """The columns with bytes of their own: the caller may change its arrays."""
        out: dict[str, Any] = {}
        for name, column in columns.items():
            values, kind = packed[name], self._guesses[name].kind
            if isinstance(values, memoryview):
                out[name] = np.array(column)
            else:
                out[name] = list(map(copied, [kind] * len(values), column, values))
        return out


def _nbytes(column: Column) -> int:
    if isinstance(column, memoryview):
        return column.nbytes
    return sum(len(value) for value in column if value is not None)


def _telling_values(column: Any) -> Any:
    """Values of a column that say as much of its type as all of them: of an array of numbers one is enough."""
    if has_masked(column):
        return unmasked(column)
    return column[:1] if isinstance(column, np.ndarray) and column.dtype != object else column


def _packer(kind: Field) -> Callable[[Any], bytes]:
    if isinstance(kind, Image) and kind.encoded:
        return lossless_packer("", kind, alone=True)
    return kind.packer()


def _packed(name: str, guess: _Guess, column: Any) -> tuple[_Guess, Column]:
    kind = guess.kind
    assert kind is not None
    pack = _packer(kind)
    if isinstance(column, np.ndarray) and column.dtype != object and not has_masked(column):
        return guess, pack_column(name, kind, pack, column)
    values = pack_column(name, _BY_VALUE, pack if _is_null(guess) else optional(pack), column)
    missing = not isinstance(values, memoryview) and None in values
    return replace(guess, optional=guess.optional or missing), values


def _is_null(guess: _Guess) -> bool:
    """Whether None is a value of this field: null, in an object. Of an optional one it is a missing value."""
    return isinstance(guess.kind, Object) and not guess.optional


def _is_missing(guess: _Guess, value: Any) -> bool:
    return is_missing(value) or (value is None and not _is_null(guess))


def _refusal(kind: Field, value: Any) -> SchemaError | None:
    """The error of packing a value, None if it fits."""
    try:
        _packer(kind)(value)
    except SchemaError as error:
        return error
    return None


def _widened(guess: _Guess, value: Any, taken: Iterable[Any]) -> Field:
    """The kind that holds this value and all that were taken. Raises SchemaError if there is none."""
    kind = guess.kind
    assert kind is not None
    refusal = _refusal(kind, value)
    if refusal is None:
        return kind
    for wider in _wider(kind, value):
        if _refusal(wider, value) is None and _still_fit(taken, kind, wider):
            return wider
    if refusal.fault.startswith("expected"):
        refusal.fault += f", and no type holds both: sample {guess.sample} has {kind}; give schema=, {EXAMPLE}"
    raise refusal


def _still_fit(taken: Iterable[Any], kind: Field, wider: Field) -> bool:
    """Whether the values that fit `kind` fit `wider` too. Only integers that become floats may not."""
    if getattr(kind, "dtype", _FLOAT).kind not in "iu" or getattr(wider, "dtype", _FLOAT).kind not in "fc":
        return True
    return all(value is None or is_missing(value) or _refusal(wider, value) is None for value in taken)


def _wider(kind: Field, value: Any) -> Iterator[Field]:
    """The kinds that may hold a value as well as those that fit `kind`, the narrowest first."""
    if isinstance(kind, Image):
        yield from _wider_modes(kind, value)
    elif isinstance(kind, (Scalar, Array)):
        array = plain_array(value) if isinstance(value, (list, tuple)) else None
        other = infer_field(value if array is None else array)
        if not isinstance(other, (Scalar, Array)) or len(other.shape) != len(kind.shape):
            return
        shape = tuple(n if n == m else None for n, m in zip(kind.shape, other.shape, strict=True))
        for dtype in _wider_dtypes(kind.dtype, other.dtype):
            yield Array(dtype, shape) if isinstance(kind, Array) else Scalar(dtype)


def _wider_dtypes(dtype: np.dtype[Any], other: np.dtype[Any]) -> Iterator[np.dtype[Any]]:
    """The dtypes that may hold the numbers of both: integers may become floats if these hold them exactly."""
    yield dtype
    if dtype.kind in "iu" and other.kind in "fc":
        yield other
    both = np.promote_types(dtype, other)
    if both.kind not in "fc" or "f" in dtype.kind + other.kind or "c" in dtype.kind + other.kind:
        yield both  # not the float that NumPy takes for int64 beside uint64


def _wider_modes(kind: Image, value: Any) -> Iterator[Field]:
    try:
        picture = value if is_picture(value) else decode_pil(value, "RGBA")
    except (DecodeError, TypeError):
        return
    for mode in _MODES[_MODES.index(kind.mode) + 1 :]:
        if keeps(picture, mode):
            yield Image(mode)


def infer_schema(samples: Iterable[Sample]) -> Schema:
    """The schema of the first samples, up to the bounds, as a `DatasetWriter` without one infers it.

    Raises SchemaError, with the number of the sample that does not fit those before it.
    """
    inference = SchemaInference()
    for number, sample in enumerate(samples):
        try:
            inference.add(sample)
        except SchemaError as error:
            raise error.at(sample=number)
        if inference.full:
            break
    return inference.schema()
