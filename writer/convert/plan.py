"""Plans a conversion before anything is written.

A plan is a pure function of the source and the options: the order of the samples, the cuts into units, and the identity
of the dataset. Unit k makes shard k. The number of workers plays no part, so the shards do not depend on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from recordio.arguments import choice, flag, integer
from recordio.determinism import MASK, hashes, key
from recordio.errors import SchemaError, SourceError
from recordio.format.image_field import Image
from recordio.format.layout import VERSION
from recordio.format.schema import Schema
from recordio.format.shard import ShardHeader
from recordio.images.encode import target_size
from recordio.images.prepare import Treatment
from recordio.writer.metadata import plain_metadata, require_fit
from recordio.writer.shard_writer import WriteOptions
from recordio.writer.sources import Source
from recordio.writer.sources.archives.archive_paths import keep_archives, listed_archives
from recordio.writer.sources.python.functions import SampleMaker
from recordio.writer.sources.tokens.text_options import TextOptions

Indices = npt.NDArray[np.int64]
_RULE = 1  # version of the ordering and cutting; part of the dataset's identity


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """The options of `recordio.convert`, which documents them; `maker` is its `fn`. Raises SchemaError."""

    write: WriteOptions = field(default_factory=WriteOptions)
    resize: int | tuple[int, int] | None = None
    quality: int | None = None
    shuffle: int | None = None
    limit: int | None = None
    on_error: str = "raise"
    workers: int | None = None
    overwrite: bool = False
    check: bool = True
    upright: bool = False
    keep_names: bool | None = None
    statistics: str = "auto"
    text: TextOptions = field(default_factory=TextOptions)
    engine: str = "local"
    maker: SampleMaker | None = None
    schema: Any = None
    asked: Mapping[str, Any] = field(default_factory=dict)  # for the record of the conversion

    def __post_init__(self) -> None:
        choice("engine", self.engine, ("local", "ray"))
        if self.schema is not None and not isinstance(self.schema, Schema):
            object.__setattr__(self, "schema", Schema(self.schema))
        flag("check", self.check)
        flag("upright", self.upright)
        choice("on_error", self.on_error, ("raise", "skip"))
        choice("statistics", self.statistics, ("auto", "full"))
        if self.keep_names is not None:
            flag("keep_names", self.keep_names)
        integer("limit", self.limit, 1, optional=True)
        integer("workers", self.workers, 0, optional=True)
        integer("quality", self.quality, 1, 100, optional=True)
        integer("shuffle", self.shuffle, 0, MASK, optional=True)
        if isinstance(self.resize, (tuple, list)):
            object.__setattr__(self, "resize", tuple(self.resize))
            if len(self.resize) != 2:
                raise SchemaError(f"resize is {self.resize!r}: expected the shorter side, or (height, width)")
        for side in self.resize if isinstance(self.resize, tuple) else (self.resize,):
            integer("resize", side, 1, optional=True)
        target_size((1, 1), self.resize)  # raises for too many pixels
        if self.text.sequence_length is not None and self.shuffle is not None:
            raise SchemaError(
                "shuffle mixes samples, and blocks of sequence_length are packed in the order of the documents: "
                "mix the documents before, or the blocks while training"
            )

    @property
    def treatment(self) -> Treatment:
        return Treatment(self.resize, self.quality, self.upright, self.check, look=self.statistics == "full")


def shuffled(samples: int, seed: int) -> Indices:
    """A permutation of `samples` numbers, int64. A pure function of the arguments."""
    return np.argsort(hashes(np.arange(samples), key(seed)), kind="stable")


def order_of(samples: int, options: ConvertOptions) -> Indices:
    """Those of so many samples that are converted, in the order of the dataset, int64."""
    order = np.arange(samples) if options.shuffle is None else shuffled(samples, options.shuffle)
    return order[: options.limit]


def cut(nbytes: Indices, unit_nbytes: int) -> Indices:
    """The start of each unit and the end of the last, int64 (units + 1,). A unit ends with the sample that fills it."""
    ends = np.cumsum(np.maximum(nbytes, 1))
    cuts = [0]
    while cuts[-1] < len(ends):
        before = int(ends[cuts[-1] - 1]) if cuts[-1] else 0
        cuts.append(min(int(np.searchsorted(ends, before + unit_nbytes)) + 1, len(ends)))
    return np.array(cuts, np.int64)


class Recipe(NamedTuple):
    """What a shard is made of, and how: digests of the rules and of its own input, in hexadecimal, "" if unknown."""

    rules: str
    inputs: str


@dataclass(frozen=True)
class Plan:
    """The work and its identity.

    Attributes:
        order: the source's samples in the order of the dataset, int64.
        cuts: start of each unit in `order`, and the end of the last.
        dataset_id: depends on the names and sizes of the input, and on the options that shape the bytes.
        digest: depends on the times and inodes of the input files as well. If it is equal, all finished shards are
            reused, and a finished dataset is left as it is. None where it cannot be told whether the input is as it
            was: then nothing is.
        rules: digest of what shapes every shard alike: the options, the fields, the metadata. If it is equal, those
            shards are reused whose own input is the same.
    """

    source: Source
    options: ConvertOptions
    order: Indices
    cuts: Indices
    dataset_id: bytes
    digest: bytes | None
    rules: bytes

    def __getstate__(self) -> dict[str, Any]:
        """With the archives that the source lies in: another process need not list or unpack them again."""
        return self.__dict__ | {"archives": listed_archives()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        keep_archives(state.pop("archives"))
        self.__dict__.update(state)

    @property
    def units(self) -> int:
        return len(self.cuts) - 1

    def indices(self, unit: int) -> Indices:
        """The source's samples in a unit, in order."""
        return self.order[self.cuts[unit] : self.cuts[unit + 1]]

    def header(self, number: int) -> ShardHeader:
        """Of the shard with this number."""
        return ShardHeader(self.dataset_id, number, self.source.schema, self.source.metadata)

    def recipe(self, unit: int) -> Recipe:
        """What the shard of a unit is made of, and how."""
        try:
            inputs = self.source.input_digest(self.indices(unit))
        except SourceError:  # reading the samples raises it again, subject to on_error
            inputs = None
        return Recipe(self.rules.hex(), (inputs or b"").hex())


