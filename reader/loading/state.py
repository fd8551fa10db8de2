"""The state of a loader: small JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recordio.arguments import integer
from recordio.determinism import MASK
from recordio.errors import DatasetError, SchemaError
from recordio.format.checksum import digest
from recordio.reader.order.shuffle import OrderOptions
from recordio.reader.view import DatasetView

_VERSION = 1


def identity(
    dataset: DatasetView, order: OrderOptions, seed: int, weights: npt.NDArray[np.float64] | None, *, sampler: bool
) -> dict[str, Any]:
    """The entries of a state that a loader must share to continue from it."""
    shuffle: dict[str, Any] = {**window_identity(order), "unit_bytes": order.unit_bytes, "lanes": order.lanes}
    # States from before these options have no entries for them, and mean what they are by default.
    if order.pool_bytes:
        shuffle["pool_bytes"] = order.pool_bytes
    if order.lane_affinity:
        shuffle["lane_affinity"] = True
    quarantine = quarantine_digest(dataset)
    return {
        "version": _VERSION,
        **({} if quarantine is None else {"quarantine": quarantine}),
        "dataset": dataset.fingerprint,
        "samples": len(dataset),
        "seed": seed,
        "shuffle": shuffle if order.shuffle else None,
        "weights": None if weights is None else digest([weights.data]).hex(),
        "sampler": sampler,
    }


def window_identity(order: OrderOptions) -> dict[str, Any]:
    """The entry of a state for the window."""
    return {"window_samples": order.window} if order.window_samples else {"window_bytes": order.window}


def quarantine_digest(dataset: DatasetView) -> str | None:
    """What stands for the damaged blocks that a dataset leaves out; None if there are none."""
    found = [part.quarantine.digest if part.quarantine and part.quarantine.damaged else "" for part in dataset.parts]
    return digest(["\n".join(found).encode()]).hex() if any(found) else None


def check_state(state: Any, mine: dict[str, Any], *, adopts_seed: bool) -> None:
    """Raises DatasetError for the state of another dataset, SchemaError for one of other options or no state at all."""
    if not isinstance(state, dict) or state.get("version") != _VERSION:
        raise SchemaError(f"not the state of a loader of version {_VERSION}: {str(state)[:80]}")
    if state.get("quarantine") != mine.get("quarantine"):
        found = [one.get("quarantine") or "none" for one in (state, mine)]
        raise DatasetError(
            f"the state is of a run that left out other damaged blocks: its quarantine is {found[0]}, here it is "
            f"{found[1]}; open the dataset with the same on_damage and the same quarantine.json"
        )
    if adopts_seed:
        mine = mine | {"seed": integer("the state's seed", state.get("seed"), 0, MASK)}
    for name, value in ({"bins": None} | mine).items():  # a state of samples has no entry for bins
        if state.get(name) != value:
            error = DatasetError if name in ("dataset", "samples") else SchemaError
            raise error(f"the state is of another {name}: {state.get(name)!r}, this loader has {value!r}")
