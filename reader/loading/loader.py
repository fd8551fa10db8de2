"""`DataLoader`: the batches of an epoch, in an order that is a pure function, from a position that a state holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from recordio.arguments import integer
from recordio.determinism import MASK, key
from recordio.errors import DatasetError, SchemaError
from recordio.format.checksum import digest
from recordio.format.page import Indices
from recordio.process_guard import interrupt_held
from recordio.reader.batches.maker import BatchMaker, Made
from recordio.reader.batches.page_table import MAPPED_NBYTES
from recordio.reader.combined import Combined
from recordio.reader.dataset import ShardDataset
from recordio.reader.loading.epoch_run import Engine
from recordio.reader.loading.options import LoaderOptions
from recordio.reader.order.mixing import Deal, drawn_by_weight, steps
from recordio.reader.order.ranks import checked_ranks, found_ranks
from recordio.reader.order.shuffle import LANES, SHUFFLE_WINDOW_BYTES, OrderOptions, Step, order_of
from recordio.reader.order.weights import SampledBatches, checked_weights

_STATE_VERSION = 1
_UNBATCHED = 256  # samples made at a time for batch_size=None


@dataclass(slots=True)
class Cursor:
    """Where a loader is: `position` samples of the epoch have been delivered, on all ranks together.

    With a sampler `position` counts batches, and `indices` is the digest of theirs; None if it is not known.
    """

    epoch: int = 0
    position: int = 0
    begun: bool = False
    indices: str | None = None


@dataclass
class LoaderStats:
    """What a loader has delivered since it was made. `errors` are the first reasons for skipping samples."""

    batches: int = 0
    samples: int = 0
    skipped: int = 0
    errors: list[str] = field(default_factory=list)

    def add(self, made: Made) -> None:
        self.batches += made.batch is not None
        self.samples += made.samples
        self.skipped += made.skipped
        if made.errors:
            self.errors += made.errors[: 10 - len(self.errors)]


class DataLoader:
    """Batches of a dataset, as dicts of columns.

    Every `iter()` is the next epoch, from 0, unless `set_epoch` says which. A shuffled epoch is a pure function of the
    dataset, the seed, the epoch and the window: neither the workers nor the ranks change what a global batch holds.

    Args:
        dataset: a ShardDataset or a view of one, a ConcatDataset or a Mixture.
        batch_size: samples a batch, on this rank; the last batch of an epoch may be smaller. None gives single samples.
        shuffle: mix the samples anew each epoch: blocks over the whole dataset, samples within windows of blocks.
        sampler: gives the indices of the samples instead, for every epoch anew; random access.
        batch_sampler: gives lists of indices, one a batch.
        num_workers: how many make batches ahead: gather, decode images, transform; with 0 the caller's thread does it.
        worker_type: "thread", or "process" for maps and transforms that hold the interpreter's lock.
        multiprocessing_context: how processes start: "fork", "forkserver", "spawn", or a context; as the system does it
            if None.
        persistent_workers: keep the workers from one epoch to the next.
        drop_last: leave out a last batch that is not full.
        even_batches: repeat the first samples at the end of an epoch, fewer than there are ranks, so that every rank
            gets equally many. Without it no sample is repeated, and a rank may get one sample, or batch, fewer.
        collate_fn: makes a batch of a list of samples; the columns of the samples if None.
        prefetch_factor: batches made ahead, for each worker.
        in_order: False hands batches over as they are done; such a loader has no state.
        timeout: seconds to wait for a worker's batch; 0 for ever.
        worker_init_fn: called with a worker's number when it begins. In a process the global generators of Python,
            NumPy and torch have been seeded before that, differently in each worker.
        on_error: "skip" leaves out samples that cannot be read, decoded or transformed; `stats` counts them. A batch of
            which nothing is left is left out too; with other ranks, which would then be a batch behind, it is an error,
            unless even_batches is false.
        seed: the seed of the order and of random transforms.
        rank, world_size: which of how many processes this is, each with a loader of its own that differs in `rank`.
        ranks: "auto" finds them: from torch.distributed where it runs, else from the launcher's variables.
        window_bytes: memory for mixing, for all ranks together: 256 MiB if None. Half of it is delivered while the
            other half is loaded; a dataset that fits in as a whole is shuffled uniformly.
        window_samples: how many samples are mixed at a time, instead.
        unit_bytes: permute runs of neighbouring blocks of at least that size: for storage that is slow at random reads.
        lanes: into how many shares a window is cut: a rank reads only its own if world_size divides it.
        weights: float64 (len(dataset),): how often a sample is drawn in an epoch, in proportion; see class_weights.

    Attributes:
        stats: what has been delivered and skipped so far.
    """

    def __init__(
        self,
        dataset: ShardDataset | Combined,
        batch_size: int | None = 1,
        shuffle: bool = False,
        *,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Sequence[int]] | None = None,
        num_workers: int = 0,
        worker_type: Literal["thread", "process"] = "thread",
        multiprocessing_context: Any = None,
        persistent_workers: bool = False,
        drop_last: bool = False,
        even_batches: bool = True,
        collate_fn: Callable[[Any], Any] | None = None,
        prefetch_factor: int = 2,
        in_order: bool = True,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        ranks: Literal["auto"] | None = None,
        window_bytes: int | None = None,
        window_samples: int | None = None,
        unit_bytes: int = 1,
        lanes: int = LANES,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        if not isinstance(dataset, (ShardDataset, Combined)):
            raise SchemaError(f"expected a ShardDataset, a ConcatDataset or a Mixture, got {type(dataset).__name__}")
        window_bytes = integer("window_bytes", window_bytes, 1, optional=True)
        window_samples = integer("window_samples", window_samples, 1, optional=True)
        unit_bytes, lanes = integer("unit_bytes", unit_bytes, 1), integer("lanes", lanes, 1)
        seed = integer("seed", seed, 0, MASK)
        self.dataset = dataset
        self.options = LoaderOptions(
            batch_size, drop_last, even_batches, num_workers, worker_type, multiprocessing_context, persistent_workers,
            prefetch_factor, in_order, timeout, worker_init_fn, on_error,
        )  # fmt: skip
        self.order = OrderOptions(shuffle, window_bytes, window_samples, unit_bytes, lanes)
        self.seed = seed
        self.rank, self.world_size = _ranks(rank, world_size, ranks)
        self.stats = LoaderStats()
        self._weights = _checked_weights(weights, self)
        self._sampler = _one_sampler(sampler, batch_sampler, self)
        self._collate_fn = collate_fn
        self._cursor = Cursor()
        # What persistent workers wait in for the next epoch, and the dataset that they know.
        self._idle: tuple[Engine, ShardDataset | Combined] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy of a loader has workers of its own, and goes on by itself."""
        return {**self.__dict__, "_idle": None, "_cursor": replace(self._cursor)}

    def __len__(self) -> int:
        """Batches of a whole epoch, on this rank."""
        if self._sampler is not None:
            return len(self._sampler)
        return -(-len(self._deal(0)) // (self.options.batch_size or 1))

    def __iter__(self) -> Iterator[Any]:
        """The next epoch, or the rest of one whose state was loaded."""
        last = self._cursor
        self._cursor = cursor = Cursor(last.epoch + 1) if last.begun else replace(last)
        if self._sampler is not None and (epoch := self._sampler.begin(cursor.epoch)) != cursor.epoch:
            self._cursor = Cursor(epoch)
        self._cursor.begun = True
        return self._delivered(self._cursor)

    def indices(self) -> Iterator[list[int]]:
        """The indices of the samples of each batch, where `iter()` would give the batches: for other people's loaders.

        Raises SchemaError when indices cannot say what this loader delivers.
        """
        if self._sampler is not None or not isinstance(self.dataset, ShardDataset):
            raise SchemaError("only a loader of a ShardDataset without a sampler has an order of indices")
        if self.options.on_error == "skip" or self.world_size > 1:
            raise SchemaError(
                "another loader that is built from this one's order would lose on_error='skip', rank and world_size: "
                "iterate over this loader itself (with accelerate: do not prepare() it), or leave these options out"
            )
        last, size = self._cursor, self.options.batch_size or 1
        cursor = self._cursor = Cursor(last.epoch + 1) if last.begun else replace(last)
        cursor.begun = True
        word, waiting = key(self.seed, cursor.epoch), np.zeros(0, np.int64)
        drawn = None if self._weights is None else drawn_by_weight(self._weights, word)
        for step in self._plan(word, self._deal(cursor.position))[0][0]:
            waiting = np.concatenate([waiting, step.index if drawn is None else drawn[step.index]])
            whole = len(waiting) - len(waiting) % size
            yield from waiting[:whole].reshape(-1, size).tolist()
            waiting = waiting[whole:]
        if len(waiting):
            yield waiting.tolist()

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
        ended = self._has_ended(cursor.position) and cursor.position > 0
        epoch, position = (cursor.epoch + 1, 0) if ended else (cursor.epoch, cursor.position)
        state = {"version": _STATE_VERSION, **self._identity(), "epoch": epoch, "position": position}
        return state | {"indices": cursor.indices} if self._sampler is not None else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next `iter()` continues where the state was taken.

        Raises DatasetError for the state of another dataset, SchemaError for one of other options or no state at all.
        """
        if not isinstance(state, dict) or state.get("version") != _STATE_VERSION:
            raise SchemaError(f"not the state of a loader of version {_STATE_VERSION}: {str(state)[:80]}")
        for name, mine in self._identity().items():
            if state.get(name) != mine:
                error = DatasetError if name in ("dataset", "samples") else SchemaError
                raise error(f"the state is of another {name}: {state.get(name)!r}, this loader has {mine!r}")
        epoch = integer("the state's epoch", state.get("epoch"), 0)
        position = integer("the state's position", state.get("position"), 0)
        if position > len(self.dataset) and self._sampler is None:
            raise SchemaError(f"the state's position is {position}, of {len(self.dataset)} samples")
        self._cursor = Cursor(epoch, position, indices=state.get("indices"))
        if self._sampler is not None:
            self._sampler.set_epoch(epoch)

    def _identity(self) -> dict[str, Any]:
        """What a state and a loader must have in common."""
        order = self.order
        window = {"window_samples": order.window} if order.window_samples else {"window_bytes": order.window}
        shuffle = {**window, "unit_bytes": order.unit_bytes, "lanes": order.lanes} if order.shuffle else None
        return {
            "dataset": self.dataset.fingerprint,
            "samples": len(self.dataset),
            "seed": self.seed,
            "shuffle": shuffle,
            "weights": None if self._weights is None else digest([self._weights.data]).hex(),
            "sampler": self._sampler is not None,
        }

    def _deal(self, start: int) -> Deal:
        options = self.options
        size = options.batch_size or 1
        return Deal.of(self.rank, self.world_size, start, len(self.dataset), size,
                       drop_last=options.drop_last, even=options.even_batches)  # fmt: skip

    def _has_ended(self, position: int) -> bool:
        """Whether no rank has a batch left."""
        if self._sampler is not None:
            return False
        least = (self.options.batch_size or 1) * self.world_size if self.options.drop_last else 1
        return len(self.dataset) - position < least

    def _delivered(self, cursor: Cursor) -> Iterator[Any]:
        """Hands over what is made, and counts it."""
        process, unit, total = os.getpid(), self.world_size, len(self.dataset)
        batches = self._made(replace(cursor))
        while (made := next(batches, None)) is not None:
            self.stats.add(made)
            if self.options.batch_size is None and self._sampler is None:
                cursor.position += made.skipped * unit
                for sample in made.batch or ():
                    cursor.position = min(total, cursor.position + unit)
                    yield sample
                    _check_process(process)
                continue
            if self._sampler is not None:
                cursor.position += 1
                cursor.indices = self._sampler.delivered()
            else:
                cursor.position = min(total, cursor.position + (self.options.batch_size or 1) * unit)
            if made.batch is not None:
                yield made.batch
                _check_process(process)
            elif self.world_size > 1 and self.options.even_batches:
                raise _out_of_step(made, self.rank)
            del made
        cursor.epoch, cursor.position, cursor.begun, cursor.indices = cursor.epoch + 1, 0, False, None

    def _made(self, start: Cursor) -> Iterator[Made]:
        """What is left of an epoch from a position on."""
        word = key(self.seed, start.epoch)
        engine, dataset = self._engine(word), self.dataset
        reusable = dropped = False
        try:
            if self._sampler is not None:
                yield from engine.indexed(self._sampler.batches(start.position, start.indices), word)
            else:
                deal = self._deal(start.position)
                plans, turns = self._plan(word, deal)
                single = 1 if self.options.on_error == "skip" else _UNBATCHED
                yield from engine.gathered(plans, turns, len(deal), self.options.batch_size or single)
            reusable = True
        except GeneratorExit:
            reusable = dropped = True
            raise
        finally:
            with interrupt_held(in_finalizer=dropped):
                if reusable and self.options.persistent_workers and self._idle is None and engine.rest():
                    self._idle = engine, dataset
                else:
                    engine.close()

    def _engine(self, word: int) -> Engine:
        """The one that waits, unless it is of another process or another dataset; else a new one."""
        idle, self._idle = self._idle, None
        if idle is not None and idle[0].is_ours:
            if idle[1] is self.dataset:
                return idle[0]
            idle[0].close()
        return self._new_engine(word)

    def _new_engine(self, word: int) -> Engine:
        options, by_index = self.options, self._sampler is not None
        found = self.dataset.datasets if isinstance(self.dataset, Combined) else (self.dataset,)
        make = BatchMaker(
            found if by_index else [dataset[:0] for dataset in found],  # the jobs name the samples: less to send
            collate_fn=self._collate_fn,
            unbatched=options.batch_size is None and not by_index,
            skip=options.on_error == "skip",
        )
        return Engine(make, options, word, MAPPED_NBYTES + (self.order.window_bytes or SHUFFLE_WINDOW_BYTES))

    def _plan(self, word: int, deal: Deal) -> tuple[Sequence[Iterator[Step]], Iterator[Indices] | None]:
        """The steps of each dataset, and whose turn it is at each place."""
        if isinstance(self.dataset, Combined):
            return self.dataset.plan(self.order, word, deal)
        numbers = self.dataset.numbers
        if self._weights is not None:
            numbers = self.dataset.resolve(drawn_by_weight(self._weights, word))
        return [steps(order_of(self.dataset.store.blocks, numbers, self.order, word), deal)], None


def _out_of_step(made: Made, rank: int) -> DatasetError:
    """Ranks that do not give equally many batches wait for each other for ever, without a word."""
    return DatasetError(
        f"rank {rank} has nothing left of a batch, and would be a batch ahead of the other ranks: {made.errors[0]}; "
        "shuffle or use larger batches to leave something, or even_batches=False to let ranks differ"
    )


def _check_process(process: int) -> None:
    if os.getpid() != process:
        raise DatasetError("this iterator belongs to the process that this one was forked from; call iter() anew")


def _ranks(rank: int | None, world_size: int | None, ranks: Literal["auto"] | None) -> tuple[int, int]:
    if ranks not in (None, "auto"):
        raise SchemaError(f"unknown ranks {ranks!r}: expected 'auto' or None")
    if ranks == "auto" and rank is None and world_size is None:
        return found_ranks()
    if (rank is None) != (world_size is None):
        raise SchemaError("rank and world_size belong together: give both, or ranks='auto'")
    return checked_ranks(rank or 0, 1 if world_size is None else world_size)


def _checked_weights(weights: npt.ArrayLike | None, loader: DataLoader) -> npt.NDArray[np.float64] | None:
    if weights is None:
        return None
    if not isinstance(loader.dataset, ShardDataset) or not loader.order.shuffle:
        raise SchemaError("weights need a ShardDataset and shuffle=True")
    return checked_weights(weights, len(loader.dataset))


def _one_sampler(sampler: Any, batch_sampler: Any, loader: DataLoader) -> SampledBatches | None:
    """What gives the indices of each batch, if anything does."""
    if sampler is None and batch_sampler is None:
        return None
    if sampler is not None and batch_sampler is not None:
        raise SchemaError("give a sampler or a batch_sampler, not both")
    if isinstance(loader.dataset, Combined):
        raise SchemaError("a sampler needs a ShardDataset")
    if loader.order.shuffle or loader._weights is not None or loader.world_size > 1:
        raise SchemaError("a sampler decides on the order by itself: without shuffle, weights, rank and world_size")
    return SampledBatches(sampler, batch_sampler, loader.options.batch_size or 1, loader.options.drop_last)
