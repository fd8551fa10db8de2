"""`DataLoader`: the batches of an epoch, in an order that is a pure function, resumable from any position."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any, Unpack

from recordio.arguments import integer
from recordio.determinism import key
from recordio.errors import SchemaError
from recordio.process_guard import closed_at_exit
from recordio.reader.batches.index_batch import IndexBatch
from recordio.reader.batches.requests import BatchResult
from recordio.reader.loading.binning import Bins
from recordio.reader.loading.checks import sampler_of
from recordio.reader.loading.epoch_order import EpochOrder
from recordio.reader.loading.epoch_run import EpochRun
from recordio.reader.loading.making import layout_of, maker_of
from recordio.reader.loading.options import DEFAULTS, LoaderArguments, LoaderOptions, spelled_out
from recordio.reader.loading.profile import Profiled
from recordio.reader.loading.progress import Cursor, check_process, unequal_ranks
from recordio.reader.loading.relay import index_batches_of
from recordio.reader.loading.runs import Runs
from recordio.reader.loading.state import check_state
from recordio.reader.loading.stats import LoaderStats
from recordio.reader.order.binned import BinCounts
from recordio.reader.order.ranks import RankShare, distributed_ranks
from recordio.reader.order.shuffle import OrderOptions
from recordio.reader.view import DatasetView

_UNBATCHED = 256  # samples made at a time for batch_size=None


class DataLoader(Profiled):
    """Batches of a dataset, as dicts of columns; as tuples of columns for a view of `tuples`.

    Every `iter()` is the next epoch, from 0, unless `set_epoch` says which. A shuffled epoch is a pure function of the
    dataset, the seed, the epoch and the window: neither the workers nor the ranks change what a global batch holds.

    Args:
        dataset: a ShardDataset or a view of one, a ConcatDataset or a Mixture.
        batch_size: samples a batch, on this rank; the last batch of an epoch may be smaller. None gives single samples.
        shuffle: mix the samples anew each epoch: blocks over the whole dataset, samples within windows of blocks.
        sampler: gives the indices of the samples instead, for every epoch anew; random access.
        batch_sampler: gives lists of indices, one a batch.
        num_workers: how many make batches ahead: gather, decode images, transform; with 0 the caller's thread does it.
        worker_type: "thread", or "process" for maps and transforms that hold the interpreter's lock. Threads that such
            functions make slower than one thread alone are left to that one, with a RuntimeWarning. "auto" takes
            threads, but processes for a `worker_init_fn`, for functions found to draw from the global generators of
            Python, NumPy or torch (threads would draw from those of the training), and for more than four workers
            that decode or process samples; where these should not fork it warns.
        multiprocessing_context: how processes start: "fork", "forkserver", "spawn", or a context; as the system does it
            if None.
        persistent_workers: keep the workers from one epoch to the next.
        drop_last: leave out a last batch that is not full; with `bucket_by` and `batch_size` each one (bins.dropped).
        even_batches: repeat the first samples at the end of an epoch, fewer than there are ranks, so that every rank
            gets equally many. Without it no sample is repeated, and a rank may get one sample, or batch, fewer.
        collate_fn: makes a batch of a list of samples; the columns of the samples if None.
        prefetch_factor: batches made ahead, for each worker.
        in_order: False hands batches over as they are done; such a loader has no state.
        timeout: seconds to wait for a worker's batch; 0 for ever.
        worker_init_fn: called with its number in each worker process when it begins. There the global generators of
            Python, NumPy and torch are seeded anew for each batch: from the seed, the epoch and the batch.
        on_error: "skip" leaves out samples that cannot be read, decoded or transformed; `stats` counts them. A batch of
            which nothing is left is left out too; with other ranks, which would then be a batch behind, it is an error,
            unless even_batches is false.
        seed: the seed of the order and of random transforms; 0 if None, or that of a state that is loaded.
        rank, world_size: which of how many processes this is, each with a loader of its own that differs in `rank`.
        ranks: "auto" finds them: from torch.distributed where it runs, else from the launcher's variables.
        window_bytes: memory for mixing, for all ranks together: 256 MiB if None. Half of it is delivered while the
            other half is loaded; a dataset that fits in as a whole is shuffled uniformly. Not shuffled, of one dataset:
            the size of a window, of two in memory: 32 MiB if None, 8 for the first.
        window_samples: how many samples are mixed at a time, instead.
        unit_bytes: permute runs of neighbouring blocks of at least that size: for storage that is slow at random reads.
        pool_bytes: then permute the blocks of neighbouring units too, so that units of that size mix as well as blocks:
            what a disk cache holds of them at a time, for all ranks together. 0 keeps the blocks of a unit together.
        lanes: into how many shares a window is cut: a rank reads only its own if world_size divides it.
        lane_affinity: each block stays on its lane in every epoch and for every seed, so on its rank while world_size
            is the same: a node finds in its cache what it has read before. For a ShardDataset and its views.
        weights: float64 (len(dataset),): how often a sample is drawn in an epoch, in proportion; see class_weights.
        prefetch_bytes: of datasets in object stores: ask for so many bytes of windows ahead, also of the next epoch.
        batch_tokens: instead of `batch_size`: samples of about one length, up to so many tokens once each is padded to
            the longest of its batch.
        sequence_length: pack whole samples into rows of so many tokens, `batch_size` rows a batch, and add
            position_ids, document_ids and cu_seqlens.
        bucket_by: the field whose length counts: an array or text of any length, or an integer that says it; with
            neither of the two, batches of `batch_size` samples of about one length. None takes the only such array. The
            length of an image is its width at a height of 1024: batches of about one aspect.
        buckets: sizes (height, width) of images: batches of those nearest to one of them; see ResizeToBucket.
        on_overlong: "truncate" or "split" samples longer than a row; "raise" refuses them. Maps run for each piece.
        pad_value: pad arrays of any length with it, or by name, and add NAME_length; in packed rows 0 if None.

    Attributes:
        stats: what has been delivered and skipped so far, and where the time has gone.
        epoch_order: the order of an epoch, of samples or of bins.
        layout: how batches are padded or packed, if they are.
    """

    _finish: Callable[[Any], Any] | None = None  # of BatchMaker

    @spelled_out(LoaderArguments)
    def __init__(
        self,
        dataset: DatasetView,
        batch_size: int | None = DEFAULTS["batch_size"],
        shuffle: bool = DEFAULTS["shuffle"],
        **options: Unpack[LoaderArguments],
    ) -> None:
        if not isinstance(dataset, DatasetView):
            raise SchemaError(f"expected a ShardDataset, a ConcatDataset or a Mixture, got {type(dataset).__name__}")
        if unknown := options.keys() - DEFAULTS.keys():
            raise TypeError(f"DataLoader() got an unexpected keyword argument {min(unknown)!r}")
        self.dataset = dataset
        self.options = LoaderOptions(batch_size=batch_size, shuffle=shuffle, **options)
        self.stats = LoaderStats.of(dataset)
        self.epoch_order = EpochOrder(self.options, dataset)
        self._sampler = sampler_of(self.options)
        self.layout = layout_of(self.options, dataset)
        self._cursor = Cursor()
        self._seed = self.options.seed
        self._known_ranks = self.options.rank or 0, self.options.world_size or 1
        self.runs = Runs(self.stats)
        self._twin: tuple[LoaderOptions, DataLoader] | None = None  # for the loaders of other people

    @property
    def order(self) -> OrderOptions:
        """The options that the order depends on."""
        return self.options.order

    @property
    def seed(self) -> int:
        """The seed. If none was given, it is that of a state that was loaded, or the default from the first use on."""
        if self._seed is None:
            self._seed = self._default_seed()
        return self._seed

    def _default_seed(self) -> int:
        return 0

    @property
    def rank(self) -> int:
        return self._ranks[0]

    @property
    def world_size(self) -> int:
        return self._ranks[1]

    @property
    def _ranks(self) -> tuple[int, int]:
        """The rank and the world size. With ranks="auto" a loader may be older than the processes that share it."""
        if self.options.ranks == "auto":
            self._known_ranks = distributed_ranks() or self._known_ranks
        return self._known_ranks

    def __getstate__(self) -> dict[str, Any]:
        """A copy of a loader has workers of its own, and goes on by itself."""
        return {**self.__dict__, "runs": Runs(self.stats), "_twin": None, "_cursor": replace(self._cursor)}

    def __len__(self) -> int:
        """Batches of a whole epoch, on this rank."""
        if self._sampler is not None:
            return len(self._sampler)
        return -(-len(self.share(0)) // self.options.step)

    def __iter__(self) -> Iterator[Any]:
        """The next epoch, or the rest of one whose state was loaded."""
        cursor = self._begin()
        if self._sampler is not None and (epoch := self._sampler.begin(cursor.epoch)) != cursor.epoch:
            self._cursor = cursor = Cursor(epoch, begun=True)
        return closed_at_exit(self._delivered(cursor))

    def indices(self, batch_size: int | None = None, *, drop_last: bool | None = None) -> Iterator[IndexBatch]:
        """The indices of the samples of each batch, where `iter()` would give the batches: for other people's loaders.

        A dataset's `__getitems__` makes of them the batch that this loader would make. The epoch begins with the first
        batch: torch's loader makes more iterators than it uses.

        Args:
            batch_size, drop_last: those of the loader if None.

        Raises SchemaError when samples have no index: in a shuffled Mixture that takes some of a dataset's samples.
        """
        return closed_at_exit(index_batches_of(self, batch_size, drop_last))

    @property
    def bins(self) -> BinCounts | None:
        """How full the batches by length or the packed rows of this epoch are, and what was cut off; None without."""
        binned = self._binned(self._cursor.epoch)
        return None if binned is None else binned.counts

    @property
    def upcoming_epoch(self) -> int:
        """The epoch of the next `iter()`."""
        return self._cursor.epoch + self._cursor.begun

    @property
    def loaded_epoch(self) -> int | None:
        """The epoch of a state that was loaded, until it is begun."""
        return self._cursor.epoch if self._cursor.loaded and not self._cursor.begun else None

    def _begin(self) -> Cursor:
        """Begins the next epoch, or the rest of one whose state was loaded."""
        last = self._cursor
        self._cursor = Cursor(last.epoch + 1) if last.begun else replace(last)
        self._cursor.begun = True
        return self._cursor

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next `iter()`. The rest of an epoch whose state was loaded stays the rest."""
        epoch = integer("epoch", epoch, 0)
        if self._cursor.begun or self._cursor.epoch != epoch:
            self._cursor = Cursor(epoch)
        if self._sampler is not None:
            self._sampler.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, as small JSON: what has been delivered, not what was made ahead. The same on every rank.

        `load_state_dict` of a loader of the same dataset, seed and order continues there, exactly, also with another
        number of ranks or workers or another batch size.
        """
        if not self.options.in_order:
            raise SchemaError("a loader with in_order=False has no state: a position cannot say what was delivered")
        cursor = self._cursor
        if cursor.by_index:
            raise SchemaError(
                "the batches of this epoch are made by another loader, built of this one's order, and how far that is "
                "is not known here: save the state of the tool that has built it, or iterate over this loader itself"
            )
        ended = cursor.position > 0 and self._has_ended(cursor)
        epoch, position = (cursor.epoch + 1, 0) if ended else (cursor.epoch, cursor.position)
        state = {**self._identity(), "epoch": epoch, "position": position}
        return state | {"indices": cursor.indices} if self._sampler is not None else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next `iter()` continues where the state was taken.

        Raises DatasetError for the state of another dataset, SchemaError for one of other options or no state at all.
        """
        check_state(state, self._identity(), adopts_seed=self._adopts_seeds)
        epoch = integer("the state's epoch", state.get("epoch"), 0)
        position = integer("the state's position", state.get("position"), 0)
        before, self._seed = self._seed, state["seed"]
        if self._sampler is None and position > (total := self._total(epoch)):
            self._seed = before
            raise SchemaError(f"the state's position is {position}, of {total}")
        self._cursor = Cursor(epoch, position, indices=state.get("indices"), loaded=True)
        if self._sampler is not None:
            self._sampler.set_epoch(epoch)

    @property
    def _adopts_seeds(self) -> bool:
        """Whether nobody has said the seed, so that a state may."""
        return self.options.seed is None

    def _identity(self) -> dict[str, Any]:
        """The entries of a state that a loader must share to continue from it."""
        return self.epoch_order.identity(self.dataset, self.seed, sampler=self._sampler is not None)

    def _total(self, epoch: int | None = None) -> int:
        """How many positions an epoch has: samples, or bins. The current epoch if None."""
        binned = self._binned(self._cursor.epoch if epoch is None else epoch)
        return len(self.dataset) if binned is None else len(binned)

    def _binned(self, epoch: int) -> Bins | None:
        """The bins of an epoch; without any, no seed is drawn."""
        return self.epoch_order.binned(self.dataset, key(self.seed, epoch)) if self.options.has_bins else None

    def share(
        self, start: int, batch_size: int | None = None, *, drop_last: bool | None = None, epoch: int | None = None
    ) -> RankShare:
        """The positions of this rank from `start` on; of the loader's own batch size, `drop_last` and epoch if None."""
        return RankShare.of(
            rank=self.rank,
            world=self.world_size,
            start=start,
            total=self._total(epoch),
            batch_size=batch_size or self.options.step,
            drop_last=self.options.drop_last if drop_last is None else drop_last,
            even=self.options.even_batches,
        )

    def _after(self, position: int) -> int:
        """The position after this rank's next sample from `position` on."""
        return position + self.world_size

    def _has_ended(self, cursor: Cursor) -> bool:
        """Whether no rank has a batch left."""
        if self._sampler is not None:
            return False
        least = self.options.step * self.world_size if self.options.drop_last else 1
        return self._total(cursor.epoch) - cursor.position < least

    def _delivered(self, cursor: Cursor) -> Generator[Any, None, None]:
        """Yields the batches, and counts them."""
        process, total, single = os.getpid(), self._total(cursor.epoch), self.options.batch_size is None
        sampler, step = self._sampler, self.options.step * self.world_size
        dataset = self.dataset
        epoch_key = key(self.seed, cursor.epoch)
        maker = maker_of(self.options, dataset, self.layout, self._finish)
        with self.runs.begin(self.options, maker, dataset, epoch_key) as run:
            to_form = run.makes_columns and dataset.tuple_fields is not None
            for result in self._results(run, cursor, epoch_key):
                self.stats.add(result)
                if sampler is not None:
                    cursor.position += 1
                    cursor.indices = sampler.delivered()
                elif single:
                    yield from self._singles(result, cursor)
                    continue
                else:
                    cursor.position = min(total, cursor.position + step)
                if result.batch is not None:
                    yield dataset.formed(result.batch) if to_form else result.batch
                elif sampler is None and self.world_size > 1 and self.options.even_batches:
                    raise unequal_ranks(result, self.rank)
                check_process(process)
                del result
            cursor.move_to(cursor.epoch + 1)

    def _results(self, run: EpochRun, cursor: Cursor, epoch_key: int) -> Iterator[BatchResult]:
        """The rest of an epoch."""
        if self._sampler is not None:
            return run.indexed(self._sampler.batches(cursor.position, cursor.indices), cursor.position, epoch_key)
        plan, epoch = self.epoch_order.plan, cursor.epoch
        share = self.share(cursor.position, epoch=epoch)
        plans, sources = plan(self.dataset, epoch_key, share)
        later = key(self.seed, epoch + 1)
        following = lambda: plan(self.dataset, later, self.share(0, epoch=epoch + 1))[0]  # noqa: E731
        size = self.options.step
        if self.options.batch_size is None and self.options.on_error != "skip":
            size = _UNBATCHED
        return run.windowed(plans, sources, len(share), size, self.dataset.parts, following)

    def _singles(self, result: BatchResult, cursor: Cursor) -> Iterator[Any]:
        """The samples of a batch, for batch_size=None."""
        process, total = os.getpid(), len(self.dataset)
        for _ in range(result.skipped):
            cursor.position = self._after(cursor.position)
        for sample in result.batch or ():
            cursor.position = min(total, self._after(cursor.position))
            yield sample
            check_process(process)
