"""Which part of a split each sample is in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.determinism import parts_of_permutation
from recordio.errors import SchemaError


def split_parts(n: int, fractions: Sequence[float], key: int) -> tuple[npt.NDArray[np.unsignedinteger[Any]], list[int]]:
    """(n,): the part of each of n samples, drawn by the key, and how many samples each part has.

    Samples that no fraction takes are in part len(fractions). Raises SchemaError for fractions that are none.
    """
    parts = list(fractions) if isinstance(fractions, Iterable) else []
    ends = np.cumsum([0.0, *parts])
    if not parts or min(parts) < 0 or not ends[-1] <= 1 + 1e-9:
        raise SchemaError(f"fractions are a list from 0 to 1 with a sum of 1 at most, not {fractions!r}")
    cuts = np.minimum(np.round(ends * n).astype(np.int64), n).tolist()
    return parts_of_permutation(n, key, cuts[1:]), [end - begin for begin, end in pairwise(cuts)]
