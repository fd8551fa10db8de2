"""Which of how many processes of a training job this one is."""

from __future__ import annotations

import os
import sys

from recordio.errors import SchemaError

_LAUNCHERS = (
    ("RANK", "WORLD_SIZE"),  # torchrun, Accelerate, DeepSpeed
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
)


def found_ranks() -> tuple[int, int]:
    """(rank, world size): from torch.distributed where it runs, else from the launcher's variables, else (0, 1).

    Raises SchemaError when the variables make no sense.
    """
    distributed = getattr(sys.modules.get("torch"), "distributed", None)  # imported by whoever uses it
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    for names in _LAUNCHERS:
        rank, world_size = map(os.environ.get, names)
        if rank is not None and world_size is not None:
            return checked_ranks(rank, world_size, told=" and ".join(names))
    return 0, 1


def checked_ranks(rank: object, world_size: object, told: str = "rank and world_size") -> tuple[int, int]:
    """The two as numbers. Raises SchemaError."""
    try:
        pair = int(str(rank)), int(str(world_size))
    except ValueError:
        pair = -1, 0
    if not 0 <= pair[0] < pair[1]:
        raise SchemaError(f"{told} are {rank!r} and {world_size!r}: expected integers, 0 <= rank < world size")
    return pair
