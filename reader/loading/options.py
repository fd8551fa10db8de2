"""The options of a loader: one table of names, types and defaults for all loaders.

`LoaderOptions` has the defaults and the checks; the argument classes declare the types of `**options` to type checkers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, TypedDict, TypeVar

import numpy.typing as npt

from recordio.arguments import choice, flag, integer
from recordio.determinism import MASK
from recordio.errors import SchemaError
from recordio.images.aspects import checked_buckets
from recordio.reader.columns import collate_as_torch
from recordio.reader.order.ranks import resolve_ranks
from recordio.reader.order.shuffle import LANES, OrderOptions

MAX_TOKENS = (1 << 31) - 1  # of a batch: cu_seqlens are int32
_MAX_TIMEOUT = 10**6  # seconds; the system cannot wait much longer

WorkerType = Literal["auto", "thread", "process"]
OnError = Literal["raise", "skip"]
OnOverlong = Literal["raise", "truncate", "split"]
PadValue = float | Mapping[str, float]
Function = TypeVar("Function", bound=Callable[..., Any])


class EpochArguments(TypedDict, total=False):
    """The samples of an epoch, their order, and the share of a rank."""

    on_error: OnError
    seed: int | None
    rank: int | None
    world_size: int | None
    ranks: Literal["auto"] | None
    window_bytes: int | None
    window_samples: int | None
    unit_bytes: int
    pool_bytes: int
    lanes: int
    lane_affinity: bool
    weights: npt.ArrayLike | None
    prefetch_bytes: int


class OwnArguments(EpochArguments, total=False):
    """The arguments that torch's loader lacks."""

    worker_type: WorkerType
    even_batches: bool
    batch_tokens: int | None
    sequence_length: int | None
    bucket_by: str | None
    buckets: Sequence[tuple[int, int]] | None
    on_overlong: OnOverlong
    pad_value: PadValue | None


class LoaderArguments(OwnArguments, total=False):
    """The keyword arguments of recordio.DataLoader."""

    sampler: Iterable[int] | None
    batch_sampler: Iterable[Sequence[int]] | None
    num_workers: int
    multiprocessing_context: Any
    persistent_workers: bool
    drop_last: bool
    collate_fn: Callable[[Any], Any] | None
    prefetch_factor: int
    in_order: bool
    timeout: float
    worker_init_fn: Callable[[int], Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions:
    """The options of a loader; see recordio.DataLoader. `order` follows from the others.

    Raises SchemaError.
    """

    batch_size: int | None = 1
    shuffle: bool = False
    sampler: Any = None
    batch_sampler: Any = None
    num_workers: int = 0
    worker_type: WorkerType = "auto"
    multiprocessing_context: Any = None
    persistent_workers: bool = False
    drop_last: bool = False
    even_batches: bool = True
    collate_fn: Callable[[Any], Any] | None = None
    prefetch_factor: int = 2
    in_order: bool = True
    timeout: float = 0
    worker_init_fn: Callable[[int], Any] | None = None
    on_error: OnError = "raise"
    seed: int | None = None
    rank: int | None = None
    world_size: int | None = None
    ranks: Literal["auto"] | None = None
    window_bytes: int | None = None
    window_samples: int | None = None
    unit_bytes: int = 1
    pool_bytes: int = 0
    lanes: int = LANES
    lane_affinity: bool = False
    weights: npt.ArrayLike | None = None
    prefetch_bytes: int = 512 << 20
    batch_tokens: int | None = None
    sequence_length: int | None = None
    bucket_by: str | None = None
    buckets: Any = None
    on_overlong: OnOverlong = "raise"
    pad_value: PadValue | None = None
    order: OrderOptions = field(init=False)

    def __post_init__(self) -> None:
        self._set("batch_size", integer("batch_size", self.batch_size, 1, optional=True))
        self._set("num_workers", integer("num_workers", self.num_workers, 0))
        self._set("prefetch_factor", integer("prefetch_factor", self.prefetch_factor, 1))
        self._set("prefetch_bytes", integer("prefetch_bytes", self.prefetch_bytes, 0))
        self._set("seed", integer("seed", self.seed, 0, MASK, optional=True))
        for name in ("batch_tokens", "sequence_length"):
            self._set(name, integer(name, getattr(self, name), 1, MAX_TOKENS, optional=True))
        if self.buckets is not None:
            self._set("buckets", checked_buckets(self.buckets))
        choice("on_error", self.on_error, ("raise", "skip"))
        choice("on_overlong", self.on_overlong, ("raise", "truncate", "split"))
        choice("worker_type", self.worker_type, ("auto", "thread", "process"))
        for name in ("persistent_workers", "even_batches", "in_order", "drop_last", "shuffle", "lane_affinity"):
            value = getattr(self, name)
            self._set(name, flag(name, bool(value) if value in (0, 1) else value))
        if not isinstance(self.timeout, (int, float)) or not 0 <= self.timeout <= _MAX_TIMEOUT:
            raise SchemaError(f"timeout is {self.timeout!r}: expected seconds, or 0 for none")
        if self.multiprocessing_context is not None:
            if self.worker_type == "thread":
                raise SchemaError("multiprocessing_context is for worker_type='process'")
            self._set("worker_type", "process")
        rank, world_size = resolve_ranks(self.rank, self.world_size, self.ranks)
        if self.rank is not None:
            self._set("ranks", None)
        self._set("rank", rank)
        self._set("world_size", world_size)
        self._set("order", self._order())

    def _order(self) -> OrderOptions:
        return OrderOptions(
            shuffle=bool(self.shuffle),
            window_bytes=self.window_bytes,
            window_samples=self.window_samples,
            unit_bytes=self.unit_bytes,
            pool_bytes=self.pool_bytes,
            lanes=self.lanes,
            lane_affinity=self.lane_affinity,
        )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def collates(self) -> bool:
        """Whether batches are made of the samples by a function of the user."""
        return self.collate_fn is not None and self.collate_fn is not collate_as_torch

    @property
    def has_bins(self) -> bool:
        """Whether the positions of an epoch count bins: batches by length, or packed rows."""
        return self.batch_tokens is not None or self.bucket_by is not None or self.sequence_length is not None

    @property
    def step(self) -> int:
        """How many positions of an epoch a batch takes: samples, packed rows, or one batch by length."""
        return 1 if self.has_bins and self.sequence_length is None else self.batch_size or 1

    @property
    def has_processes(self) -> bool:
        return self.num_workers > 0 and self.worker_type == "process"

    @property
    def ahead(self) -> int:
        """Batches made before they are asked for."""
        return self.num_workers * self.prefetch_factor


OWN_NAMES = OwnArguments.__optional_keys__
DEFAULTS: dict[str, Any] = {one.name: one.default for one in fields(LoaderOptions) if one.default is not MISSING}


def spelled_out(arguments: type) -> Callable[[Function], Function]:
    """Shows the options behind `**options` in the function's signature, for help() and for tools that inspect it."""
    optional: frozenset[str] = arguments.__optional_keys__  # type: ignore[attr-defined]

    def spell_out(function: Function) -> Function:
        given = inspect.signature(function)
        shown = [one for one in given.parameters.values() if one.kind is not one.VAR_KEYWORD]
        known = {one.name for one in shown}
        options = [name for name in DEFAULTS if name in optional and name not in known]
        keyword = inspect.Parameter.KEYWORD_ONLY
        more = [inspect.Parameter(name, keyword, default=DEFAULTS[name]) for name in options]
        function.__signature__ = given.replace(parameters=[*shown, *more])  # type: ignore[attr-defined]
        return function

    return spell_out
