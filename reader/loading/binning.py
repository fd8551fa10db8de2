"""A loader's batches by length and its packed rows: what its options ask for, and the bins of each epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.determinism import key
from recordio.display.text import count_text
from recordio.errors import CorruptError, SchemaError
from recordio.format.fields import Field
from recordio.format.numeric import Scalar
from recordio.format.page import Indices
from recordio.images.aspects import aspects_of, nearest
from recordio.images.boxes import Size
from recordio.reader.combined import Combined
from recordio.reader.dataset import ShardDataset
from recordio.reader.loading.lengths import has_aspect, lengths_of, sequences_of
from recordio.reader.loading.options import MAX_TOKENS, LoaderOptions
from recordio.reader.loading.state import window_identity
from recordio.reader.order.binned import Binned
from recordio.reader.order.bins import BinRule
from recordio.reader.order.mixed_bins import MixedBins
from recordio.reader.order.shuffle import OrderOptions, order_of
from recordio.reader.view import DatasetView

_log = logging.getLogger("recordio")
_WAY_ON = (
    "every rank needs the lengths of all samples, so on_error='skip' cannot pass over them: open the dataset with "
    "on_damage='skip', or name an integer that says the length by bucket_by="
)
Lengths = npt.NDArray[Any]  # integers
Bins = Binned | MixedBins
_KEPT = 2  # epochs whose bins are counted: that of the loader, and the next one, which is fetched ahead


class Binning:
    """The bins of a loader's epochs.

    Args:
        rule: how samples are put into bins.
        lengths: of each single dataset: the length of each sample of the view.
        field: the field that says it.
        options: of the order.
        buckets: sizes of images, of which each bin has one.

    Attributes:
        identity: the bins, as a state names them.
    """

    def __init__(
        self, rule: BinRule, lengths: list[Lengths], field: str, options: OrderOptions, buckets: tuple[Size, ...] | None
    ) -> None:
        self.identity: dict[str, Any] = {
            "kind": rule.kind,
            "size": rule.size,
            "field": field,
            "on_overlong": rule.on_overlong,
        }
        if rule.only_full:
            self.identity |= {"only_full": True}
        if buckets is not None:
            self.identity |= {"buckets": [list(size) for size in buckets]}
            own = aspects_of(buckets)
            own = own.astype(np.min_scalar_type(own.max()))
            lengths = [own[nearest(one, buckets)] for one in lengths]
        if not options.shuffle:  # the state of an epoch in order says nothing of windows, which cut bins all the same
            self.identity |= window_identity(options)
        self._rule, self._lengths, self._options = rule, lengths, options
        self._known: dict[int, Bins] = {}

    def order(
        self, epoch_key: int, whole: DatasetView, drawn: Callable[[], tuple[Indices | None, DatasetView]]
    ) -> Bins:
        """The bins of the epoch of this key. To make them plans the epoch, so the last two are kept.

        `drawn`: gives which samples of the whole dataset were drawn by weight, if they are, and those of the epoch.
        """
        found = self._known.get(epoch_key)
        if found is None:
            indices, dataset = drawn()
            lengths = self._lengths if indices is None else self._drawn(whole, indices)
            if isinstance(dataset, Combined):
                found = self._mixed(dataset, lengths, epoch_key)
            else:
                (part,), (own,) = dataset.parts, lengths
                found = self._binned(part, own, self._options, epoch_key)
            self._known = dict([*self._known.items(), (epoch_key, found)][-_KEPT:])
        return found

    def _drawn(self, whole: DatasetView, indices: Indices) -> list[Lengths]:
        """The lengths of the samples that were drawn, in the order of each part's."""
        found = list(self._lengths)
        for piece in whole.pieces(indices):
            number = piece.source or 0
            found[number] = self._lengths[number][piece.indices]
        return found

    def _binned(self, part: ShardDataset, lengths: Lengths, options: OrderOptions, pass_key: int) -> Binned:
        order = order_of(part.store.blocks, part.numbers, options, pass_key)
        return Binned(order, lengths, self._rule, options.shuffle, pass_key)

    def _mixed(self, dataset: Combined, lengths: list[Lengths], epoch_key: int) -> MixedBins:
        options, parts = self._options, dataset.parts

        def pass_of(source: int, number: int) -> Binned:
            own = options.shared(dataset.draws[source], len(dataset))
            return self._binned(parts[source], lengths[source], own, key(source, number, after=epoch_key))

        return MixedBins(pass_of, dataset.draws, [len(part) for part in parts], options.shuffle, epoch_key)