def make_plan(source: Source, options: ConvertOptions) -> Plan:
    """Raises SchemaError when the options do not fit the source, or the metadata is too large."""
    require_fit(source.schema, plain_metadata(source.metadata))
    check_pictures(source, options)
    order = order_of(len(source), options)
    cuts = cut(source.nbytes()[order], options.write.shard_bytes)
    fingerprint = source.fingerprint()
    rules = {
        "format": VERSION,
        "rule": _RULE,
        "kind": source.kind,
        "schema": source.schema.to_json(),
        "metadata": source.metadata,
        "compression": options.write.compression,
        "block_bytes": options.write.block_target(source.schema),
        "shuffle": options.shuffle,
        "resize": options.resize,
        "quality": options.quality,
        "check": options.check,
    }
    if options.upright:
        rules["upright"] = True
    if options.statistics != "auto":
        rules["statistics"] = options.statistics
    if source.rules:
        rules["made"] = dict(source.rules)
    if kinds := {name: kind for name, kind in source.pictures.items() if kind != "photo"}:
        rules["pictures"] = kinds
    content = {
        "content": fingerprint.content.hex(),
        "cuts": xxhash.xxh3_128_hexdigest(cuts.astype("<i8").tobytes()),
    }
    dataset_id = json_digest(rules | content)
    digest = xxhash.xxh3_128_digest(dataset_id + fingerprint.state) if fingerprint.known else None
    return Plan(source, options, order, cuts, dataset_id, digest, json_digest(rules))


def check_pictures(source: Source, options: ConvertOptions) -> None:
    """Raises SchemaError for a treatment of pictures that the source does not have, or may not get."""
    pictures = source.pictures or any(isinstance(kind, Image) and kind.encoded for kind in source.schema.values())
    if options.treatment.recodes and not pictures:
        raise SchemaError(f"resize and quality are for encoded images, and a {source.kind!r} source has none")
    if source.boxed and (options.treatment.recodes or options.upright):
        raise SchemaError(
            "resize, quality and upright would move the pixels and leave the boxes where they are: "
            "convert the pictures as they are, and resize both while training"
        )


def json_digest(value: dict[str, Any]) -> bytes:
    """16 bytes that stand for a value that JSON can say."""
    return xxhash.xxh3_128_digest(json.dumps(value, sort_keys=True).encode())
