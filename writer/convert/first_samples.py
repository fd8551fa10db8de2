"""What the first samples of a source say of all: their fields, and about how much they take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from recordio.errors import RecordIOError, SchemaError, SourceError
from recordio.format.fields import Field
from recordio.format.image_field import Image
from recordio.format.pil import is_picture
from recordio.format.schema import Sample, Schema
from recordio.writer.inference import infer_schema
from recordio.writer.sources.leftovers import counted
from recordio.writer.sources.source import Output, Source

_FIRST_SAMPLES = 64
_FIRST_NBYTES = 64 << 20


class Beginning(NamedTuple):
    """The first outputs of a source, up to some samples or bytes.

    Attributes:
        outputs: as the source gave them.
        samples: those that are no errors.
        inputs: how many inputs have given all their samples.
        nbytes: about what the samples take.
    """

    outputs: list[Output]
    samples: list[Sample]
    inputs: int
    nbytes: int


def beginning(outputs: Iterator[Output], skip: bool) -> Beginning:
    """Takes the first outputs, with at least one sample if there is any. Raises their errors unless `skip`."""
    seen: list[Output] = []
    samples: list[Sample] = []
    nbytes = inputs = 0
    for position, key, made in outputs:
        inputs += not seen or seen[-1][0] != position
        seen.append((position, key, made))
        if isinstance(made, RecordIOError):
            if not skip:
                raise made
        elif made is not None:
            samples.append(made)
            nbytes += sample_nbytes(made)
        if samples and (len(seen) >= _FIRST_SAMPLES or nbytes >= _FIRST_NBYTES):
            return Beginning(seen, samples, inputs - 1, nbytes)
    if not samples:
        first = next((f"; the first: {made}" for _, _, made in seen if isinstance(made, RecordIOError)), "")
        raise SourceError(f"no input gave a sample{first}")
    return Beginning(seen, samples, inputs, nbytes)


def sample_nbytes(sample: Any) -> int:
    """About what a sample takes."""
    return sum(map(_value_nbytes, sample.values())) if isinstance(sample, Mapping) else 1


def _value_nbytes(value: Any) -> int:
    if isinstance(value, (str, bytes, bytearray)):
        return len(value)
    if isinstance(nbytes := getattr(value, "nbytes", None), int):
        return nbytes
    if is_picture(value):
        width, height = value.size
        return int(width * height * len(value.getbands()))
    return 8 if not isinstance(value, (list, tuple, dict)) else 8 + 8 * len(value)


def schema_of(samples: Sequence[Sample], known: Mapping[str, Field]) -> Schema:
    """The schema of these samples. A field of a source that the function left as it was keeps its type.

    Raises SchemaError.
    """
    names = [*{name: None for sample in samples for name in sample}]
    kept = {name for name in names if name in known and all(_fits(known[name], one.get(name)) for one in samples)}
    others = [{name: value for name, value in sample.items() if name not in kept} for sample in samples]
    inferred = infer_schema(others) if len(kept) < len(names) else {}
    return Schema({name: known[name] if name in kept else inferred[name] for name in names})


def _fits(field: Field, value: Any) -> bool:
    if value is None:
        return field.optional
    if isinstance(field, Image) and field.encoded:
        return isinstance(value, (bytes, bytearray, memoryview))  # of any format that a conversion takes
    try:
        field.pack(value)
    except SchemaError:
        return False
    return True


def unlike_the_first(error: SchemaError, source: Source) -> None:
    """Adds advice to the error of a sample that does not fit an inferred schema."""
    count = getattr(source, "inferred_from", 0)
    if count and "give schema=" not in error.fault:
        error.fault += f"; the fields are those of the first {counted(count, 'sample')}: give schema= if others differ"
