"""Pixels as floats: ToTensor, Normalize, and both in one step. `recordio.transforms` names them for users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from recordio.arguments import describe, numbers
from recordio.errors import SchemaError
from recordio.format.fields import Field
from recordio.format.image_field import Image
from recordio.images.decode import Pixels
from recordio.images.pixels import to_planes
from recordio.images.transform import Transform, set_arguments

Floats = npt.NDArray[np.floating[Any]]

_FRACTIONS = np.arange(256, dtype=np.float32)[None] / np.float32(255)


@dataclass(frozen=True)
class ToTensor(Transform):
    """Divides each value by 255: float32 (C, H, W) in 0 to 1, a NumPy array for `torch.from_numpy`."""

    moves = False

    def _change(self, pixels: Pixels, rng: Any) -> Floats:
        return to_planes(pixels, _FRACTIONS)


@dataclass(frozen=True)
class Normalize(Transform):
    """(x - mean) / std of floats (C, H, W), in their own precision; `mean` and `std` have a number per channel.

    Compose fuses it with a ToTensor right before it, with bit-identical results.

        Compose([..., ToTensor(), Normalize.of(ds)])
    """

    mean: Any
    std: Any
    moves = False

    def __post_init__(self) -> None:
        set_arguments(self, mean=numbers("mean", self.mean), std=numbers("std", self.std))
        if len(self.mean) != len(self.std):
            raise SchemaError(f"mean has {len(self.mean)} numbers, but std {len(self.std)}")
        if any(abs(x) < 1e-30 for x in self.std):
            raise SchemaError(f"std divides, so it is not 0, but {self.std}")

    @classmethod
    def of(cls, dataset: Any, field: str | None = None) -> Self:
        """The one that gives a field of a dataset mean 0 and standard deviation 1: pictures in each channel.

        Taken from the statistics that the dataset has; where they do not say it, every sample is read once. They are
        those of the stored values, before any transform. Pictures and uint8 count as ToTensor gives them, from 0 to 1.

        Args:
            dataset: a ShardDataset or a view.
            field: its name; None for the only field of pictures.

        Raises SchemaError for a field that holds no numbers, or the same one everywhere.
        """
        name = field or _only_picture(dataset.schema)
        kind = dataset.schema.select([name])[name]
        found = (dataset.statistics or {}).get(name)
        if found is None or (isinstance(kind, Image) and found.channels is None):
            found = dataset.measure(name)[name]
        spread = found.channels or found.numbers
        if spread is None or spread.mean is None or spread.std is None:
            raise SchemaError(f"it has no numbers that have a mean: {kind}").at(field=name)
        scale = 255 if isinstance(kind, Image) or kind.dtype == np.uint8 else 1
        return cls(*(np.atleast_1d(one) / scale for one in (spread.mean, spread.std)))

    def _run(self, image: Any, rng: Any, mode: str) -> Floats:
        if not isinstance(image, np.ndarray) or image.dtype.kind != "f" or image.ndim != 3:
            raise SchemaError(f"Normalize takes floats (C, H, W), not {describe(image)}: put ToTensor() before it")
        self.check_channels(len(image))
        mean, std = (np.array(x, image.dtype).reshape(-1, 1, 1) for x in (self.mean, self.std))
        out: Floats = image - mean
        out /= std
        return out

    def check_channels(self, channels: int) -> None:
        if len(self.mean) not in (1, channels):
            raise SchemaError(f"mean and std have {len(self.mean)} numbers, but the image has {channels} channels")


class NormalizedTensor(Transform):
    """ToTensor and Normalize, fused."""

    moves = False

    def __init__(self, normalize: Normalize) -> None:
        mean, std = (np.array(x, np.float32).reshape(-1, 1) for x in (normalize.mean, normalize.std))
        self._normalize = normalize
        self._tables = (_FRACTIONS - mean) / std

    def _change(self, pixels: Pixels, rng: Any) -> Floats:
        self._normalize.check_channels(pixels.shape[2])
        return to_planes(pixels, self._tables)


def _only_picture(schema: Mapping[str, Field]) -> str:
    names = [name for name, kind in schema.items() if isinstance(kind, Image)]
    if len(names) != 1:
        raise SchemaError(f"field= says which field is meant: there are {', '.join(schema)}")
    return names[0]
