"""Attributes that are computed when they are asked for first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class lazy(Generic[T]):
    """What functools.cached_property has been since Python 3.12: it takes no lock.

    Before, a child that was forked in the meantime would find the lock taken for ever. Threads that ask at the same
    moment may compute the value more than once; all get the same.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> T:
        found: T = instance.__dict__.setdefault(self._name, self._compute(instance))
        return found
