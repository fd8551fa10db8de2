"""Which epoch an iteration over an IterableDataset is: worker processes agree on it without a word from the loader."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import data

from recordio.determinism import key
from recordio.errors import SchemaError

_MOST_WORKERS = 1024
_TAG_BITS = 32
_MAIN = -1  # in place of torch's seed, for the process that has no workers


class Epochs:
    """Counts the iterations over a dataset, in memory that its copies in worker processes share.

    Torch tells a dataset nothing of epochs. Worker processes may be new ones each time, or the old ones, and one may be
    stopped before it has begun. But all workers of an iteration are given one number, `seed - id`, drawn by the loader,
    which becomes the iteration's tag: whoever finds no worker with this tag begins a new iteration, the others join it.

    The rows of the table are workers: the number of the last iteration and its tag in one int64, which is written at
    once; then torch's number, and how often the worker has met it in a row.
    """

    def __init__(self) -> None:
        self._rows = torch.zeros((_MOST_WORKERS, 3), dtype=torch.int64)
        # Iterations begun when an epoch was announced last, that epoch, and the number of announcements.
        self._announced = torch.zeros(3, dtype=torch.int64)
        self._loaded_at: tuple[int, int | None] = 0, None  # announcements and, in the main process, iterations begun
        self._share()

    def announce(self, epoch: int) -> None:
        """The epoch of the next iteration."""
        self._announced[0] = self._begun()
        self._announced[1] = epoch
        self._announced[2] += 1

    def load(self) -> None:
        """A state has been loaded: the next iteration continues it."""
        iterations = self._begun() if data.get_worker_info() is None else None
        self._loaded_at = int(self._announced[2]), iterations

    def upcoming(self, loaded: tuple[int, int] | None) -> tuple[int, int]:
        """The epoch and the position where the next iteration begins."""
        return self._place(self._begun() + 1, loaded)

    def begin(self, loaded: tuple[int, int] | None) -> tuple[int, int]:
        """Begins an iteration. Returns its epoch, and the position where it begins."""
        number = self._join()
        place = self._place(number, loaded)
        if loaded is not None and place == loaded:  # the same in all workers
            self._announced[0], self._announced[1] = number - 1, place[0]
        return place

    def _place(self, number: int, loaded: tuple[int, int] | None) -> tuple[int, int]:
        begun, epoch, announcements = self._announced.tolist()
        epoch += number - begun - 1
        announced, iterations = self._loaded_at
        if loaded is None or (iterations is not None and number != iterations + 1):
            return epoch, 0
        return loaded if announcements == announced or epoch == loaded[0] else (epoch, 0)

    def _begun(self) -> int:
        """The number of iterations begun so far."""
        return int(self._rows[:, 0].max()) >> _TAG_BITS

    def _join(self) -> int:
        """The number of the iteration that this process is in."""
        info: Any = data.get_worker_info()
        worker, seed = (0, _MAIN) if info is None else (info.id, info.seed - info.id)
        if worker >= _MOST_WORKERS:
            raise SchemaError(f"IterableShards is for {_MOST_WORKERS} workers at most")
        _, last, times = self._rows[worker].tolist()
        times = times + 1 if last == seed else 0
        tag = key(times, after=seed & (1 << 64) - 1) >> 64 - _TAG_BITS
        seen = [divmod(one, 1 << _TAG_BITS) for one in self._rows[:, 0].tolist() if one]  # at once: others write too
        number = max((n for n, its in seen if its == tag), default=max((n for n, _ in seen), default=0) + 1)
        self._rows[worker, 1], self._rows[worker, 2] = seed, times
        self._rows[worker, 0] = number << _TAG_BITS | tag
        return number

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._share()

    def _share(self) -> None:
        for table in (self._rows, self._announced):
            table.share_memory_()  # type: ignore[no-untyped-call]
