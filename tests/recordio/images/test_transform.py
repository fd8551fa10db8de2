"""Which callables get the generator: those with a parameter named rng."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from recordio.transforms import RandomCrop, takes_rng


class Callables:
    def __call__(self, image: Any, rng: Any = None) -> Any:
        return image

    def method(self, image: Any, *, rng: Any) -> Any:
        return rng

    @staticmethod
    def positional(image: Any, rng: Any, /) -> Any:
        return rng

    @staticmethod
    def anything(image: Any, **options: Any) -> Any:
        return options


@pytest.mark.parametrize(
    ("function", "takes"),
    [
        (Callables(), True),
        (Callables().method, True),
        (Callables.positional, False),
        (Callables.anything, False),
        (lambda image, rng: image, True),
        (lambda image: image, False),
        (partial(Callables().method, rng=3), False),
        (partial(lambda size, image, rng: image, 3), True),
        (RandomCrop(3), True),
        (np.ascontiguousarray, False),
        (torch.nn.Identity(), False),
        (dict, False),
    ],
)
def test_takes_rng_finds_the_parameter(function: Callable[..., Any], takes: bool) -> None:
    assert takes_rng(function) is takes
