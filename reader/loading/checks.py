"""What a loader is given: which options exclude each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recordio.errors import SchemaError
from recordio.reader.combined import Combined, Mixture
from recordio.reader.loading.options import LoaderOptions
from recordio.reader.loading.sampler import SampledBatches
from recordio.reader.order.weights import checked_weights
from recordio.reader.view import DatasetView


def weights_of(options: LoaderOptions, dataset: DatasetView) -> npt.NDArray[np.float64] | None:
    """The weight of each sample, if there are weights. Raises SchemaError."""
    if options.weights is None:
        return None
    if isinstance(dataset, Mixture) or not options.shuffle:
        raise SchemaError("weights need shuffle=True, and a dataset that has no weights of its own")
    return checked_weights(options.weights, len(dataset))


def check_order(options: LoaderOptions, dataset: DatasetView) -> None:
    """Raises SchemaError for an order that the dataset cannot have."""
    if options.shuffle and options.lane_affinity and isinstance(dataset, Combined):
        raise SchemaError(
            "lane_affinity is for one dataset: of several, each rank reads of all blocks, so none has blocks of its "
            "own. recordio.merge makes one dataset of them"
        )


def sampler_of(options: LoaderOptions) -> SampledBatches | None:
    """The user's sampler, if there is one. Raises SchemaError for options that exclude it."""
    if options.sampler is None and options.batch_sampler is None:
        return None
    if options.sampler is not None and options.batch_sampler is not None:
        raise SchemaError("give a sampler or a batch_sampler, not both")
    if options.has_bins:
        raise SchemaError(
            "a sampler decides on the batches: without batch_tokens, bucket_by and sequence_length. To have these of "
            "some samples, leave out the sampler and give the loader ds.select(indices), or weights"
        )
    if options.shuffle or options.weights is not None or (options.world_size or 1) > 1:
        raise SchemaError("a sampler decides on the order by itself: without shuffle, weights, rank and world_size")
    return SampledBatches(options.sampler, options.batch_sampler, options.batch_size or 1, options.drop_last)


def check_indexable(dataset: DatasetView, options: LoaderOptions) -> None:
    """Raises SchemaError unless each sample that the loader delivers has an index."""
    if options.sampler is not None or options.batch_sampler is not None:
        raise SchemaError("this loader has a sampler: iterate over that")
    if options.has_bins or options.pad_value is not None:
        raise SchemaError(
            "batches by length, padded batches and packed rows cannot be made of indices: iterate over this loader "
            "itself, with ranks='auto' (with accelerate: do not prepare() it)"
        )
    if options.shuffle and isinstance(dataset, Mixture) and not dataset.is_whole:
        raise SchemaError(
            "each epoch of this Mixture takes other samples of its datasets, which indices cannot say: iterate over "
            "this loader itself (with accelerate: do not prepare() it; with Lightning: use_distributed_sampler=False)"
        )
