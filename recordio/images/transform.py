"""The base class of the built-in transforms, and checks of their arguments."""

from __future__ import annotations

import inspect
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from recordio.arguments import choice, flag
from recordio.errors import SchemaError
from recordio.images.decode import Pixels
from recordio.images.pixels import INTERPOLATIONS, as_pixels


class StepRandom(ABC):
    """The random numbers of one sample for a chain of steps: the built-in ones share a generator, functions do not.

    So a function that draws changes nothing for the steps after it: the flips of an image that is also given noise stay
    those of its mask.
    """

    __slots__ = ()

    @abstractmethod
    def random(self) -> float:
        """The next number of the built-in steps, in [0, 1)."""

    @abstractmethod
    def own(self, name: str) -> np.random.Generator:
        """A generator for one call of the function of this name."""


class Transform:
    """The base of the built-in transforms. Your own need no base class: Compose takes any callable."""

    moves = True  # pixels to other places; otherwise it changes values only

    @property
    def encoded(self) -> bool:
        """Whether it takes the bytes of an encoded image, so that it decodes only the part it needs."""
        return True

    @property
    def random(self) -> bool:
        """Whether it draws random numbers."""
        return False

    @property
    def calls(self) -> bool:
        """Whether it calls a function that is not built in."""
        return False

    def __call__(self, image: Any, rng: np.random.Generator | None = None) -> Any:
        """The transformed image. Raises SchemaError, DecodeError, MissingPackageError."""
        return self.apply(image, rng)

    def apply(self, image: Any, rng: np.random.Generator | StepRandom | None = None, mode: str = "RGB") -> Any:
        """Like calling it, but encoded bytes decode to `mode`: "RGB", "L" or "RGBA"."""
        if rng is None:
            rng = np.random.default_rng(random.getrandbits(64)) if self.random else None
        elif not isinstance(rng, np.random.Generator | StepRandom):
            raise SchemaError(f"rng is a numpy.random.Generator, not {type(rng).__name__}")
        return self._run(image, rng, mode)

    def for_mask(self) -> Transform | None:
        """The same step for the mask of an image: it moves pixels alike and blends none. None if it moves none."""
        return self if self.moves else None

    def _run(self, image: Any, rng: Any, mode: str) -> Any:
        return self._change(as_pixels(image, mode), rng)

    def _change(self, pixels: Pixels, rng: Any) -> Any:
        raise NotImplementedError


def takes_rng(function: Callable[..., Any]) -> bool:
    """Whether a callable accepts `rng=` by a parameter of this name that no partial has bound."""
    if isinstance(function, partial) and "rng" in function.keywords:
        return False
    try:
        parameter = inspect.signature(function).parameters.get("rng")
    except (TypeError, ValueError):  # some C functions have no signature
        return False
    return parameter is not None and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)


def function_name(function: Callable[..., Any]) -> str:
    """The name of a function within its module: the same in every process, also where that is `__main__`."""
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__qualname__", type(function).__qualname__))


@dataclass(frozen=True)
class FunctionStep(Transform):
    """A step that calls a function of the user with the result of the step before."""

    function: Callable[..., Any]
    takes_rng: bool
    calls = True
    moves = False

    @property
    def encoded(self) -> bool:
        return False

    @property
    def random(self) -> bool:
        return self.takes_rng

    def _run(self, image: Any, rng: Any, mode: str) -> Any:
        if not self.takes_rng:
            return self.function(image)
        return self.function(image, rng=rng.own(function_name(self.function)) if isinstance(rng, StepRandom) else rng)


def set_arguments(transform: Any, **values: Any) -> None:
    """Stores arguments in their plain form, so that equal transforms compare equal."""
    for name, value in values.items():
        object.__setattr__(transform, name, value)


def check_resampling(transform: Any) -> None:
    interpolation = getattr(transform.interpolation, "value", transform.interpolation)  # torchvision has an enum
    set_arguments(transform, interpolation=choice("interpolation", interpolation, INTERPOLATIONS))
    flag("antialias", transform.antialias)
