"""Memory that windows use one after the other."""

from __future__ import annotations

import gc
import weakref

import pytest

from recordio import StorageError
from recordio.reader.batches.memory import Arena, ArenaPool, arenas_of


def test_an_arena_grows_when_it_must_and_is_reused_otherwise() -> None:
    arena = Arena()
    first = arena.reserve(1)
    assert arena.reserve(len(first)) is first
    assert len(arena.reserve(len(first) + 1)) > len(first)
    assert len(Arena().reserve(0)) > 0


@pytest.mark.parametrize("nbytes", [1 << 60, 1 << 70])
def test_memory_that_the_system_refuses_is_a_storage_error(nbytes: int) -> None:
    with pytest.raises(StorageError, match="memory for a window"):
        Arena().reserve(nbytes)


def test_a_pool_reuses_arenas_but_keeps_only_a_few() -> None:
    pool = ArenaPool()
    taken = [pool.take() for _ in range(10)]
    assert len(set(map(id, taken))) == 10
    for arena in taken:
        pool.give_back(arena)
    again = [pool.take() for _ in range(10)]
    assert 0 < len(set(map(id, taken)) & set(map(id, again))) < 10
    assert len(set(map(id, again))) == 10


class _Dataset:
    """A key of the pools."""


def test_idle_arenas_are_freed_with_their_dataset() -> None:
    dataset, arena = _Dataset(), Arena()
    arenas_of(dataset).give_back(arena)
    assert arenas_of(dataset).take() is arena
    arenas_of(dataset).give_back(arena)
    freed = weakref.ref(arena)
    del dataset, arena
    gc.collect()
    assert freed() is None