def binning_of(options: LoaderOptions, dataset: DatasetView) -> Binning | None:
    """The bins that the options ask for; reads the lengths of the samples. Raises SchemaError, CorruptError."""
    if options.on_overlong != "raise" and options.sequence_length is None:
        raise SchemaError(f"on_overlong={options.on_overlong!r} is for packed rows: give their sequence_length")
    if options.buckets is not None and options.bucket_by is None:
        raise SchemaError("buckets are sizes of images: name their field by bucket_by=")
    if not options.has_bins:
        return None
    _check(options)
    rule, name = _rule(options), options.bucket_by or _only_sequence(dataset)
    for part in dataset.parts:
        _check_field(options, name, part.store.manifest.schema.select([name])[name])
    try:
        lengths = [lengths_of(part, name) for part in dataset.parts]
    except CorruptError as error:
        error.add_note(_WAY_ON)
        raise
    if rule.kind != "counted":
        _check_longest(rule, lengths[0] if len(lengths) == 1 else np.concatenate(lengths), name)
    return Binning(rule, lengths, name, options.order, options.buckets)


def _rule(options: LoaderOptions) -> BinRule:
    if options.sequence_length is not None:
        return BinRule("packed", options.sequence_length, options.on_overlong)
    if options.batch_tokens is not None:
        return BinRule("padded", options.batch_tokens)
    return BinRule("counted", options.batch_size or 1, only_full=options.drop_last, equal=options.buckets is not None)


def _check(options: LoaderOptions) -> None:
    """Raises SchemaError for options that exclude each other."""
    if options.batch_tokens is not None and options.sequence_length is not None:
        raise SchemaError("give batch_tokens for batches by length, or sequence_length for packed rows, not both")
    if options.batch_size is None:
        raise SchemaError("batch_size=None gives single samples: without batch_tokens, sequence_length and bucket_by")
    if options.batch_tokens is not None and options.batch_size != 1:
        raise SchemaError("batch_tokens says how large batches are: leave out batch_size")
    if options.batch_size * (options.sequence_length or 0) > MAX_TOKENS:
        raise SchemaError(f"a batch has {options.batch_size} rows of {options.sequence_length} tokens, 2^31 or more")
    if options.shuffle and (options.lane_affinity or options.pool_bytes):
        raise SchemaError(
            "batches by length and packed rows go without lane_affinity and pool_bytes: each window is cut anew into "
            "runs of blocks that cost about the same, so that no block stays on a lane. Leave them out; a larger "
            "window_bytes mixes more"
        )


def _check_field(options: LoaderOptions, name: str, kind: Field) -> None:
    """Raises SchemaError for an aspect where tokens are counted, and for buckets of what has no aspect."""
    counted = options.batch_tokens is None and options.sequence_length is None
    if has_aspect(kind) and not counted:
        raise SchemaError(f"field {name!r} is {kind}, which has an aspect and no tokens: give batch_size and bucket_by")
    integer = isinstance(kind, Scalar) and kind.dtype.kind in "iu"
    if options.buckets is not None and not (counted and (has_aspect(kind) or integer)):
        raise SchemaError(
            f"buckets are sizes of images, and field {name!r} is {kind}: bucket_by= names an image, or an integer that "
            "says 1024 * width // height, with batch_size alone"
        )


def _only_sequence(dataset: DatasetView) -> str:
    """The field that says the length, where it is not named. Raises SchemaError unless there is exactly one."""
    names = sequences_of(dataset.schema)
    if len(names) == 1:
        return names[0]
    found = "no field is an array whose length counts" if not names else f"{' and '.join(names)} are arrays"
    raise SchemaError(f"{found}: name the field whose length counts, by bucket_by=")


def _check_longest(rule: BinRule, lengths: npt.NDArray[Any], name: str) -> None:
    """Raises SchemaError for samples that are longer than a bin, or logs how much of them is cut off."""
    count = int(np.count_nonzero(lengths > rule.size))
    if not count or rule.on_overlong == "split":
        return
    if rule.on_overlong == "truncate":
        lost, every = int((lengths[lengths > rule.size].astype(np.int64) - rule.size).sum()), int(lengths.sum())
        _log.warning(
            "on_overlong='truncate' cuts off %d of %d tokens, of %s that have more than %d by field %r",
            lost,
            every,
            count_text(count, "sample"),
            rule.size,
            name,
        )
        return
    index = int(np.argmax(lengths))
    if rule.kind == "packed":
        option, way = "sequence_length", "cut them by on_overlong='split', or 'truncate'"
    else:
        option, way = "batch_tokens", f"give at least {lengths[index]}"
    raise SchemaError(
        f"{count} of {len(lengths)} samples are longer than {option}={rule.size} by field {name!r}, the longest is "
        f"sample {index} of {lengths[index]}: {way}, or leave them out by ds.filter"
    )
