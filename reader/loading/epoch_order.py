"""What stands at the positions of a loader's epochs: the samples, those drawn by weight, or bins of them."""

from __future__ import annotations

from typing import Any

from recordio.format.page import Indices
from recordio.reader.loading.binning import Binning, Bins, binning_of
from recordio.reader.loading.checks import check_order, weights_of
from recordio.reader.loading.options import LoaderOptions
from recordio.reader.loading.state import identity
from recordio.reader.order.ranks import RankShare
from recordio.reader.order.weights import drawn_by_weight
from recordio.reader.view import DatasetView, Plans


class EpochOrder:
    """The order of the epochs of a loader, by the key of each epoch.

    Raises SchemaError for options that exclude each other; CorruptError, StorageError where lengths are read.
    """

    def __init__(self, options: LoaderOptions, dataset: DatasetView) -> None:
        check_order(options, dataset)
        self._options = options.order
        self._weights = weights_of(options, dataset)
        self._binning: Binning | None = binning_of(options, dataset)

    def identity(self, dataset: DatasetView, seed: int, *, sampler: bool) -> dict[str, Any]:
        """The entries of a state that a loader must share to continue from it."""
        found = identity(dataset, self._options, seed, self._weights, sampler=sampler)
        return found if self._binning is None else found | {"bins": self._binning.identity}

    def drawn(self, dataset: DatasetView, epoch_key: int) -> tuple[Indices | None, DatasetView]:
        """The samples drawn by weight, if they are; and the samples of an epoch."""
        if self._weights is None:
            return None, dataset
        drawn = drawn_by_weight(self._weights, epoch_key)
        return drawn, dataset.select(drawn)

    def binned(self, dataset: DatasetView, epoch_key: int) -> Bins | None:
        """The bins of an epoch, if it has bins."""
        if self._binning is None:
            return None
        return self._binning.order(epoch_key, dataset, lambda: self.drawn(dataset, epoch_key))

    def plan(self, dataset: DatasetView, epoch_key: int, share: RankShare) -> Plans:
        """The windows of each part, and the part of each sample if there are several."""
        binned = self.binned(dataset, epoch_key)
        if binned is not None:
            return binned.plans(share)
        return self.drawn(dataset, epoch_key)[1].plan(self._options, epoch_key, share)
